"""Names that nobody has, in numbers."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks.load import send_each
from benchmarks.processes import resident_mib
from benchmarks.unknown import unknown_names
from hub.home import Home
from hub.records import Base
from tests.serve.conftest import MESSAGES, Publish
from tests.serve.engine_double import EngineDouble
from tests.serve.processes import soon

FIRST, NAMES = 1_000, 20_000
PATH = "/v1/chat/completions"


def test_unknown_names_cost_no_memory_and_never_reach_an_engine(
    home: Home, base: Base, published: Publish, double: EngineDouble
) -> None:
    """20,000 different ones, of a gateway that is a process of its own."""
    published("support")
    with serving(home, double.url) as (url, pid):
        send_each(url, PATH, unknown_names(0, FIRST))
        before = resident_mib(pid)
        counts = send_each(url, PATH, unknown_names(FIRST, NAMES))
        grown = resident_mib(pid) - before
        assert counts == {404: NAMES}
        assert double.asked == []
        assert double.loads == []
        assert grown < 10
        # The very same request reaches it when there is such an adapter.
        body = {"model": "support", "messages": MESSAGES}
        assert httpx.post(f"{url}{PATH}", json=body, timeout=30).status_code == 200
        assert len(double.asked) == 1


@contextmanager
def serving(home: Home, engine: str) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hub", "serve", "--engine", engine, "--port", str(port)]
    process = subprocess.Popen(command, cwd=home.root, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        soon(lambda: _ready(url), 60)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
