"""Run a gateway until it is told to stop: socket first, then its engines; all of it ended after.

While engines start, HTTP answers already (/ready with 503). SIGINT, SIGTERM or SIGHUP begins the
end: nobody new is admitted, those inside have `drain_s` to finish, then the engines are stopped,
which ends what still streams with its error event, and last the sockets close. A second signal
skips the wait. An engine has a few seconds to end by itself before it is killed. After `drain_s`
and twenty seconds more the process ends, whatever it still waits for. However this ends, no engine
of ours is left: when even this process is killed, each engine's guard sees to it (only killing both
at once can leave vLLM's own children).
"""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import uvloop

from hub.home import Home
from hub.leases import Leases
from hub.publish import MeasureEffect
from hub.registry import Registry
from hub.store import Store
from serve.app import Parts, make_app
from serve.doors.listen import address, listen, make_server
from serve.engines import vllm
from serve.engines.base import Engine, EngineState
from serve.engines.remote import RemoteEngine
from serve.engines.spec import Loading
from serve.engines.supervisor import SupervisedEngine
from serve.hubs import Hubs
from serve.job_starter import JobStarter
from serve.journal import Journal
from serve.logs import log_to_stderr
from serve.placement.fleet import Adapters, Fleet, Member
from serve.placement.lazy_folder import LazyFolder
from serve.placement.lazy_residency import LazyResidency
from serve.placement.residency import Residency
from serve.placement.shelf import Shelf
from serve.requests.admission import Admission
from serve.resolver import Resolver
from serve.settings import Settings
from serve.signed import SignedOnly
from serve.stopping import ENDING_S, Told, end_within, first, signals
from serve.traces import traces_from
from serve.uploads import Uploads
from serve.views import Views
from serve.warmth import make_warmth

Announce = Callable[[str], None]
# What a collector that does not answer may cost at the end.
_LAST_SPANS_S = 3.0


def run_gateway(
    home: Home,
    settings: Settings,
    *,
    measure_effect: MeasureEffect,
    announce: Announce,
    engines: Sequence[Engine] = (),
    ending_s: float = ENDING_S,
) -> None:
    """Serve until a signal comes. Call it in the main thread.

    `measure_effect` is for what is published over HTTP; any thread may call it. `engines` take the
    place of those that the settings ask for. `ending_s` after the drain everything has to be over.

    Raises:
        AddressRefused: when the port is taken.
        EngineStartFailed: when an engine does not come up; it carries its last log lines.
        MissingExtra: when there is no vLLM to start.
    """
    home.require()
    engines = engines or make_engines(home, settings)
    listener = listen(settings.host, settings.port, keyed=settings.keyed)
    log_to_stderr(settings.log_format)
    with contextlib.closing(listener):
        uvloop.run(_serve(home, settings, measure_effect, engines, listener, announce, ending_s))


def make_engines(home: Home, settings: Settings) -> list[Engine]:
    """The engines that the settings ask for, not started. Raises MissingExtra, InvalidConfig."""
    limits = {"startup_s": settings.startup_timeout_s, "silence_s": settings.request_timeout_s}
    if settings.engines_elsewhere:
        return [
            RemoteEngine(spec.url.partition("://")[2], spec, settings.base, **limits)
            for spec in settings.engines_elsewhere
        ]
    launches = vllm.launches(settings)
    names = ["engine"] if len(launches) == 1 else [f"engine-{n + 1}" for n in range(len(launches))]
    return [
        SupervisedEngine(name, launch, engine_log(home, name), **limits)
        for name, launch in zip(names, launches, strict=True)
    ]


def engine_log(home: Home, name: str) -> Path:
    """Where an engine's output goes; the previous run's is beside it with `.1`."""
    return home.logs / f"{name}.log"


@asynccontextmanager
async def opened(
    home: Home, settings: Settings, engines: Sequence[Engine], measure_effect: MeasureEffect
) -> AsyncIterator[Parts]:
    """What a gateway stands on, open; starting and stopping the fleet is the caller's."""
    traces = traces_from(os.environ)
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(Registry.open(home))
        fenced = stack.enter_context(Registry.open(home))
        store = Store.of(registry)
        leases = stack.enter_context(contextlib.closing(Leases.open(home)))
        shelf = stack.enter_context(contextlib.closing(Shelf(home, store, leases)))
        fleet = Fleet([Member(engine, _adapters(engine, shelf, settings)) for engine in engines])
        signed = SignedOnly(registry, settings.signed_by)
        resolver = Resolver(Views(registry, fenced), settings.base, signed)
        warmth = make_warmth(fleet, resolver.resolve, settings.pins)
        journal = await asyncio.to_thread(Journal.open, home)
        hubs = Hubs.of(home, measure_effect)
        jobs = JobStarter(home, hubs)
        try:
            uploads = Uploads(home)
            yield Parts(
                registry, fleet, journal, traces, Admission(), hubs, uploads, fenced, warmth, jobs
            )
        finally:
            await jobs.close()
            await warmth.close()
            await fleet.close()
            await asyncio.to_thread(journal.close)
            await asyncio.to_thread(hubs.close)
            await asyncio.to_thread(traces.close, _LAST_SPANS_S)


def _adapters(engine: Engine, shelf: Shelf, settings: Settings) -> Adapters:
    if engine.loads is Loading.EXPLICIT:
        return Residency(
            engine,
            shelf.take,
            max_cpu_loras=settings.max_cpu_loras,
            max_loras=settings.max_loras,
            let_go=shelf.put_back,
            find=shelf.find,
        )
    assert isinstance(engine, RemoteEngine)
    assert settings.adapter_folder is not None
    # Its own name of the base is known only once it has answered; one folder for each such name
    # remembers what it has compared.
    folder = cache(partial(LazyFolder, settings.adapter_folder))
    return LazyResidency(engine, shelf.take, shelf.put_back, lambda: folder(engine.base_root).offer)


async def _serve(
    home: Home,
    settings: Settings,
    measure_effect: MeasureEffect,
    engines: Sequence[Engine],
    listener: socket.socket,
    announce: Announce,
    ending_s: float,
) -> None:
    where = address(listener)
    async with opened(home, settings, engines, measure_effect) as parts:
        server = make_server(make_app(parts, settings))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        with signals() as told:
            try:
                announce(_starting(home, settings, engines))
                if await _unless(told.stop, parts.fleet.start()):
                    _settle_memory()
                    parts.warmth.start(parts.journal)
                    parts.jobs.start()
                    announce(f"ready: {where}/v1  console: {where}/console/")
                    await first(told.stop.wait(), serving)
                    announce("stopping …")
            finally:
                end_within(settings.drain_s + ending_s)
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
    if parts.fleet.state is EngineState.READY:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_s):
                await first(parts.admission.drained(), told.hurry.wait())
    await parts.fleet.stop()


def _starting(home: Home, settings: Settings, engines: Sequence[Engine]) -> str:
    if settings.engines_elsewhere:
        urls = ", ".join(spec.url for spec in settings.engines_elsewhere)
        return f"looking for {_engines(len(engines))} at {urls} …"
    logs = ", ".join(str(engine_log(home, engine.name)) for engine in engines)
    what = "vLLM" if len(engines) == 1 else f"{len(engines)} of vLLM"
    whose = "its log" if len(engines) == 1 else "their logs"
    return f"starting {what} with the base '{settings.base.name}' … ({whose}: {logs})"


def _engines(count: int) -> str:
    return "the engine" if count == 1 else f"{count} engines"


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
