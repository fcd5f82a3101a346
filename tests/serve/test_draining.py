"""Unloading waits for those who use it, pins hold, and only so many versions run at once."""

import asyncio
from dataclasses import replace

import pytest

from hub.errors import Conflict, EngineError
from hub.home import Home
from hub.leases import leased
from serve.placement.residency import Residency
from serve.placement.slots import SlotState
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


def states(residency: Residency) -> dict[str, SlotState]:
    return {resident.version: resident.state for resident in residency.residents()}


async def test_unloading_waits_for_a_stream_and_whoever_comes_meanwhile_loads_anew(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The stream ends whole, then the adapter goes, and the request that waited loads it again."""
    version = published("support")
    double.hold.clear()
    stream = asyncio.create_task(gateway.stream("support"))
    await until(lambda: double.streaming)
    unloading = asyncio.create_task(gateway.residency.unload(version))
    await until(lambda: states(gateway.residency)["support@1"] is SlotState.DRAINING)
    later = asyncio.create_task(gateway.chat("support"))
    await asyncio.sleep(0.1)
    assert not unloading.done()
    assert double.unloads == []
    assert len(double.asked) == 1
    double.hold.set()
    assert (await stream).endswith(b"data: [DONE]\n\n")
    assert await unloading
    assert (await later).status_code == 200
    assert double.unloads == [version.engine_name]
    assert double.loads == [version.engine_name] * 2


async def test_unloading_lets_go_of_the_folder(
    gateway: Gateway, published: Publish, home: Home
) -> None:
    """`hub gc` may take it then; what is not there is no error."""
    version = published("support")
    await gateway.chat("support")
    assert leased(home) == {version.digest}
    assert await gateway.residency.unload(version)
    assert leased(home) == set()
    assert not await gateway.residency.unload(version)


async def test_a_load_under_way_is_waited_for(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Unloading what is just being loaded ends with it gone and its first request answered."""
    version = published("support")
    double.load_delay = 0.2
    first = asyncio.create_task(gateway.chat("support"))
    await until(lambda: double.loads)
    assert await gateway.residency.unload(version)
    assert (await first).status_code == 200
    assert double.loaded == {}


async def test_an_engine_that_dies_while_one_is_drained_ends_the_waiting(
    gateway: Gateway, published: Publish, double: EngineDouble, home: Home
) -> None:
    """The stream is cut, the unload returns, and the version is to be had in the next life."""
    version = published("support")
    double.hold.clear()
    stream = asyncio.create_task(gateway.stream("support"))
    await until(lambda: double.streaming)
    unloading = asyncio.create_task(gateway.residency.unload(version))
    await until(lambda: states(gateway.residency)["support@1"] is SlotState.DRAINING)
    double.health = 503
    assert b"engine_interrupted" in await stream
    assert await unloading
    double.hold.set()
    double.restart()
    assert (await gateway.chat("support")).status_code == 200
    assert leased(home) == {version.digest}


async def test_a_pinned_version_is_neither_unloaded_nor_evicted(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Three slots, one of them pinned and idle: six other adapters come and go through two."""
    pinned = published("pinned")
    await gateway.chat("pinned")
    assert await gateway.parts.warmth.pin("pinned") == (pinned, [gateway.engine.name])
    with pytest.raises(Conflict, match="pinned@1 is pinned"):
        await gateway.residency.unload(pinned)
    for number in range(6):
        published(f"other-{number}")
        assert (await gateway.chat(f"other-{number}")).status_code == 200
        assert len(double.loaded) <= 3
    assert pinned.engine_name not in double.unloads


async def test_an_engine_that_refuses_to_unload_says_so(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """The reason reaches whoever asked, and the next request for it is answered all the same."""
    version = published("support")
    await gateway.chat("support")
    double.unload_refusal = "not today"
    with pytest.raises(EngineError, match="not today"):
        await gateway.residency.unload(version)
    double.unload_refusal = None
    assert (await gateway.chat("support")).status_code == 200


async def test_no_more_versions_run_at_once_than_the_engine_batches(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """max_loras 2: with two versions streaming a third waits, loaded; the base never does."""
    for name in ("one", "two", "three"):
        published(name)
    double.hold.clear()
    streams = [asyncio.create_task(gateway.stream(name)) for name in ("one", "two")]
    await until(lambda: double.streaming == 2)
    third = asyncio.create_task(gateway.chat("three"))
    await until(lambda: states(gateway.residency).get("three@1") is SlotState.LOADED)
    base = asyncio.create_task(gateway.stream("base"))
    await until(lambda: double.streaming == 3 and gateway.residency.batch.waiting == 1)
    assert not any("three" in asked["model"] for asked in double.asked)
    double.hold.set()
    await asyncio.gather(*streams, base)
    assert (await third).status_code == 200
    assert (gateway.residency.batch.used, gateway.residency.batch.waiting) == (0, 0)


async def test_a_busy_adapter_does_not_starve_another(
    home: Home, settings: Settings, published: Publish, double: EngineDouble
) -> None:
    """One place, and one adapter with four requests running at any time: the other is answered."""
    one = replace(settings, max_loras=1, max_cpu_loras=2)
    published("hot")
    published("cold")
    double.token_delay = 0.02
    async with running(home, one, make_engines(home, one)) as gateway:
        stop = asyncio.Event()

        async def busy() -> None:
            while not stop.is_set():
                assert (await gateway.chat("hot")).status_code == 200

        clients = [asyncio.create_task(busy()) for _ in range(4)]
        await until(lambda: double.asked)
        assert (await gateway.chat("cold")).status_code == 200
        stop.set()
        await asyncio.gather(*clients)
