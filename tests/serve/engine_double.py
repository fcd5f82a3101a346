"""The one test double of this project: vLLM's HTTP lines, without a model behind them.

A real HTTP server in a thread of its own (or, run as a module, in a process), with vLLM's paths,
status codes and wording as measured on 0.32. What it answers names the engine name that it was
asked for, so that a test sees which adapter answered. Knobs make it fail the ways that vLLM fails.
"""

import argparse
import asyncio
import collections
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from tests.serve import engine_shapes as shapes

BASE = "tiny"


class EngineDouble:
    """Set the knobs from any thread. Faults are taken one a completion request, oldest first:

    die          the connection drops before a byte
    empty        HTTP 200 with no body at all
    unavailable  HTTP 503
    cut          a stream's connection drops after two events, not counting those that open it
    cut_opening  the same after the first of those that open a response's stream
    cut_late     the same before the last event
    core_died    a stream gets vLLM's error event with code 500 after two events
    no_done      a stream ends properly but without [DONE], or a response's without its last event
    refuse       HTTP 400 that names the model
    invalid      HTTP 400 that repeats the request's temperature, as vLLM does with a wrong value
    """

    def __init__(self, base: str = BASE, api: str = "vllm") -> None:
        self.base = base
        self.api = api
        # What kind of model it runs: "generate" for texts, "pooling" for vectors.
        self.runner = "generate"
        self.health = 200
        self.load_delay = 0.0
        # May hold {name} and {path}, which vLLM's words do.
        self.load_refusal: str | None = None
        self.unload_refusal: str | None = None
        self.token_delay = 0.0
        self.faults: list[str] = []
        self.text: Callable[[str], str] = lambda name: f"answered by {name} in so many words"
        self.hold = threading.Event()
        self.hold.set()
        self.loaded: dict[str, str] = {}
        self.loads: list[str] = []
        self.unloads: list[str] = []
        self.asked: collections.deque[dict[str, Any]] | list[dict[str, Any]] = []
        self.headers: collections.deque[dict[str, str]] = collections.deque(maxlen=100)
        self.streaming = 0
        self.aborted = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "EngineDouble":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody listens any more; a second time is none."""
        self.hold.set()
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def restart(self) -> None:
        """What a restart leaves: nothing loaded, and a while without health."""
        self.loaded.clear()
        self.health = 200

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.run(0))

    async def run(self, port: int) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        calls = "/v1" if self.api == "vllm" else ""
        app.router.add_post(f"{calls}/load_lora_adapter", self._load)
        app.router.add_post(f"{calls}/unload_lora_adapter", self._unload)
        for path in (*shapes.TEXTS, *shapes.TOKENS, *shapes.VECTORS):
            app.router.add_post(path, self._complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    # -- what is loaded ---------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=self.health)

    async def _models(self, request: web.Request) -> web.Response:
        base = {"id": self.base, "object": "model", "root": "/models/tiny", "parent": None}
        adapters = [
            {"id": name, "object": "model", "root": path, "parent": self.base}
            for name, path in self.loaded.items()
        ]
        return web.json_response({"object": "list", "data": [base, *adapters]})

    async def _load(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name, path = asked["lora_name"], asked["lora_path"]
        self.loads.append(name)
        await asyncio.sleep(self.load_delay)
        if self.load_refusal:
            words = self.load_refusal.format(name=name, path=path)
            return _error(500, words, "InternalServerError")
        if name in self.loaded:
            message = f"The lora adapter '{name}' has already been loaded."
            return _error(400, message, "InvalidUserInput")
        if not (Path(path) / "adapter_model.safetensors").is_file():
            return _error(404, f"No adapter found for {path}", "NotFoundError")
        self.loaded[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        self.unloads.append(name)
        if self.unload_refusal:
            return _error(500, self.unload_refusal, "InternalServerError")
        if self.loaded.pop(name, None) is None:
            message = f"The lora adapter '{name}' cannot be found."
            return _error(404, message, "NotFoundError")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    # -- answers ----------------------------------------------------------------------------------

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if request.path in (shapes.TEXTS if self.runner == "pooling" else shapes.VECTORS):
            # FastAPI's words where there is no such route; vLLM leaves them as they are.
            return web.json_response({"detail": "Not Found"}, status=404)
        asked = await request.json()
        self.asked.append(asked)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        model = asked["model"]
        fault = self.faults.pop(0) if self.faults else None
        if fault == "die":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "empty":
            return web.Response(content_type="application/json")
        if fault == "unavailable":
            return _error(503, "The engine is dead", "ServiceUnavailable")
        if fault == "refuse":
            known = model.removeprefix(f"{self.base}:") if self.api == "sglang" else model
            return _error(400, f"`{known}` takes 16 tokens at most", "BadRequestError")
        if fault == "invalid":
            said = {"type": "float_parsing", "input": asked["temperature"]}
            return _error(400, f"1 validation error:\n  {said}", "Bad Request")
        if not self._knows(model):
            if self.api == "sglang":
                message = f"The following requested LoRA adapters are not loaded: {model}"
                return _error(400, message, "BadRequest")
            return _error(404, f"The model `{model}` does not exist.", "NotFoundError")
        if asked.get("stream"):
            return await self._stream(request, asked, fault)
        try:
            await self._pause()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        return _compact(shapes.whole(request.path, asked, self.text(model)))

    def _knows(self, model: str) -> bool:
        if self.api == "sglang" and model.startswith(f"{self.base}:"):
            return model.removeprefix(f"{self.base}:") in self.loaded
        return model == self.base or model in self.loaded

    async def _stream(
        self, request: web.Request, asked: dict[str, Any], fault: str | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        self.streaming += 1
        try:
            await response.prepare(request)
            named = request.path.endswith("/responses")
            events = shapes.events(request.path, asked, self.text(asked["model"]))
            cut_before = {
                "cut": 4 if named else 2,
                "core_died": 4 if named else 2,
                "cut_opening": 1,
                "cut_late": len(events) - 1,
            }.get(fault or "")
            for number, event in enumerate(events):
                if number == cut_before and (named or fault != "core_died"):
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if number == cut_before:
                    await response.write(_sse({"error": {"message": "EngineCore", "code": 500}}))
                    break
                if fault == "no_done" and named and event is events[-1]:
                    break
                await response.write(_sse(event, named))
                await self._pause()
            if fault != "no_done" and not named:
                await response.write(b"data: [DONE]\n\n")
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted += 1
            raise
        finally:
            self.streaming -= 1
        return response

    async def _pause(self) -> None:
        await asyncio.sleep(self.token_delay)
        while not self.hold.is_set():  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.005)


def _sse(value: dict[str, Any], named: bool = False) -> bytes:
    head = f"event: {value['type']}\n" if named else ""
    return f"{head}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def _compact(value: dict[str, Any]) -> web.Response:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return web.Response(text=text, content_type="application/json")


def _error(status: int, message: str, kind: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.json_response({"error": error}, status=status)


def main() -> None:
    """An engine as a process, a little slow to start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--token-delay", type=float, default=0)
    chosen = parser.parse_args()
    time.sleep(0.2)
    double = EngineDouble(chosen.base)
    double.asked = collections.deque(maxlen=1000)
    double.token_delay = chosen.token_delay
    uvloop.run(double.run(chosen.port))


if __name__ == "__main__":
    main()
