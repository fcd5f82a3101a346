"""Turns are bounded, shared fairly, and never lost."""

import asyncio
import random

import pytest

from hub.errors import Overloaded
from serve.placement.turns import Turn, Turns

HOT, COLD, OTHER = ("hot",), ("cold",), ("other",)


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_so_many_run_and_the_others_wait_in_order() -> None:
    """Within one lane: first come, first served."""
    turns = Turns(running=2, waiting=10)
    first, second = await turns.take(HOT), await turns.take(HOT)
    order: list[int] = []

    async def ask(number: int) -> None:
        turn = await turns.take(HOT)
        order.append(number)
        turn.release()

    waiting = [asyncio.create_task(ask(number)) for number in range(5)]
    await _settle()
    assert (turns.running, turns.waiting, order) == (2, 5, [])
    first.release()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]
    first.release()  # again: nothing
    assert turns.running == 1
    second.release()
    assert (turns.running, turns.waiting) == (0, 0)


async def test_a_hot_lane_starves_nobody() -> None:
    """A hundred wait in one lane; who comes later in another gets the next turn that ends."""
    turns = Turns(running=4, waiting=1000)
    running = [await turns.take(HOT) for _ in range(4)]
    flood = [asyncio.create_task(turns.take(HOT)) for _ in range(100)]
    await _settle()
    late = [asyncio.create_task(turns.take(lane)) for lane in (COLD, OTHER)]
    await _settle()
    running.pop().release()
    running.pop().release()
    await _settle()
    assert all(task.done() for task in late)
    assert not any(task.done() for task in flood)
    for task in flood:
        task.cancel()


async def test_with_one_turn_lanes_alternate() -> None:
    """Nobody runs then, so it is the rotation that is fair: a b a b, not a a a a b."""
    turns = Turns(running=1, waiting=100)
    holding = await turns.take(HOT)
    order: list[str] = []

    async def ask(lane: tuple[str, ...]) -> None:
        turn = await turns.take(lane)
        order.append(lane[0])
        await asyncio.sleep(0)
        turn.release()

    tasks = [asyncio.create_task(ask(lane)) for lane in [HOT] * 6 + [COLD] * 3]
    await _settle()
    holding.release()
    await asyncio.gather(*tasks)
    assert order == ["hot", "cold"] * 3 + ["hot"] * 3


async def test_a_full_queue_refuses_who_fills_it() -> None:
    """The flood's newest is refused to let another lane wait, and so is the flood's next."""
    turns = Turns(running=1, waiting=4)
    holding = await turns.take(HOT)
    flood = [asyncio.create_task(turns.take(HOT)) for _ in range(4)]
    await _settle()
    with pytest.raises(Overloaded) as refused:
        await turns.take(HOT)
    assert refused.value.status == 429
    assert refused.value.retry_after_s >= 1
    polite = asyncio.create_task(turns.take(COLD))
    await _settle()
    assert [task.done() for task in flood] == [False, False, False, True]
    assert isinstance(flood[3].exception(), Overloaded)
    assert (turns.waiting, turns.refused) == (4, 2)
    holding.release()
    await _settle()
    assert polite.done() != flood[0].done()
    for task in [*flood[:3], polite]:
        task.cancel()


async def test_keys_come_before_adapters() -> None:
    """Lanes of two levels: a key with many adapters is one of two keys, not one of many lanes."""
    turns = Turns(running=2, waiting=6)
    running = [await turns.take(("big", name)) for name in "ab"]
    big = [asyncio.create_task(turns.take(("big", name))) for name in "cdefgh"]
    await _settle()
    small = asyncio.create_task(turns.take(("small", "x")))
    await _settle()
    assert sum(task.done() for task in big) == 1  # one of the big key's was refused for it
    running.pop().release()
    await _settle()
    assert small.done()
    for task in big:
        task.cancel()


async def test_whatever_is_cancelled_no_turn_is_lost() -> None:
    """Thousands of requests that end, give up or are refused at random: all comes back to zero."""
    draw = random.Random(7)
    turns = Turns(running=3, waiting=5)
    most = 0

    async def ask() -> None:
        nonlocal most
        try:
            turn: Turn = await turns.take((f"lane {draw.randrange(5)}",))
        except Overloaded:
            return
        most = max(most, turns.running)
        try:
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
        finally:
            turn.release()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(3000):
        tasks.append(asyncio.create_task(ask()))
        if draw.random() < 0.5:
            draw.choice(tasks[-15:]).cancel()
        if draw.random() < 0.6:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert turns.refused
    assert (turns.running, turns.waiting) == (0, 0)
    assert not turns._lines
    assert not turns._running_in
    assert not turns._waiting_in
