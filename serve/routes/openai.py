"""OpenAI's endpoints: chat, completions, models."""

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.answers import OrjsonResponse
from serve.arrivals import notes
from serve.catalog import Catalog
from serve.forward import PATHS, Forwarder
from serve.resolver import Resolver


class _Forwarded:
    """An ASGI endpoint, since FastAPI's own reading and validating of a request, which is vLLM's
    business here, costs as much as all the rest of the way in."""

    def __init__(self, forwarder: Forwarder, endpoint: str) -> None:
        self._forwarder = forwarder
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        answer = self._forwarder.answer(self._endpoint, body, notes(scope))
        await answer(scope, receive, send)


def openai_routes(forwarder: Forwarder, catalog: Catalog, resolver: Resolver) -> APIRouter:
    router = APIRouter(tags=["openai"], default_response_class=OrjsonResponse)
    for endpoint, path in PATHS.items():
        router.add_route(path, _Forwarded(forwarder, endpoint), methods=["POST"])  # type: ignore[arg-type]

    @router.get("/v1/models")
    async def models() -> Response:
        return OrjsonResponse({"object": "list", "data": catalog.models()})

    @router.get("/v1/models/{reference:path}")
    async def model(reference: str) -> Response:
        return OrjsonResponse(catalog.entry(reference, resolver.resolve(reference)))

    return router
