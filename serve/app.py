"""The FastAPI app, made from its parts. Nothing is opened, started or stopped here."""

from dataclasses import dataclass
from importlib import metadata

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from hub.registry import Registry
from serve import failures
from serve.ab import Comparisons
from serve.catalog import Catalog
from serve.doors.access import Access, undeclared_is_admins
from serve.doors.arrivals import Arrivals
from serve.doors.doors import Doors
from serve.doors.keyring import Keyring
from serve.hubs import Hubs
from serve.job_starter import JobStarter
from serve.journal import Journal
from serve.metrics import Metrics
from serve.page import mount_console
from serve.placement.fleet import Fleet
from serve.placement.turns import Turns
from serve.requests.admission import Admission
from serve.requests.answers import OrjsonResponse
from serve.requests.dispatch import Dispatcher
from serve.requests.forward import Forwarder
from serve.resolver import Resolver
from serve.routes.comparisons import comparison_routes
from serve.routes.feedback import feedback_routes
from serve.routes.files import file_routes
from serve.routes.fine_tuning import fine_tuning_routes
from serve.routes.health import health_routes
from serve.routes.metrics import metrics_routes
from serve.routes.openai import Express, forwarded, openai_routes
from serve.routes.registry import registry_routes
from serve.routes.residency import residency_routes
from serve.settings import Settings
from serve.signed import SignedOnly
from serve.traces import Traces
from serve.uploads import Uploads
from serve.views import Views
from serve.warmth import Warmth


@dataclass(frozen=True)
class Parts:
    """What a gateway stands on; whoever makes them closes them (`serve.run.opened`).

    `fenced` is a second connection to the registry, for callers who may not see all of it.
    """

    registry: Registry
    fleet: Fleet
    journal: Journal
    traces: Traces
    admission: Admission
    hubs: Hubs
    uploads: Uploads
    fenced: Registry
    warmth: Warmth
    jobs: JobStarter


def make_app(parts: Parts, settings: Settings) -> ASGIApp:
    """The whole HTTP surface, behind its doors.

    The registry belongs to the calling thread: make the app where the event loop runs.
    """
    signed = SignedOnly(parts.registry, settings.signed_by)
    views = Views(parts.registry, parts.fenced)
    resolver = Resolver(views, settings.base, signed)
    catalog = Catalog(views, settings.base, signed)
    metrics = Metrics()
    turns = Turns(running=settings.max_running, waiting=settings.max_waiting)
    metrics.watch(parts.fleet, turns, parts.journal)
    dispatcher = Dispatcher(parts.fleet, turns, metrics, timeout_s=settings.request_timeout_s)
    forwarder = Forwarder(
        resolver, dispatcher, parts.journal, parts.admission, metrics, parts.traces
    )
    comparisons = Comparisons(resolver, dispatcher, parts.journal, parts.admission)
    straight = forwarded(forwarder)
    app = bare_app()
    app.include_router(health_routes(parts.fleet, parts.admission))
    app.include_router(openai_routes(straight, catalog, resolver))
    app.include_router(metrics_routes(metrics))
    app.include_router(residency_routes(settings.base, parts.warmth, resolver))
    app.include_router(
        registry_routes(parts.hubs, parts.uploads, settings.base, settings.signed_by)
    )
    app.include_router(file_routes(parts.hubs))
    app.include_router(fine_tuning_routes(parts.hubs, resolver, parts.jobs))
    app.include_router(feedback_routes(parts.journal))
    app.include_router(comparison_routes(comparisons))
    mount_console(app)
    doors = Doors(
        Express(app, straight),
        max_body_bytes=settings.max_body_bytes,
        max_blob_bytes=settings.max_blob_bytes,
        max_file_bytes=settings.max_file_bytes,
    )
    keyring = Keyring(parts.registry, required=settings.require_keys or settings.keyed)
    return Arrivals(Access(doors, keyring, metrics.turned_away))


def bare_app() -> FastAPI:
    """What every server of ours begins with: its errors in one shape, and /openapi.json."""
    app = FastAPI(
        title="Loom",
        version=metadata.version("lora-loom"),
        # The pages at /docs load their scripts from elsewhere; /openapi.json is all ours.
        docs_url=None,
        redoc_url=None,
        default_response_class=OrjsonResponse,
        dependencies=[Depends(undeclared_is_admins)],
    )
    failures.install(app)
    return app
