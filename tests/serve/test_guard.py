"""The guard: what it started never outlives whoever started the guard."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve.engines.guard import living_in
from serve.engines.process import GuardedProcess
from tests.serve.processes import alive, soon

# Starts a grandchild in a session of its own that ignores SIGTERM, and writes both pids down.
ENGINE = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
open(sys.argv[1] + ".part", "w").write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(300 if len(sys.argv) < 3 else 0)
"""
# The same, but its children stay in its session, as vLLM's core and workers do, one in a group of
# its own; they hide under other names, and take no notice of the engine's end.
CORE = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
core = subprocess.Popen(["VLLM::EngineCore", "-c", stubborn], executable=sys.executable)
worker = subprocess.Popen(
    ["VLLM::Worker", "-c", stubborn], executable=sys.executable, process_group=0
)
open(sys.argv[1] + ".part", "w").write(f"{os.getppid()} {os.getpid()} {core.pid} {worker.pid}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(300)
"""
# Plays the gateway: starts the guard with a pipe, and sleeps.
PARENT = """
import subprocess, sys, time
guard = subprocess.Popen(
    [sys.executable, "-m", "serve.engines.guard", "--", *sys.argv[1:]],
    stdin=subprocess.PIPE, start_new_session=True,
)
print(guard.pid, flush=True)
time.sleep(300)
"""


def _engine(tmp_path: Path) -> tuple[list[str], Path]:
    pids = tmp_path / "pids"
    return [sys.executable, "-c", ENGINE, str(pids)], pids


def _pids(file: Path) -> list[int]:
    soon(file.exists)
    return [int(pid) for pid in file.read_text().split()]


def _guard(*command: str) -> "subprocess.Popen[bytes]":
    guard = [sys.executable, "-m", "serve.engines.guard", "--", *command]
    return subprocess.Popen(guard, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_killing_the_parent_kills_everything(tmp_path: Path) -> None:
    """SIGKILL to the gateway: engine, runaway worker and guard are gone, SIGTERM ignored or not."""
    command, file = _engine(tmp_path)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *command], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    guard = int(parent.stdout.readline())
    pids = [*_pids(file), guard]
    assert all(alive(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    soon(lambda: not any(alive(pid) for pid in pids))


def test_an_engine_that_ends_takes_its_workers_along(tmp_path: Path) -> None:
    """The API server is gone, a worker is left: the guard kills it and reports the status."""
    command, file = _engine(tmp_path)
    with _guard(*command, "end at once") as guard:
        worker = _pids(file)[1]
        assert guard.wait(20) == 0
        assert not alive(worker)


async def test_killing_the_guard_kills_everything_in_its_session(tmp_path: Path) -> None:
    """The kernel kills the engine (PR_SET_PDEATHSIG), the gateway what that leaves; at `wait`'s
    return nothing is left."""
    file = tmp_path / "pids"
    command = [sys.executable, "-c", CORE, str(file)]
    process = await GuardedProcess.start(command, {}, tmp_path / "engine.log")
    pids = await asyncio.to_thread(_pids, file)
    assert sorted(living_in(pids[0])) == sorted(pids)
    os.kill(pids[0], signal.SIGKILL)
    async with asyncio.timeout(20):
        assert await process.wait() == -signal.SIGKILL
    assert not any(alive(pid) for pid in pids)
    assert living_in(pids[0]) == []
    await process.stop()


async def test_stopping_a_guard_that_hangs_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, and its session with it."""
    monkeypatch.setattr("serve.engines.process.GRACE_S", -9.5)
    file = tmp_path / "pids"
    command = [sys.executable, "-c", CORE, str(file)]
    process = await GuardedProcess.start(command, {}, tmp_path / "engine.log")
    pids = await asyncio.to_thread(_pids, file)
    os.kill(pids[0], signal.SIGSTOP)
    async with asyncio.timeout(20):
        await process.stop()
    assert not any(alive(pid) for pid in pids)


def test_a_command_that_is_not_there_is_said() -> None:
    """Status 127 and one line."""
    with _guard("/no/such/engine") as guard:
        _, said = guard.communicate(timeout=20)
    assert guard.returncode == 127
    assert said.decode().strip() == "can't start /no/such/engine: No such file or directory"
