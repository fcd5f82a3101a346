"""Endings, last in the session because they end things: killed engines and killed gateways."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.e2e.conftest import Demo, await_no_engine, engine_processes, wait_ready

ASK = {"model": "support", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


def test_a_killed_guard_takes_the_engine_along_and_it_is_restarted(demo: Demo) -> None:
    """Nothing of the first life is left beside the second, and a request that meets the dead
    engine waits for the restart: its client sees one answer. (Killed engines whose guard lives are
    in test_churn.)"""
    wait_ready(demo.url)
    first = engine_processes(demo.hub.home)
    (guard,) = [pid for pid in first if _is_guard(pid)]
    os.kill(guard, signal.SIGKILL)
    answer = httpx.post(f"{demo.url}/v1/chat/completions", json=ASK, timeout=300)
    assert answer.status_code == 200, answer.text
    assert not set(first) & set(engine_processes(demo.hub.home))


def test_a_killed_gateway_leaves_no_engine(demo: Demo) -> None:
    """SIGKILL, which no handler sees, ends the engine with all its processes."""
    wait_ready(demo.url)
    assert engine_processes(demo.hub.home)
    gateway = _gateway(demo)
    os.kill(gateway, signal.SIGKILL)
    await_no_engine(demo.hub.home)


def test_ctrl_c_leaves_no_engine(demo: Demo) -> None:
    """Also while the engine is still starting."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--port", demo.url.rpartition(":")[2]],
        cwd=demo.hub.home,
        env=demo.hub.environment(),
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not engine_processes(demo.hub.home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert engine_processes(demo.hub.home)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) is not None
    await_no_engine(demo.hub.home)


def test_an_engine_that_does_not_come_up_says_why(demo: Demo) -> None:
    """Its last log lines are shown, and nothing is left running."""
    result = demo.hub("serve", "--port", "0", "--engine-args", "--no-such-option")
    assert result.status == 1
    assert "Traceback" not in result.stderr.partition("its last log lines")[0]
    assert "--no-such-option" in result.stderr
    await_no_engine(demo.hub.home)


def _is_guard(pid: int) -> bool:
    try:
        return b"serve.engines.guard" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _gateway(demo: Demo) -> int:
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        port = demo.url.rpartition(":")[2].encode()
        if b"serve" in command and port in command and b"-m" in command and b"hub" in command:
            return int(entry.name)
    raise AssertionError("the gateway's process was not found")
