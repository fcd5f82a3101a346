"""Engines that call themselves healthy and are not, and what must not stop the watch over them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hub.home import Home
from hub.records import Version
from serve.engines import remote
from serve.engines.base import EngineState
from serve.engines.client import EngineClient
from serve.engines.supervisor import Launch, SupervisedEngine
from serve.placement.breaker import OPENS_AT
from serve.placement.lazy_residency import LazyResidency
from serve.run import engine_log, make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble


@asynccontextmanager
async def _impatient(home: Home, settings: Settings) -> AsyncIterator[Gateway]:
    settings = replace(settings, request_timeout_s=0.2)
    async with running(home, settings, make_engines(home, settings)) as gateway:
        yield gateway


async def test_the_only_engine_is_tried_again_by_the_request_that_opened_its_circuit(
    gateway: Gateway, double: EngineDouble
) -> None:
    """Nobody else asks: its own third try is the trial, and it is answered."""
    double.faults = ["unavailable"] * 3
    assert (await gateway.chat("base")).status_code == 503
    double.faults = ["unavailable"] * 2
    assert (await gateway.chat("base")).status_code == 200
    breaker = gateway.parts.fleet.members[0].breaker
    assert (breaker.openings, breaker.is_closed) == (1, True)


async def test_streams_that_always_break_leave_an_engine_out(
    gateway: Gateway, double: EngineDouble
) -> None:
    """Each begins well, one after the other; a whole one begins the count anew."""
    breaker = gateway.parts.fleet.members[0].breaker
    double.faults = ["cut"] * (OPENS_AT - 1)
    for _ in range(OPENS_AT - 1):
        assert b"engine_interrupted" in await gateway.stream("base")
    assert b"[DONE]" in await gateway.stream("base")
    double.faults = ["cut"] * OPENS_AT
    for _ in range(OPENS_AT):
        assert breaker.is_closed
        assert b"engine_interrupted" in await gateway.stream("base")
    assert not breaker.is_closed


async def test_an_engine_that_answers_nobody_in_time_is_left_out(
    home: Home, settings: Settings, double: EngineDouble
) -> None:
    """It takes requests and is healthy, and never answers: five deadlines open its circuit."""
    double.hold.clear()
    async with _impatient(home, settings) as gateway:
        breaker = gateway.parts.fleet.members[0].breaker
        for _ in range(OPENS_AT):
            assert breaker.is_closed
            assert (await gateway.chat("base")).status_code == 504
        assert not breaker.is_closed
        double.hold.set()


async def test_an_engine_elsewhere_that_is_silent_is_given_up(
    gateway: Gateway, double: EngineDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its /health is accepted and never answered: what hangs in it is asked again when it is up."""

    async def silent(self: EngineClient) -> int | None:
        return None

    monkeypatch.setattr(remote, "_PROBE_EVERY_S", 0.01)
    double.hold.clear()
    asking = asyncio.create_task(gateway.chat("base"))
    await until(lambda: double.asked)
    with monkeypatch.context() as hung:
        hung.setattr(EngineClient, "health", silent)
        await until(lambda: not gateway.parts.fleet.members[0].is_up)
    double.hold.set()
    assert (await asking).status_code == 200
    assert gateway.engine.generation == 2


async def test_a_log_that_was_taken_away_does_not_keep_an_engine_down(
    home: Home, settings: Settings
) -> None:
    """It is killed, its last lines are not to be had, and it is restarted all the same."""
    launch = Launch(
        lambda port: [sys.executable, "-m", "tests.serve.engine_double", str(port)], {}, "tiny"
    )
    log = engine_log(home, "engine")
    engine = SupervisedEngine("engine", launch, log, startup_s=30, silence_s=10)
    async with running(home, settings, [engine]) as gateway:
        log.unlink()
        assert engine._process is not None
        os.kill(engine._process._process.pid, signal.SIGKILL)
        assert (await gateway.chat("base")).status_code == 200
        assert engine.generation == 2


async def test_what_failed_while_nobody_waited_is_not_held_against_the_next(
    gateway: Gateway, published: Publish, tmp_path: Path
) -> None:
    """The client left while its adapter was offered, and that failed: the next one tries anew."""
    version = published("support")
    failing, offered = asyncio.Event(), 0

    def servable(asked: Version) -> Path:
        nonlocal offered
        offered += 1
        if offered == 1:
            raise OSError("the folder is not there")
        return tmp_path

    def let_go(asked: Version) -> None: ...

    def make_offer() -> Callable[[str, Path], None]:
        failing.set()
        return lambda name, folder: None

    adapters = LazyResidency(gateway.engine, servable, let_go, make_offer)
    leaving = asyncio.create_task(adapters.acquire(version))
    await failing.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.wait(adapters._offers.values())
    assert (await adapters.acquire(version)).engine_name == version.engine_name


async def test_an_engine_whose_base_changed_unseen_is_let_go(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Behind one address another server comes up without a moment's silence: once its list is
    looked at, nothing more is sent there until the right base is back."""
    published("support")
    await gateway.chat("support")
    double.base = "other"
    double.loaded.clear()
    asking = asyncio.create_task(gateway.chat("support"))
    await until(lambda: gateway.engine.state is EngineState.RESTARTING)
    double.base = "tiny"
    answer = await asking
    assert (answer.status_code, answer.json()["model"]) == (200, "support@1")
