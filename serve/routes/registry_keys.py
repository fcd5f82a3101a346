"""API keys over HTTP: the only answer that holds a secret is that to the key's making."""

from fastapi import APIRouter
from starlette.responses import Response

from hub.facts import KeyFacts, KeyWanted, NewKey
from serve.caller import needs
from serve.hubs import Hubs
from serve.requests.answers import OrjsonResponse
from serve.routes.asking import Who

# Neither the list nor a secret is for any cache.
_NOT_KEPT = {"cache-control": "no-store"}


def key_routes(hubs: Hubs) -> APIRouter:
    router = APIRouter(dependencies=[needs("admin", everything=True)])

    @router.get("/keys", summary="Every API key that ever was", response_model=list[KeyFacts])
    async def keys() -> Response:
        found = await hubs.read(lambda hub: hub.keys())
        return OrjsonResponse(found, headers=_NOT_KEPT)

    @router.post(
        "/keys",
        status_code=201,
        summary="Make an API key; its secret is in this answer and nowhere else",
        response_model=NewKey,
    )
    async def create(who: Who, wanted: KeyWanted) -> Response:
        made = await hubs.read(lambda hub: hub.create_key(wanted), who=who)
        return OrjsonResponse(made, 201, headers=_NOT_KEPT)

    @router.delete("/keys/{name_or_id}", summary="Revoke an API key", response_model=KeyFacts)
    async def revoke(who: Who, name_or_id: str) -> Response:
        return OrjsonResponse(await hubs.read(lambda hub: hub.revoke_key(name_or_id), who=who))

    return router
