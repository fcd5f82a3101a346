"""Homes to measure on, made once and kept, and the processes that are measured.

`benchmarks/.home` has the starter base and two adapters. What starts here runs in it unless told
another home.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hub.facts import KeyWanted
from hub.home import Home
from hub.registry import Registry

ROOT = Path(__file__).parents[1]
HOME = Home(ROOT / "benchmarks" / ".home")
READY_S = 300
_KEY = "benchmark"


def prepared_home() -> Home:
    """The home, complete; building it takes a few minutes the first time."""
    HOME.root.mkdir(parents=True, exist_ok=True)
    hub("init")
    hub("base", "starter")
    with Registry.open(HOME) as registry:
        known = {summary.name for summary in registry.summaries()}
    for task in ("support", "payments"):
        if task not in known:
            hub("train", task, "--data", str(ROOT / "examples" / task / "train.jsonl"))
    return HOME


def hub(*arguments: str, home: Home = HOME) -> None:
    subprocess.run([sys.executable, "-m", "hub", *arguments], cwd=home.root, check=True)


def base_folder() -> Path:
    """The starter base of the home, for other homes to stand on."""
    with Registry.open(prepared_home()) as registry:
        return Path(registry.bases.get("starter").source)


@dataclass(frozen=True)
class Server:
    """A process that serves; `log` is what it prints."""

    url: str
    pid: int
    log: Path


@contextmanager
def vllm(
    name: str, *engine_args: str, home: Home = HOME, number: int = 0, **settings: Any
) -> Iterator[Server]:
    """Stock vLLM, started as the gateway would start it; `settings` are those of the gateway, and
    `number` is which of its engines it is."""
    from serve.engines.vllm import launches
    from serve.settings import Settings

    with Registry.open(home) as registry:
        told = Settings(base=registry.bases.get(), engine_args=engine_args, **settings)
    plan = launches(told)[number]
    port = free_port()
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            plan.command(port),
            env={**os.environ, **plan.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=(lambda: os.sched_setaffinity(0, plan.cores)) if plan.cores else None,
        )
    server = Server(f"http://127.0.0.1:{port}", process.pid, log)
    with _until_done(process, server, "/health"):
        yield server


@contextmanager
def raw_vllm(*engine_args: str) -> Iterator[str]:
    """Its URL."""
    with vllm("raw-vllm", *engine_args) as server:
        yield server.url


@contextmanager
def serving(*options: str, home: Home = HOME) -> Iterator[Server]:
    """`hub serve`, ready; without keys where `api_key` made one earlier, and none is living."""
    port = free_port()
    with Registry.open(home) as registry:
        keys = [key.state for key in registry.keys.all()]
    if keys and "living" not in keys:
        options = ("--without-keys", *options)
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hub", "serve", "--port", str(port), *options],
            cwd=home.root,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(f"http://127.0.0.1:{port}", process.pid, log)
    with _until_done(process, server, "/ready"):
        yield server


@contextmanager
def gateway(engine_url: str, *options: str, home: Home = HOME) -> Iterator[str]:
    """`hub serve` in front of an engine that runs already; its URL."""
    with serving("--engine", engine_url, *options, home=home) as server:
        yield server.url


def without_traffic(home: Home) -> None:
    """Forget what was asked in earlier runs: a gateway would load the most asked ahead."""
    for suffix in ("", "-wal", "-shm"):
        home.interactions.with_name(home.interactions.name + suffix).unlink(missing_ok=True)


@contextmanager
def api_key(home: Home = HOME) -> Iterator[str]:
    """A key for asking, for as long as this lasts: servers that start meanwhile want one."""
    with Registry.open(home) as registry:
        for left in registry.keys.all():
            if left.name == _KEY and left.state == "living":  # of a run that was killed
                registry.keys.revoke(left.id)
        made = registry.keys.create(KeyWanted(_KEY, ("infer",)))
        try:
            yield made.secret
        finally:
            registry.keys.revoke(made.key.id)


@contextmanager
def mock_engine(answer_s: float, home: Home = HOME) -> Iterator[str]:
    """The tests' double of vLLM's HTTP lines, in front of no model; its URL."""
    with Registry.open(home) as registry:
        base = registry.bases.get().name
    options = ("--base", base, "--token-delay", str(answer_s))
    port = free_port()
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "mock-engine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.serve.engine_double", str(port), *options],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    with _until_done(process, Server(f"http://127.0.0.1:{port}", process.pid, log), "/health"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _until_done(process: "subprocess.Popen[bytes]", server: Server, path: str) -> Iterator[Server]:
    try:
        deadline = time.monotonic() + READY_S
        while not _answers(server.url + path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{server.url} did not come up; its log is {server.log}")
            time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
