"""A hub to measure on, made once in benchmarks/.home and kept: a base and two adapters."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from hub.home import Home
from hub.registry import Registry

ROOT = Path(__file__).parents[1]
HOME = Home(ROOT / "benchmarks" / ".home")
READY_S = 300


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


def hub(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "hub", *arguments], cwd=HOME.root, check=True)


@contextmanager
def raw_vllm(*engine_args: str) -> Iterator[str]:
    """Stock vLLM, started as the gateway would start it; gives its URL."""
    from serve.engines.vllm import launch
    from serve.settings import Settings

    with Registry.open(HOME) as registry:
        settings = Settings(base=registry.bases.get(), engine_args=engine_args)
    plan = launch(settings)
    port = free_port()
    log = HOME.logs / "raw-vllm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            plan.command(port),
            env={**os.environ, **plan.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    yield from _until_done(process, f"http://127.0.0.1:{port}", "/health")


@contextmanager
def gateway(engine_url: str) -> Iterator[str]:
    """`hub serve` in front of an engine that runs already; gives its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--port", str(port), "--engine", engine_url],
        cwd=HOME.root,
        stderr=subprocess.DEVNULL,
    )
    yield from _until_done(process, f"http://127.0.0.1:{port}", "/ready")


@contextmanager
def mock_engine(answer_s: float) -> Iterator[str]:
    """The tests' double of vLLM's HTTP lines, in front of no model; gives its URL."""
    with Registry.open(HOME) as registry:
        base = registry.bases.get().name
    options = ("--base", base, "--token-delay", str(answer_s))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serve.engine_double", str(port), *options],
        cwd=ROOT,
    )
    yield from _until_done(process, f"http://127.0.0.1:{port}", "/health")


def _until_done(process: "subprocess.Popen[bytes]", url: str, path: str) -> Iterator[str]:
    try:
        deadline = time.monotonic() + READY_S
        while not _answers(url + path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{url} did not come up")
            time.sleep(0.5)
        yield url
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
