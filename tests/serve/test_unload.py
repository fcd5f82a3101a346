"""Unloading what is in use."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from hub.home import Home
from hub.records import Base
from serve.engines.spec import EngineSpec
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import Gateway, Publish, running, until
from tests.serve.engine_double import EngineDouble

ADAPTERS = 100
MANY = httpx.Limits(max_connections=None)


@pytest.fixture
async def roomy(home: Home, base: Base, double: EngineDouble) -> AsyncIterator[Gateway]:
    settings = Settings(
        base=base,
        engines_elsewhere=(EngineSpec(double.url),),
        max_loras=ADAPTERS,
        max_cpu_loras=ADAPTERS + 1,
        request_timeout_s=30,
    )
    async with running(home, settings, make_engines(home, settings)) as gateway:
        yield gateway


async def test_a_hundred_adapters_are_unloaded_while_they_stream_and_no_stream_notices(
    roomy: Gateway, double: EngineDouble, published: Publish
) -> None:
    """Nothing is unloaded before its stream's last token, and all of it after."""
    names = [published(f"task-{number:03}").engine_name for number in range(ADAPTERS)]
    double.hold.clear()
    # The streams take all connections that one client may have.
    async with httpx.AsyncClient(base_url=roomy.url, timeout=30, limits=MANY) as http:
        streams = [asyncio.create_task(roomy.stream(public(name))) for name in names]
        await until(lambda: double.streaming == ADAPTERS)
        path = "/hub/residency/unload"
        unloads = [
            asyncio.create_task(http.post(path, json={"adapter": public(name)})) for name in names
        ]
        # Each is being drained, and still there.
        await until(lambda: all(r.state == "draining" for r in roomy.residency.residents()))
        assert len(double.loaded) == ADAPTERS
        assert double.unloads == []
        double.hold.set()
        streamed = await asyncio.gather(*streams)
        responses = await asyncio.gather(*unloads)

    for name, stream in zip(names, streamed, strict=True):
        assert public(name).encode() in stream
        assert b'"error"' not in stream
        assert stream.endswith(b"data: [DONE]\n\n")
    assert [response.status_code for response in responses] == [200] * ADAPTERS
    assert double.loaded == {}
    assert sorted(double.unloads) == sorted(names)
    assert roomy.residency.residents() == []
    assert double.aborted == 0


def public(engine_name: str) -> str:
    return engine_name.partition("#")[0]
