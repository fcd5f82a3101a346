"""One real server for all end-to-end tests: the one that `hub demo` leaves up.

The demo is run once, as a user runs it, and every test asks something of what it made: a real
vLLM, the starter base, two adapters of which one was retrained from feedback.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.command import Hub

DEMO_LIMIT_S = 1200
STOP_LIMIT_S = 60


@dataclass(frozen=True)
class Demo:
    """A finished demo whose server is still up."""

    hub: Hub
    url: str
    output: str
    process_group: int

    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    home = tmp_path_factory.mktemp("demo")
    log = home.parent / "demo.log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hub = Hub(home, server=f"http://127.0.0.1:{port}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hub", "demo", "--port", str(port)],
            cwd=home,
            env=hub.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Where the tests run in the background, Ctrl-C is ignored and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        _await_console(process, log)
        yield Demo(hub, f"http://127.0.0.1:{port}", log.read_text(), process.pid)
    finally:
        _interrupt(process)


def _await_console(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + DEMO_LIMIT_S
    while "Ctrl-C stops it." not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the demo did not come to its end:\n{log.read_text()[-6000:]}")
        time.sleep(1)


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """Ctrl-C in its terminal: every process of the group gets the signal."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    process.wait(STOP_LIMIT_S)


def engine_processes(home: Path) -> list[int]:
    """Processes of engines of this home, their guards included.

    By who has a file of its logs open: vLLM's core and workers rename themselves, and inherit that.
    """
    logs = f"{(home / '.hub' / 'logs').resolve()}/"
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if any(file.startswith(logs) for file in _open_files(pid))]


def _open_files(pid: int) -> list[str]:
    found = []
    # It, or a file of it, may be gone meanwhile.
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(entry.readlink()))
    return found


def await_no_engine(home: Path, limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while (left := engine_processes(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def wait_ready(url: str, limit: float = 240) -> None:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"{url} was not ready after {limit} s")
