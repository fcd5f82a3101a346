"""Never more versions at once than the engine can run together, and nobody waits for ever."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.placement.places import Places

QUANTUM_S = 0.5


class World:
    """Requests as tasks, time as a number: what they do is done before the next step."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0.0
        self.places = Places(lambda: self.limit, quantum_s=QUANTUM_S, clock=lambda: self.now)
        self.inside: list[str] = []
        self.waiting: list[tuple[str, asyncio.Task[None]]] = []
        self.served = 0

    async def arrive(self, key: str) -> asyncio.Task[None]:
        task = asyncio.create_task(self._enter(key))
        self.waiting.append((key, task))
        await self.settle()
        return task

    async def _enter(self, key: str) -> None:
        await self.places.enter(key)
        self.inside.append(key)
        self.served += 1

    async def end(self, index: int) -> None:
        self.places.leave(self.inside.pop(index))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        self.waiting = [(key, task) for key, task in self.waiting if not task.done()]
        self.check()

    def check(self) -> None:
        distinct = set(self.inside)
        assert len(distinct) == self.places.used
        outside = {key for key, _ in self.waiting} - distinct
        assert self.places.waiting == len(outside)
        # A place is never free while a version without one waits.
        assert not outside or len(distinct) >= self.limit

    async def empty(self) -> None:
        """Whatever was begun ends, and nobody new comes."""
        while self.inside or self.waiting:
            assert self.inside
            await self.end(0)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(0, 6)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("pass"), st.sampled_from([1, 3, 10])),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(limit=st.integers(1, 4), steps=STEPS)
def test_never_more_than_the_limit_and_everybody_is_served(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    """Any order of arrivals, ends and cancellations: at most `limit` versions are inside, no place
    stays free while a version waits, and in the end each who did not give up had its turn."""

    async def work() -> None:
        world = World(limit)
        arrived = cancelled = 0
        for step, value in steps:
            if step == "arrive":
                await world.arrive(f"v{value}")
                arrived += 1
            elif step == "end" and world.inside:
                await world.end(value % len(world.inside))
            elif step == "cancel" and world.waiting:
                world.waiting[value % len(world.waiting)][1].cancel()
                cancelled += 1
                await world.settle()
            elif step == "pass":
                world.now += value / 10
            assert len(set(world.inside)) <= limit
        await world.empty()
        assert world.served == arrived - cancelled
        assert (world.places.used, world.places.waiting) == (0, 0)

    run(work)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 3),
    hot=st.integers(1, 4),
    cold=st.integers(1, 5),
    length=st.integers(1, 8),
)
def test_hot_versions_that_never_pause_starve_nobody(
    limit: int, hot: int, cold: int, length: int
) -> None:
    """`hot` versions always ask for more before their last request has ended. Each cold one is in
    within a quantum and a request's length for each version before it."""

    async def work() -> None:
        world = World(limit)
        step_s = 0.1
        ends: list[tuple[float, str]] = []
        began: Counter[str] = Counter()
        cold_keys = [f"cold-{number}" for number in range(cold)]
        turn_s = QUANTUM_S + (length + 1) * step_s
        bound_s = turn_s * (hot + cold + 1)
        while not all(began[key] for key in cold_keys):
            assert world.now < 2 + bound_s
            for number in range(hot):
                await world.arrive(f"hot-{number}")
            if abs(world.now - 2) < step_s / 2:
                for key in cold_keys:
                    await world.arrive(key)
            # Those that came in since the last step run for `length` steps.
            running = Counter(key for _, key in ends)
            for key, count in Counter(world.inside).items():
                began[key] += count - running[key]
                ends += [(world.now + length * step_s, key)] * (count - running[key])
            world.now += step_s
            for at, key in [entry for entry in ends if entry[0] <= world.now + 1e-9]:
                ends.remove((at, key))
                await world.end(world.inside.index(key))
        for _, task in world.waiting:
            task.cancel()
        await world.settle()

    run(work)


async def test_a_version_that_is_inside_is_let_in_at_once_until_its_quantum_is_over() -> None:
    """Within it others wait; after it the version itself does, behind them."""
    world = World(1)
    await world.arrive("hot")
    await world.arrive("cold")
    await world.arrive("hot")
    assert world.inside == ["hot", "hot"]
    world.now = QUANTUM_S
    await world.arrive("hot")
    await world.arrive("hot")
    assert world.inside == ["hot", "hot"]
    await world.end(0)
    await world.end(0)
    assert world.inside == ["cold"]
    await world.end(0)
    assert world.inside == ["hot", "hot"]


async def test_only_as_many_are_closed_as_wait() -> None:
    """One version waits: one of three that are over their quantum is closed, the others go on."""
    world = World(3)
    for key in ("a", "b", "c"):
        await world.arrive(key)
    world.now = 10
    await world.arrive("d")
    for key in ("a", "b", "c", "a"):
        await world.arrive(key)
    assert Counter(world.inside) == {"a": 1, "b": 2, "c": 2}


async def test_one_that_gives_up_opens_what_was_closed_for_it() -> None:
    """The version that was closed for it goes on at once."""
    world = World(1)
    await world.arrive("hot")
    world.now = 10
    cold = await world.arrive("cold")
    await world.arrive("hot")
    assert world.inside == ["hot"]
    cold.cancel()
    await world.settle()
    assert world.inside == ["hot", "hot"]


async def test_one_that_is_cancelled_as_it_comes_in_gives_its_place_on() -> None:
    """The place was given and the request cancelled in the same turn of the loop."""
    world = World(1)
    await world.arrive("a")
    task = await world.arrive("b")
    await world.arrive("c")
    world.places.leave(world.inside.pop())
    task.cancel()
    await world.settle()
    assert world.inside == ["c"]
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_more_places_are_given_at_once() -> None:
    """The limit grows while versions wait."""
    world = World(1)
    for key in ("a", "b", "c"):
        await world.arrive(key)
    world.limit = 2
    world.places.look()
    await world.settle()
    assert world.inside == ["a", "b"]
