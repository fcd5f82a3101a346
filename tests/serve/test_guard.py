"""The guard: what it started never outlives whoever started the guard."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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


def test_killing_the_guard_kills_the_engine(tmp_path: Path) -> None:
    """The kernel does it (PR_SET_PDEATHSIG)."""
    command, file = _engine(tmp_path)
    with _guard(*command) as guard:
        engine, worker = _pids(file)
        guard.kill()
    soon(lambda: not alive(engine))
    os.kill(worker, signal.SIGKILL)  # a worker that left its group is out of the kernel's reach


def test_a_command_that_is_not_there_is_said() -> None:
    """Status 127 and one line."""
    with _guard("/no/such/engine") as guard:
        _, said = guard.communicate(timeout=20)
    assert guard.returncode == 127
    assert said.decode().strip() == "can't start /no/such/engine: No such file or directory"
