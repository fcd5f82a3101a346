"""A server without an engine, which keeps the registry for others: `hub serve --registry-only`.

It needs neither vLLM nor a base. `/hub/adapters…` is the same as a gateway's; what needs an engine
says plainly that there is none.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvloop
from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import ASGIApp

from hub.home import Home
from hub.publish import MeasureEffect
from hub.registry import Registry
from serve.app import bare_app
from serve.caller import needs
from serve.doors.access import Access
from serve.doors.arrivals import Arrivals
from serve.doors.doors import Doors
from serve.doors.keyring import Keyring
from serve.doors.listen import address, listen, make_server
from serve.failures import refusal
from serve.hubs import Hubs
from serve.logs import log_to_stderr
from serve.requests.answers import OrjsonResponse
from serve.requests.surface import ROUTES
from serve.routes.registry import registry_routes
from serve.settings import RegistrySettings
from serve.stopping import ENDING_S, end_within, first, signals
from serve.uploads import Uploads

_METHODS = ["GET", "POST", "PUT", "DELETE"]


def run_registry(
    home: Home,
    settings: RegistrySettings,
    *,
    measure_effect: MeasureEffect,
    announce: Callable[[str], None],
) -> None:
    """Serve until a signal comes. Call it in the main thread.

    Raises:
        NoHome: when there is no hub.
        AddressRefused: when the port is taken.
    """
    home.require()
    hubs = Hubs.of(home, measure_effect)
    listener = listen(settings.host, settings.port, keyed=settings.keyed)
    log_to_stderr(settings.log_format)
    with (
        contextlib.closing(listener),
        contextlib.closing(hubs),
        # The event loop will run in this thread.
        Registry.open(home) as registry,
    ):
        app = make_registry_app(registry, hubs, Uploads(home), settings)
        uvloop.run(_serve(app, listener, announce))


def make_registry_app(
    registry: Registry, hubs: Hubs, uploads: Uploads, settings: RegistrySettings
) -> ASGIApp:
    """`registry` is for looking at the API keys; the thread that serves looks at it."""
    app = bare_app()
    app.include_router(_answering())
    app.include_router(registry_routes(hubs, uploads, None, settings.signed_by))
    doors = Doors(
        app, max_body_bytes=settings.max_body_bytes, max_blob_bytes=settings.max_blob_bytes
    )
    keyring = Keyring(registry, required=settings.require_keys or settings.keyed)
    return Arrivals(Access(doors, keyring, lambda _: None))  # it has no /metrics


def _answering() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", summary="The server lives", dependencies=[needs(None)])
    async def health() -> Response:
        return OrjsonResponse({"status": "ok"})

    @router.get("/ready", summary="The server answers", dependencies=[needs(None)])
    async def ready() -> Response:
        return OrjsonResponse({"state": "ready", "engine": None})

    async def no_engine() -> Response:
        return refusal(
            404,
            "no_engine",
            "this server keeps the registry and has no engine (it runs with --registry-only)."
            " Ask one that was started with `hub serve` alone",
        )

    for path in ("/v1/{path:path}", *(path for path in ROUTES if not path.startswith("/v1/"))):
        router.add_api_route(
            path,
            no_engine,
            methods=_METHODS,
            include_in_schema=False,
            dependencies=[needs("infer")],
        )
    return router


async def _serve(app: ASGIApp, listener: socket.socket, announce: Callable[[str], None]) -> None:
    where = address(listener)
    server = make_server(app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    with signals() as told:
        announce(f"ready: {where}  (the registry only; use it with --hub {where})")
        await first(told.stop.wait(), serving)
        announce("stopping …")
        end_within(ENDING_S)
        server.should_exit = True
        await serving
