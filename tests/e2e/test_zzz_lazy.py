"""An engine that finds adapters by itself: a real vLLM with its filesystem resolver, and a gateway
that puts versions where it looks, both started as examples/scale-out starts them. After the
endings, because it wants the machine for itself."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.home import Home
from hub.registry import Registry
from tests.command import Hub
from tests.e2e.conftest import Demo, wait_ready

PROMPT = [{"role": "user", "content": "Someone used my card at a shop I do not know."}]
# One slot: whoever is asked for after another is read from its folder again.
FLAGS = "--enforce-eager --dtype float32 --max-model-len 256 --max-loras 1 --max-cpu-loras 1"
SCALE_OUT = Path(__file__).parents[2] / "examples" / "scale-out"


@dataclass
class Lazy:
    hub: Hub
    root: Path
    engine: str
    log: Path
    gateway: str = ""

    @property
    def lines(self) -> str:
        return self.log.read_text(errors="replace")

    def ask(self, model: str, url: str = "") -> dict[str, Any]:
        """A greedy answer, with its text beside it."""
        body = {"model": model, "messages": PROMPT, "max_tokens": 24, "temperature": 0}
        answer = httpx.post(f"{url or self.gateway}/v1/chat/completions", json=body, timeout=300)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return {**found, "text": found["choices"][0]["message"]["content"]}

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """A gateway's life in front of the engine."""
        port = _free_port()
        self.gateway = f"http://127.0.0.1:{port}"
        process = subprocess.Popen(
            [SCALE_OUT / "gateway.sh", f"{self.engine},loads=lazy"],
            cwd=self.hub.home,
            env={
                **_on_path(self.hub.environment()),
                "BASE": "starter",
                "PORT": str(port),
                "ADAPTERS": str(self.root),
            },
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_ready(self.gateway)
            yield
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def lazy(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lazy]:
    """The engine is started once; gateways come and go in front of it."""
    root = tmp_path_factory.mktemp("adapters")
    log = root.parent / "lazy-engine.log"
    port = _free_port()
    with Registry.open(Home(demo.hub.home)) as registry:
        base = registry.bases.get("starter").source
    environment = {
        "BASE": "starter",
        "MODEL": base,
        "ADAPTERS": str(root),
        "PORT": str(port),
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SCALE_OUT / "lazy-engine.sh", *FLAGS.split()],
            env={**_on_path(dict(os.environ)), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Lazy(demo.hub, root, f"http://127.0.0.1:{port}", log)
    try:
        _await_engine(process, found)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_lazy_engine_answers_with_the_version_that_was_asked_for(lazy: Lazy) -> None:
    """Through the gateway every version answers as it does when the very folder that the hub keeps
    is loaded by hand, and a promotion and its rollback are seen at the next request. The gateway
    made no call to load or unload, and asked the engine for nothing that is not published."""
    with lazy.serving():
        base = lazy.ask("base")
        # Simultaneous first requests: one answer each, all the same, and one load.
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lazy.ask, ["support@2"] * 8))
        assert {answer["model"] for answer in answers} == {"support@2"}
        assert len({answer["text"] for answer in answers}) == 1
        assert answers[0]["text"] != base["text"]
        loads = re.findall(r"Resolved and loaded LoRA adapter '(.+?)'", lazy.lines)
        assert [name.partition("#")[0] for name in loads] == ["support@2"]

        # Each takes the only slot from the one before, which is then read from its folder again.
        texts = {}
        for reference in ("support@1", "payments@1", "support@2", "support@1"):
            answer = lazy.ask(reference)
            assert answer["model"] == reference
            texts[reference] = answer["text"]
        assert texts["support@2"] == answers[0]["text"]
        assert texts["payments@1"] not in (base["text"], texts["support@1"])

        assert lazy.ask("support")["model"] == "support@1"
        lazy.hub.ok("promote", "support@2", "--force", "--why", "a test of lazy engines")
        assert lazy.ask("support")["model"] == "support@2"
        lazy.hub.ok("rollback", "support")
        assert lazy.ask("support")["model"] == "support@1"

        asked = lazy.lines.count("POST /v1/chat/completions")
        for unknown in ("nothing", "support@99", "support@1#000000000000", "../support@1"):
            body = {"model": unknown, "messages": PROMPT}
            answer = httpx.post(f"{lazy.gateway}/v1/chat/completions", json=body, timeout=60)
            assert answer.status_code in (400, 404), answer.text
        assert lazy.lines.count("POST /v1/chat/completions") == asked
        assert re.findall(r"POST /v1/\w*load_lora_adapter", lazy.lines) == []

    for reference, text in texts.items():
        folder = lazy.hub.home / ".hub" / "adapters" / reference
        named = {"lora_name": f"by-hand-{reference}", "lora_path": str(folder)}
        httpx.post(f"{lazy.engine}/v1/load_lora_adapter", json=named).raise_for_status()
        assert lazy.ask(named["lora_name"], lazy.engine)["text"] == text


def test_between_two_gateways_the_folder_may_be_emptied(lazy: Lazy) -> None:
    """The engine stays up and would read its folders again; the next gateway puts every version
    back before it asks for it."""
    with lazy.serving():
        before = lazy.ask("support@1")["text"]
        lazy.ask("support@2")
    for folder in lazy.root.iterdir():
        shutil.rmtree(folder)
    with lazy.serving():
        assert lazy.ask("support@1")["text"] == before
    assert httpx.get(f"{lazy.engine}/health", timeout=60).status_code == 200


def _await_engine(process: "subprocess.Popen[bytes]", lazy: Lazy, limit_s: float = 300) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{lazy.engine}/health", timeout=10).status_code == 200:
                return
        time.sleep(0.5)
    pytest.fail(f"the engine did not come up:\n{lazy.lines[-4000:]}")


def _on_path(environment: dict[str, str]) -> dict[str, str]:
    """With this Python's folder first, where `hub` is too."""
    return {**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
