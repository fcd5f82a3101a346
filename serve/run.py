"""Run a gateway until it is told to stop: socket first, then the engine, and all of it ended after.

While the engine starts, HTTP answers already (/ready with 503). SIGINT, SIGTERM or SIGHUP begins
the end: nobody new is admitted, those inside have `drain_s` to finish, then the engine is stopped,
which ends what still streams with its error event, and last the sockets close. A second signal
skips the wait. However this ends, no engine of ours is left: when even this process is killed, the
engine's guard sees to it (only killing both at once can leave vLLM's own children).
"""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from hub.home import Home
from hub.leases import Leases
from hub.publish import MeasureEffect
from hub.registry import Registry
from hub.store import Store
from serve.admission import Admission
from serve.app import Parts, make_app
from serve.engines import vllm
from serve.engines.base import Engine, EngineState
from serve.engines.remote import RemoteEngine
from serve.engines.supervisor import SupervisedEngine
from serve.hubs import Hubs
from serve.journal import Journal
from serve.listen import address, listen, make_server
from serve.logs import log_to_stderr
from serve.residency import Residency
from serve.settings import Settings
from serve.shelf import Shelf
from serve.stopping import Told, first, signals
from serve.uploads import Uploads

ENGINE_NAME = "engine"
Announce = Callable[[str], None]


def run_gateway(
    home: Home,
    settings: Settings,
    *,
    measure_effect: MeasureEffect,
    announce: Announce,
    engine: Engine | None = None,
) -> None:
    """Serve until a signal comes. Call it in the main thread.

    `measure_effect` is for what is published over HTTP; any thread may call it. `engine` takes the
    place of the one that the settings ask for.

    Raises:
        AddressRefused: when the port is taken.
        EngineStartFailed: when the engine does not come up; it carries its last log lines.
        MissingExtra: when there is no vLLM to start.
    """
    home.require()
    engine = engine or make_engine(home, settings)
    listener = listen(settings.host, settings.port)
    log_to_stderr(settings.log_format)
    with contextlib.closing(listener):
        uvloop.run(_serve(home, settings, measure_effect, engine, listener, announce))


def make_engine(home: Home, settings: Settings) -> Engine:
    """The engine that the settings ask for, not started. Raises MissingExtra."""
    limits = {"startup_s": settings.startup_timeout_s, "silence_s": settings.request_timeout_s}
    if settings.engine_url is not None:
        return RemoteEngine(ENGINE_NAME, settings.engine_url, settings.base, **limits)
    return SupervisedEngine(ENGINE_NAME, vllm.launch(settings), engine_log(home), **limits)


def engine_log(home: Home) -> Path:
    """Where the engine's output goes; the previous run's is beside it with `.1`."""
    return home.logs / f"{ENGINE_NAME}.log"


@asynccontextmanager
async def opened(
    home: Home, settings: Settings, engine: Engine, measure_effect: MeasureEffect
) -> AsyncIterator[Parts]:
    """What a gateway stands on, open; the engine's start and stop are the caller's."""
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(Registry.open(home))
        store = Store.of(registry)
        leases = stack.enter_context(contextlib.closing(Leases.open(home)))
        shelf = Shelf(home, store, leases)
        residency = Residency(
            engine, shelf.take, max_cpu_loras=settings.max_cpu_loras, let_go=shelf.put_back
        )
        journal = await asyncio.to_thread(Journal.open, home)
        hubs = Hubs.of(home, measure_effect)
        try:
            yield Parts(registry, engine, residency, journal, Admission(), hubs, Uploads(home))
        finally:
            await residency.close()
            await asyncio.to_thread(journal.close)
            await asyncio.to_thread(hubs.close)


async def _serve(
    home: Home,
    settings: Settings,
    measure_effect: MeasureEffect,
    engine: Engine,
    listener: socket.socket,
    announce: Announce,
) -> None:
    where = address(listener)
    async with opened(home, settings, engine, measure_effect) as parts:
        server = make_server(make_app(parts, settings))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        with signals() as told:
            try:
                announce(_starting(home, settings))
                if await _unless(told.stop, engine.start()):
                    _settle_memory()
                    announce(f"ready: {where}/v1  console: {where}/console/")
                    await first(told.stop.wait(), serving)
                    announce("stopping …")
            finally:
                await _wind_up(parts, settings, told)
                server.should_exit = True
                server.force_exit = told.hurry.is_set()
                await serving


def _settle_memory() -> None:
    """What is there by now stays for good: to look through it again in each full collection would
    stop every stream for tens of milliseconds."""
    gc.collect()
    gc.freeze()


async def _wind_up(parts: Parts, settings: Settings, told: Told) -> None:
    parts.admission.close()
    if parts.engine.state is EngineState.READY:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_s):
                await first(parts.admission.drained(), told.hurry.wait())
    await parts.engine.stop()


def _starting(home: Home, settings: Settings) -> str:
    if settings.engine_url is not None:
        return f"looking for the engine at {settings.engine_url} …"
    log = engine_log(home)
    return f"starting vLLM with the base '{settings.base.name}' … (its log: {log})"


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` to its end, or cancel it when told to stop; tells which."""
    working = asyncio.create_task(work)
    try:
        await first(stop.wait(), working)
    finally:
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if working.cancelled():
        return False
    working.result()
    return True
