"""OpenAI's endpoints: chat, completions, models."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from serve.answers import OrjsonResponse
from serve.catalog import Catalog
from serve.forward import Forwarder
from serve.resolver import Resolver


def openai_routes(forwarder: Forwarder, catalog: Catalog, resolver: Resolver) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["openai"], default_response_class=OrjsonResponse)

    @router.post("/chat/completions")
    async def chat(request: Request) -> Response:
        return forwarder.answer("chat", await request.body())

    @router.post("/completions")
    async def completions(request: Request) -> Response:
        return forwarder.answer("completions", await request.body())

    @router.get("/models")
    async def models() -> Response:
        return OrjsonResponse({"object": "list", "data": catalog.models()})

    @router.get("/models/{reference:path}")
    async def model(reference: str) -> Response:
        return OrjsonResponse(catalog.entry(reference, resolver.resolve(reference)))

    return router
