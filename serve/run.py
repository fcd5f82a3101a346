"""Run a gateway until it is told to stop: socket first, then the engine, and all of it ended after.

While the engine starts, HTTP answers already (/ready with 503). SIGINT, SIGTERM or SIGHUP begins
the end: nobody new is admitted, those inside have `drain_s` to finish, then the engine is stopped,
which ends what still streams with its error event, and last the sockets close. A second signal
skips the wait. However this ends, no engine of ours is left: when even this process is killed, the
engine's guard sees to it (only killing both at once can leave vLLM's own children).
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from hub.home import Home
from hub.publish import servable_folder
from hub.records import Version
from hub.registry import Registry
from hub.store import Store
from serve.admission import Admission
from serve.app import Parts, make_app
from serve.engines import vllm
from serve.engines.base import Engine, EngineState
from serve.engines.remote import RemoteEngine
from serve.engines.supervisor import SupervisedEngine
from serve.journal import Journal
from serve.listen import address, listen, make_server
from serve.residency import Residency
from serve.settings import Settings

ENGINE_NAME = "engine"
Announce = Callable[[str], None]


def run_gateway(
    home: Home, settings: Settings, *, announce: Announce, engine: Engine | None = None
) -> None:
    """Serve until a signal comes. Call it in the main thread.

    `engine` takes the place of the one that the settings ask for.

    Raises:
        AddressRefused: when the port is taken.
        EngineStartFailed: when the engine does not come up; it carries its last log lines.
        MissingExtra: when there is no vLLM to start.
    """
    home.require()
    engine = engine or make_engine(home, settings)
    listener = listen(settings.host, settings.port)
    _log_to_stderr()
    with contextlib.closing(listener):
        uvloop.run(_serve(home, settings, engine, listener, announce))


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
async def opened(home: Home, settings: Settings, engine: Engine) -> AsyncIterator[Parts]:
    """What a gateway stands on, open; the engine's start and stop are the caller's."""
    store = Store(home)

    def servable(version: Version) -> Path:
        return servable_folder(store, version)

    residency = Residency(engine, servable, max_cpu_loras=settings.max_cpu_loras)
    with Registry.open(home) as registry:
        journal = await asyncio.to_thread(Journal.open, home)
        try:
            yield Parts(registry, engine, residency, journal, Admission())
        finally:
            await residency.close()
            await asyncio.to_thread(journal.close)


async def _serve(
    home: Home, settings: Settings, engine: Engine, listener: socket.socket, announce: Announce
) -> None:
    where = address(listener)
    async with opened(home, settings, engine) as parts:
        server = make_server(make_app(parts, settings))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        with _signals() as told:
            try:
                announce(_starting(home, settings))
                if await _unless(told.stop, engine.start()):
                    announce(f"ready: {where}/v1  console: {where}/console/")
                    await _first(told.stop.wait(), serving)
                    announce("stopping …")
            finally:
                await _wind_up(parts, settings, told)
                server.should_exit = True
                server.force_exit = told.hurry.is_set()
                await serving


async def _wind_up(parts: Parts, settings: Settings, told: "_Told") -> None:
    parts.admission.close()
    if parts.engine.state is EngineState.READY:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_s):
                await _first(parts.admission.drained(), told.hurry.wait())
    await parts.engine.stop()


def _starting(home: Home, settings: Settings) -> str:
    if settings.engine_url is not None:
        return f"looking for the engine at {settings.engine_url} …"
    log = engine_log(home)
    return f"starting vLLM with the base '{settings.base.name}' … (its log: {log})"


class _Told:
    """What signals said: one is `stop`, a second is `hurry`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def again(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


@contextmanager
def _signals() -> Iterator[_Told]:
    told = _Told()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    # Under nohup it is ignored, and has to stay so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, told.again)
    try:
        yield told
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` to its end, or cancel it when told to stop; tells which."""
    working = asyncio.create_task(work)
    try:
        await _first(stop.wait(), working)
    finally:
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    if working.cancelled():
        return False
    working.result()
    return True


async def _first(one: Coroutine[Any, Any, Any], other: Awaitable[Any]) -> None:
    """Until either is done. A task given as `other` goes on; coroutines are cancelled."""
    own = [asyncio.ensure_future(one)]
    waited = asyncio.ensure_future(other)
    if waited is not other:
        own.append(waited)
    try:
        await asyncio.wait({own[0], waited}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()


def _log_to_stderr() -> None:
    """Warnings and errors, one line each; leaves a logging that is set up already alone."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
