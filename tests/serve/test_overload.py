"""More than the engine can take: who is refused, how, and what stays well."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hub.home import Home
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


@pytest.fixture
async def small(home: Home, settings: Settings) -> AsyncIterator[Gateway]:
    """Two at the engine, three waiting."""
    settings = replace(settings, max_running=2, max_waiting=3, request_timeout_s=20)
    async with running(home, settings, make_engines(home, settings)) as gateway:
        yield gateway


async def test_more_than_may_wait_get_429_and_when_to_ask_again(
    small: Gateway, double: EngineDouble
) -> None:
    """In OpenAI's shape with Retry-After; those who wait are answered; none of it is logged."""
    double.hold.clear()
    asking = [asyncio.create_task(small.chat("base")) for _ in range(9)]
    await until(lambda: sum(task.done() for task in asking) == 4)
    await until(lambda: len(double.asked) == 2)
    double.hold.set()
    answers = await asyncio.gather(*asking)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 4
    for answer in refused:
        assert answer.json()["error"]["code"] == "overloaded"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert int(answer.headers["retry-after"]) >= 1
    assert [entry.status for entry in small.logged()] == ["complete"] * 5


async def test_one_hot_adapter_does_not_starve_another(
    small: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The queue is full of one adapter's requests; another's is let in, and served before them."""
    hot, cold = published("hot"), published("cold")
    await small.chat("cold"), await small.chat("hot")
    double.asked.clear()
    double.hold.clear()
    flood = [asyncio.create_task(small.chat("hot")) for _ in range(5)]
    await until(lambda: len(double.asked) == 2)
    late = asyncio.create_task(small.chat("cold"))
    await until(lambda: sum(task.done() for task in flood) == 1)
    double.hold.set()
    assert (await late).status_code == 200
    statuses = [answer.status_code for answer in await asyncio.gather(*flood)]
    assert sorted(statuses) == [200] * 4 + [429]
    assert [asked["model"] for asked in double.asked][2] == cold.engine_name
    assert {asked["model"] for asked in double.asked} == {hot.engine_name, cold.engine_name}


async def test_who_leaves_the_queue_makes_room(small: Gateway, double: EngineDouble) -> None:
    """A client that goes away while it waits never reaches the engine."""
    double.hold.clear()
    asking = [asyncio.create_task(small.chat("base")) for _ in range(5)]
    await until(lambda: len(double.asked) == 2)
    for task in asking[2:]:
        task.cancel()
    entries = await small.logged_soon(3)
    assert {entry.status for entry in entries} == {"incomplete"}
    double.hold.set()
    await asyncio.gather(*asking[:2])
    assert (await small.chat("base")).status_code == 200
    assert len(double.asked) == 3


async def test_a_request_that_begins_no_answer_in_time_gets_504(
    home: Home, settings: Settings, double: EngineDouble
) -> None:
    """At the engine or still waiting for its turn; and its turn goes to the next."""
    settings = replace(settings, max_running=1, request_timeout_s=0.3)
    async with running(home, settings, make_engines(home, settings)) as gateway:
        double.hold.clear()
        answers = await asyncio.gather(*(gateway.chat("base") for _ in range(3)))
        double.hold.set()
        assert [answer.status_code for answer in answers] == [504] * 3
        assert answers[1].json()["error"]["code"] == "deadline_exceeded"
        assert (await gateway.chat("base")).status_code == 200
        assert [entry.status for entry in gateway.logged()] == ["complete"] + ["failed"] * 3


async def test_a_stream_holds_its_turn_until_it_ends(small: Gateway, double: EngineDouble) -> None:
    """Not only until it begins: two streams are all that this engine has."""
    double.hold.clear()
    streams = [asyncio.create_task(small.chat("base", stream=True)) for _ in range(3)]
    await until(lambda: double.streaming == 2)
    await asyncio.sleep(0.1)
    await until(lambda: len(double.asked) == 2)
    double.hold.set()
    assert [answer.status_code for answer in await asyncio.gather(*streams)] == [200] * 3
