"""The whole program, as a process: it starts, says so, stops, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import AddressRefused
from hub.home import Home
from hub.records import Base
from serve.doors.listen import listen
from tests.serve.processes import alive, soon

# argv: home, port, and the engine's command.
PROGRAM = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from hub.errors import HubError
from hub.home import Home
from hub.registry import Registry
from serve.engines.supervisor import Launch, SupervisedEngine
from serve.run import engine_log, run_gateway
from serve.settings import Settings
from tests.conftest import acts

home = Home(Path(sys.argv[1]))
with Registry.open(home) as registry:
    settings = Settings(base=registry.bases.get(), port=int(sys.argv[2]), drain_s=0.5)
launch = Launch(lambda port: [*sys.argv[3:], str(port)], {}, "tiny")
engine = SupervisedEngine("engine", launch, engine_log(home, "engine"), startup_s=30, silence_s=10)
if os.environ.get("HANGING"):
    ThreadPoolExecutor().submit(time.sleep, 600)
try:
    run_gateway(
        home,
        settings,
        measure_effect=acts,
        announce=lambda line: print(line, flush=True),
        engines=[engine],
        ending_s=2,
    )
except HubError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    sys.exit(1)
"""
DOUBLE = [sys.executable, "-m", "tests.serve.engine_double"]


class Program:
    def __init__(
        self,
        home: Home,
        *engine: str,
        port: int = 0,
        hangup: signal.Handlers = signal.SIG_DFL,
    ) -> None:
        """`hangup`: what it is started with for SIGHUP. Said, because a test run that was itself
        started under nohup would hand that on."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(home.root), str(port), *(engine or DOUBLE)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup),
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def ready(self) -> str:
        """Its address, once it says so."""
        assert self.out.readline().startswith("starting vLLM")
        line = self.out.readline()
        assert line.startswith("ready: http://127.0.0.1:"), line
        assert "/console/" in line
        return line.split()[1].removesuffix("/v1")

    def children(self) -> list[int]:
        """Every process below it."""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            for task in Path(f"/proc/{pid}/task").iterdir():
                below = [int(text) for text in (task / "children").read_text().split()]
                found += below
                queue += below
        return found


@pytest.fixture
def programs(home: Home, base: Base) -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.process.kill()
        program.process.wait()
        program.out.close()


def _stream(url: str) -> socket.socket:
    """A connection with a request whose answer is read by hand."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"model": "base", "messages": [], "stream": True}).encode()
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
        b"\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_engine(
    home: Home, programs: list[Program], number: signal.Signals
) -> None:
    """Status 0, no process left, and the port free again."""
    programs.append(program := Program(home))
    url = program.ready()
    with urllib.request.urlopen(f"{url}/ready", timeout=10) as answer:
        assert answer.status == 200
    children = program.children()
    assert len(children) == 2  # the guard and the engine
    program.process.send_signal(number)
    assert program.process.wait(20) == 0
    assert not any(alive(pid) for pid in children)
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"{url}/health", timeout=5)


def test_what_hangs_in_a_disk_does_not_keep_it(
    home: Home, programs: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that nothing can cancel is left, with status 1; the engine is ended all the same."""
    monkeypatch.setenv("HANGING", "1")
    programs.append(program := Program(home))
    program.ready()
    children = program.children()
    program.process.terminate()
    assert program.process.wait(20) == 1
    assert not any(alive(pid) for pid in children)


def test_a_killed_gateway_leaves_no_engine(home: Home, programs: list[Program]) -> None:
    """SIGKILL, which nothing can catch."""
    programs.append(program := Program(home))
    program.ready()
    children = program.children()
    program.process.kill()
    soon(lambda: not any(alive(pid) for pid in children))


def test_a_stream_still_open_at_the_end_gets_its_error_event(
    home: Home, programs: list[Program]
) -> None:
    """Stopping cuts nobody off in silence: after the drain the engine stops, and the client reads
    the same event as after any other interruption."""
    programs.append(program := Program(home, *DOUBLE, "--token-delay", "60"))
    with _stream(program.ready()) as connection:
        received = connection.recv(65536)
        while b"data:" not in received:
            received += connection.recv(65536)
        program.process.send_signal(signal.SIGINT)
        while part := connection.recv(65536):
            received += part
    assert b"engine_interrupted" in received
    assert program.process.wait(20) == 0


def test_an_engine_that_does_not_come_up_ends_the_program(
    home: Home, programs: list[Program]
) -> None:
    """With the engine's own last words."""
    script = "import sys; sys.exit('ValueError: no such model')"
    programs.append(program := Program(home, sys.executable, "-c", script))
    assert program.process.wait(20) == 1
    said = program.out.read()
    assert "EngineStartFailed" in said
    assert "ValueError: no such model" in said


def test_a_port_in_use_ends_the_program_before_the_engine(
    home: Home, programs: list[Program], tmp_path: Path
) -> None:
    """One line; the engine's command never ran."""
    ran = tmp_path / "ran"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        script = f"open({str(ran)!r}, 'w')"
        programs.append(program := Program(home, sys.executable, "-c", script, port=port))
        assert program.process.wait(20) == 1
    assert f"AddressRefused: port {port} on 127.0.0.1 is in use" in program.out.read()
    assert not ran.exists()


def test_under_nohup_a_hangup_ends_nothing(home: Home, programs: list[Program]) -> None:
    """What was started with SIGHUP ignored goes on ignoring it."""
    programs.append(program := Program(home, hangup=signal.SIG_IGN))
    url = program.ready()
    program.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    with urllib.request.urlopen(f"{url}/ready", timeout=10) as answer:
        assert answer.status == 200
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(20) == 0


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_port_that_is_none_is_said(port: int) -> None:
    """Not a traceback from the socket."""
    with pytest.raises(AddressRefused, match=f"there is no port {port}"):
        listen("127.0.0.1", port)


def test_http_answers_while_the_engine_starts(home: Home, programs: list[Program]) -> None:
    """/ready says 503 and `starting`; Ctrl-C then ends it at once, engine and all."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "import time; time.sleep(300)"
    programs.append(program := Program(home, sys.executable, "-c", script, port=port))
    assert program.out.readline().startswith("starting")

    def starting() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5)
        except urllib.error.HTTPError as error:
            return error.code == 503 and json.load(error)["state"] == "starting"
        except OSError:
            return False
        return False

    soon(starting)
    children = program.children()
    began = time.monotonic()
    os.kill(program.process.pid, signal.SIGINT)
    assert program.process.wait(20) == 0
    assert time.monotonic() - began < 10
    assert not any(alive(pid) for pid in children)
