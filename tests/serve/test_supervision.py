"""Engines as processes: started, killed, restarted, and explained when they do not come up."""

import os
import signal
import sys
from pathlib import Path

import pytest

from hub.errors import EngineStartFailed
from hub.home import Home
from hub.records import Base
from serve.engines.base import EngineState
from serve.engines.remote import RemoteEngine
from serve.engines.spec import EngineSpec
from serve.engines.supervisor import Launch, SupervisedEngine
from serve.settings import Settings
from tests.serve.conftest import Publish, running, until
from tests.serve.engine_double import EngineDouble
from tests.serve.processes import alive

DOUBLE = [sys.executable, "-m", "tests.serve.engine_double"]


def _engine(home: Home, *command: str, startup_s: float = 30) -> SupervisedEngine:
    launch = Launch(lambda port: [*(command or DOUBLE), str(port)], {}, "tiny")
    return SupervisedEngine(
        "engine", launch, home.logs / "engine.log", startup_s=startup_s, silence_s=10
    )


def _pid(engine: SupervisedEngine) -> int:
    """The engine's own process: who listens at its port."""
    assert engine.url is not None
    port = engine.url.rpartition(":")[2]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if line[-2:-1] == [port] and "serve.engines.guard" not in line:
                return int(folder.name)
    raise AssertionError(f"nothing listens at {engine.url}")


async def test_a_killed_engine_comes_back_and_the_next_request_is_answered(
    home: Home, settings: Settings, published: Publish
) -> None:
    """SIGKILL between two requests: the second waits for the restart; a new life, a new load."""
    published("support")
    engine = _engine(home)
    async with running(home, settings, [engine]) as gateway:
        assert (await gateway.chat("support")).status_code == 200
        first = engine.url
        os.kill(_pid(engine), signal.SIGKILL)
        answer = await gateway.chat("support")
        assert answer.status_code == 200
        assert answer.json()["model"] == "support@1"
        assert engine.generation == 2
        assert engine.url != first
    assert engine.state is EngineState.STOPPED


async def test_a_killed_engine_comes_back_without_being_asked(
    home: Home, settings: Settings
) -> None:
    """The supervisor sees it by itself; /ready tells."""
    engine = _engine(home)
    async with running(home, settings, [engine]) as gateway:
        os.kill(_pid(engine), signal.SIGKILL)
        await until(lambda: engine.state is EngineState.RESTARTING)
        assert (await gateway.http.get("/ready")).json()["state"] == "restarting"
        await until(lambda: engine.state is EngineState.READY)
        assert (await gateway.http.get("/ready")).json()["state"] == "ready"


async def test_an_engine_that_dies_has_its_last_lines_in_the_log(
    home: Home, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the gateway's log need not look for another one first."""
    talking = ["sh", "-c", f"echo out of memory, perhaps; exec {' '.join(DOUBLE)} $0"]
    engine = _engine(home, *talking)
    async with running(home, settings, [engine]):
        os.kill(_pid(engine), signal.SIGKILL)
        await until(lambda: engine.generation == 2)
    died = next(line for line in caplog.messages if "died" in line)
    assert "out of memory, perhaps" in died
    assert "engine.log" in died


async def test_stopping_leaves_no_process(home: Home, settings: Settings) -> None:
    """The process at the port is gone when `stop` returns."""
    engine = _engine(home)
    async with running(home, settings, [engine]):
        pid = _pid(engine)
    assert not alive(pid)


async def test_an_engine_that_ends_at_start_shows_its_last_lines(home: Home) -> None:
    """Fifteen lines of its output, its status, and where the whole log is."""
    home.create()
    script = "import sys\nfor n in range(40): print('line', n)\nsys.exit('no such model: x')"
    engine = _engine(home, sys.executable, "-c", script)
    with pytest.raises(EngineStartFailed) as failed:
        await engine.start()
    lines = failed.value.log_tail.splitlines()
    assert len(lines) == 15
    assert lines[-1] == "no such model: x" or "line 39" in lines
    assert "status 1" in str(failed.value)
    assert "engine.log" in str(failed.value.hint)
    await engine.stop()


async def test_an_engine_that_never_answers_is_given_up_and_ended(home: Home) -> None:
    """After `startup_timeout_s`, with its log, and no process left."""
    home.create()
    script = f"import os, time; print('pid', os.getpid(), flush=True); time.sleep(300)  # {home}"
    engine = _engine(home, sys.executable, "-c", script, startup_s=2)
    with pytest.raises(EngineStartFailed, match="within 2 s") as failed:
        await engine.start()
    pid = int(failed.value.log_tail.split()[-1])
    assert not alive(pid)


async def test_somebody_elses_engine_must_serve_the_same_base(
    base: Base, double: EngineDouble
) -> None:
    """Another base is refused by name; nothing there is unloaded or stopped."""
    double.base = "other"
    engine = RemoteEngine("engine", EngineSpec(double.url), base, startup_s=5, silence_s=5)
    with pytest.raises(EngineStartFailed, match="serves other, not the base 'tiny'"):
        await engine.start()


async def test_nobody_at_the_given_address_is_said(base: Base) -> None:
    """With the address and the time waited."""
    engine = RemoteEngine(
        "engine", EngineSpec("http://127.0.0.1:9"), base, startup_s=0.5, silence_s=5
    )
    with pytest.raises(EngineStartFailed, match=r"127\.0\.0\.1:9 within 0\.5 s"):
        await engine.start()


async def test_strangers_adapters_in_somebody_elses_engine_are_left_alone(
    home: Home, settings: Settings, double: EngineDouble, published: Publish
) -> None:
    """Through evictions and at the end."""
    double.loaded["theirs"] = "/somewhere"
    engine = RemoteEngine("engine", EngineSpec(double.url), settings.base, startup_s=5, silence_s=5)
    async with running(home, settings, [engine]) as gateway:
        for number in range(6):
            published(f"task-{number}")
            assert (await gateway.chat(f"task-{number}")).status_code == 200
    assert "theirs" in double.loaded
    assert "theirs" not in double.unloads
