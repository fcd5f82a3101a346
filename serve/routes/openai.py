"""OpenAI's endpoints: chat, completions, models."""

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.errors import HubError
from serve.answers import OrjsonResponse
from serve.arrivals import notes
from serve.catalog import Catalog
from serve.failures import answer_to
from serve.forward import PATHS, Forwarder
from serve.resolver import Resolver
from serve.running import Running


class Express:
    """Takes what is forwarded straight to its handler, and leaves everything else to the app.

    FastAPI's layers would cost such a request as much as all that the gateway does before it is
    sent on, and have nothing to do for it: vLLM validates it, and its errors are answered here.
    """

    def __init__(self, app: ASGIApp, straight: Mapping[str, "Forwarded"]) -> None:
        self._app = app
        self._straight = straight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["method"] == "POST":
            app = self._straight.get(scope["path"], app)
        await app(scope, receive, send)


class Forwarded:
    """An endpoint whose requests go to the engine as they are."""

    def __init__(self, forwarder: Forwarder, endpoint: str) -> None:
        self._forwarder = forwarder
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        running: Running | None = None
        try:
            body = await _body(receive)
            running = self._forwarder.answer(self._endpoint, body, notes(scope))
            await running(scope, receive, send)
        except Exception as error:  # whatever it is, the client gets it in OpenAI's shape
            if running is not None and running.started:
                raise
            await answer_to(scope["method"], scope["path"], error)(scope, receive, send)
            if not isinstance(error, HubError):
                raise


async def _body(receive: Receive) -> bytes:
    """The whole of it; the doors have seen to its size."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def forwarded(forwarder: Forwarder) -> dict[str, Forwarded]:
    """By path."""
    return {path: Forwarded(forwarder, endpoint) for endpoint, path in PATHS.items()}


def openai_routes(
    straight: Mapping[str, Forwarded], catalog: Catalog, resolver: Resolver
) -> APIRouter:
    router = APIRouter(tags=["openai"], default_response_class=OrjsonResponse)
    for path, endpoint in straight.items():
        # The way of what is no POST: to a 405.
        router.routes.append(Route(path, endpoint, methods=["POST"], include_in_schema=False))

    @router.get("/v1/models")
    async def models() -> Response:
        return OrjsonResponse({"object": "list", "data": catalog.models()})

    @router.get("/v1/models/{reference:path}")
    async def model(reference: str) -> Response:
        return OrjsonResponse(catalog.entry(reference, resolver.resolve(reference)))

    return router
