"""The FastAPI app, made from its parts. Nothing is opened, started or stopped here."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.types import ASGIApp

from hub.registry import Registry
from serve import failures
from serve.ab import Comparisons
from serve.admission import Admission
from serve.answers import OrjsonResponse
from serve.catalog import Catalog
from serve.dispatch import Dispatcher
from serve.doors import Doors
from serve.engines.base import Engine
from serve.forward import Forwarder
from serve.journal import Journal
from serve.page import mount_console
from serve.residency import Residency
from serve.resolver import Resolver
from serve.routes.adapters import adapter_routes
from serve.routes.comparisons import comparison_routes
from serve.routes.feedback import feedback_routes
from serve.routes.health import health_routes
from serve.routes.openai import openai_routes
from serve.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What a gateway stands on; whoever makes them closes them (`serve.run.opened`)."""

    registry: Registry
    engine: Engine
    residency: Residency
    journal: Journal
    admission: Admission


def make_app(parts: Parts, settings: Settings) -> ASGIApp:
    """The whole HTTP surface, behind its doors.

    The registry belongs to the calling thread: make the app where the event loop runs.
    """
    resolver = Resolver(parts.registry, settings.base)
    dispatcher = Dispatcher(parts.engine, parts.residency, timeout_s=settings.request_timeout_s)
    forwarder = Forwarder(resolver, dispatcher, parts.journal, parts.admission)
    comparisons = Comparisons(resolver, dispatcher, parts.journal, parts.admission)
    app = FastAPI(
        title="Loom",
        # The pages at /docs load their scripts from elsewhere; /openapi.json is all ours.
        docs_url=None,
        redoc_url=None,
        default_response_class=OrjsonResponse,
    )
    failures.install(app)
    app.include_router(health_routes(parts.engine, parts.admission))
    app.include_router(openai_routes(forwarder, Catalog(parts.registry, settings.base), resolver))
    app.include_router(adapter_routes(parts.registry, settings.base, parts.residency))
    app.include_router(feedback_routes(parts.journal))
    app.include_router(comparison_routes(comparisons))
    mount_console(app)
    return Doors(app, max_body_bytes=settings.max_body_bytes)
