"""What is forwarded to an engine (`serve.requests.surface`), the models, and what is not kept.

Absent on purpose: stored responses. A response lives in the engine that made it, and nowhere else.
"""

from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.apikeys import INFER
from hub.errors import HubError
from serve.caller import caller, needs
from serve.catalog import Catalog
from serve.doors.arrivals import notes
from serve.failures import answer_to, refusal
from serve.requests.answers import OrjsonResponse
from serve.requests.forward import Forwarder
from serve.requests.running import Running
from serve.requests.surface import ROUTES
from serve.resolver import Resolver
from serve.traces import Trace

_ANY = ["GET", "POST", "DELETE"]


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
    """A path whose requests go to the engine as they are."""

    def __init__(self, forwarder: Forwarder, path: str, endpoint: str) -> None:
        self._forwarder = forwarder
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._forwarder.traces.request(self._path, scope["headers"]) as trace:
            await self._answer(scope, receive, send, trace)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        running: Running | None = None
        try:
            caller.get().require(INFER)
            body = await _body(receive)
            running = self._forwarder.answer(self._path, self._endpoint, body, notes(scope), trace)
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
    return {path: Forwarded(forwarder, path, endpoint) for path, endpoint in ROUTES.items()}


def openai_routes(
    straight: Mapping[str, Forwarded], catalog: Catalog, resolver: Resolver
) -> APIRouter:
    router = APIRouter(
        tags=["openai"], default_response_class=OrjsonResponse, dependencies=[needs("infer")]
    )
    for path, endpoint in straight.items():
        # The way of what is no POST: to a 405.
        router.routes.append(Route(path, endpoint, methods=["POST"], include_in_schema=False))

    @router.get("/v1/models")
    async def models() -> Response:
        return OrjsonResponse({"object": "list", "data": catalog.models()})

    @router.get("/v1/models/{reference:path}")
    async def model(reference: str) -> Response:
        return OrjsonResponse(catalog.entry(reference, resolver.resolve(reference)))

    @router.api_route("/v1/responses/{rest:path}", methods=_ANY, include_in_schema=False)
    async def stored_response(rest: str) -> Response:
        return refusal(
            404,
            "responses_not_stored",
            "responses are not stored: take the answer of POST /v1/responses, "
            "and send what was said before in `input`",
        )

    return router
