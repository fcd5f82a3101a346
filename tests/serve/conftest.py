"""A real gateway on a real socket, its engine the double at vLLM's HTTP line."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.feedback.interactions import Interaction, InteractionLog
from hub.home import Home
from hub.publish import publish
from hub.records import Base, Version
from hub.registry import Registry
from hub.store import Store
from serve.app import Parts, make_app
from serve.doors.listen import address, listen, make_server
from serve.engines.base import Engine
from serve.engines.spec import EngineSpec
from serve.placement.residency import Residency
from serve.run import make_engines, opened
from serve.settings import Settings
from tests.conftest import acts, adapter_config, adapter_tensors, write_adapter
from tests.serve.engine_double import EngineDouble

Publish = Callable[..., Version]
MESSAGES = [{"role": "user", "content": "Hello"}]


@dataclass
class Gateway:
    url: str
    http: httpx.AsyncClient
    parts: Parts
    home: Home

    @property
    def engine(self) -> Engine:
        """The first one, as `residency`."""
        return self.parts.fleet.members[0].engine

    @property
    def residency(self) -> Residency:
        adapters = self.parts.fleet.members[0].adapters
        assert isinstance(adapters, Residency)
        return adapters

    async def chat(self, model: str, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": MESSAGES, **more}
        return await self.http.post("/v1/chat/completions", json=body)

    async def stream(self, model: str, path: str = "/v1/chat/completions", **more: Any) -> bytes:
        """The raw bytes of a streamed answer."""
        body = {"model": model, "messages": MESSAGES, "prompt": "Hello", "stream": True, **more}
        return (await self.http.post(path, json=body)).content

    def logged(self) -> list[Interaction]:
        """Newest first, read by a connection of its own."""
        with InteractionLog.open(self.home) as log:
            return log.newest(100)

    async def logged_soon(self, count: int = 1) -> list[Interaction]:
        """For records that are written after the client has gone."""
        await until(lambda: len(self.logged()) >= count)
        return self.logged()


async def until(condition: Callable[[], object], limit_s: float = 20) -> None:
    """Poll for what other threads and processes do: there is no event to wait for."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    home: Home, settings: Settings, engines: Sequence[Engine]
) -> AsyncIterator[Gateway]:
    listener = listen("127.0.0.1", 0)
    url = address(listener)
    async with opened(home, settings, engines, acts) as parts:
        server = make_server(make_app(parts, settings))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await parts.fleet.start()
            parts.warmth.start(parts.journal)
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                yield Gateway(url, http, parts, home)
        finally:
            await parts.fleet.stop()
            server.should_exit = True
            await serving
            with contextlib.suppress(OSError):
                listener.close()


@pytest.fixture
def double() -> Iterator[EngineDouble]:
    with EngineDouble() as double:
        yield double


@pytest.fixture
def settings(base: Base, double: EngineDouble) -> Settings:
    return Settings(
        base=base,
        engines_elsewhere=(EngineSpec(double.url),),
        max_loras=2,
        max_cpu_loras=4,
        request_timeout_s=10,
    )


@pytest.fixture
async def gateway(home: Home, settings: Settings) -> AsyncIterator[Gateway]:
    async with running(home, settings, make_engines(home, settings)) as gateway:
        yield gateway


@pytest.fixture
def published(registry: Registry, store: Store, base: Base, tmp_path: Path) -> Publish:
    """`published("support")` adds a version with weights of its own."""
    made = 0

    def add(name: str, on: Base | None = None) -> Version:
        nonlocal made
        made += 1
        config = adapter_config(base_model_name_or_path=(on or base).name)
        folder = write_adapter(tmp_path / f"made-{made}", adapter_tensors(seed=made), config)
        version, new = publish(
            registry, store, name, folder, on or base, measure_effect=acts, lineage={}
        )
        assert new
        return version

    return add
