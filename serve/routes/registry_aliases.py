"""Aliases: where they point, moving them, taking moves back, and the history of all of it."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.facts import AliasFacts
from hub.local import LocalHub
from hub.records import AliasMove
from serve.caller import needs
from serve.hubs import Hubs
from serve.paging import AskedPage, Page
from serve.protocol import AliasIn, RollbackIn
from serve.requests.answers import OrjsonResponse, tagged
from serve.routes.asking import Who


def alias_routes(hubs: Hubs) -> APIRouter:
    router = APIRouter(dependencies=[needs("infer")])

    @router.get("/aliases", summary="The aliases of all adapters", response_model=Page[AliasFacts])
    async def all_aliases(request: Request, asked: AskedPage) -> Response:
        return await _list(request, hubs, asked, None)

    @router.get(
        "/adapters/{name:path}/-/aliases",
        summary="An adapter's aliases",
        response_model=Page[AliasFacts],
    )
    async def aliases(request: Request, name: str, asked: AskedPage) -> Response:
        return await _list(request, hubs, asked, name)

    @router.put(
        "/adapters/{name:path}/-/aliases/{alias}",
        summary="Point an alias at a version (promote)",
        response_model=AliasMove,
        dependencies=[needs("admin")],
    )
    async def move(who: Who, name: str, alias: str, given: AliasIn) -> Response:
        reference = name if given.to is None else f"{name}@{given.to}"

        def act(hub: LocalHub) -> AliasMove:
            doing = hub.promote if given.action == "promote" else hub.set_alias
            return doing(reference, alias, expect=given.expect, force=given.force, why=given.why)

        return OrjsonResponse(await hubs.read(act, who=who))

    @router.delete(
        "/adapters/{name:path}/-/aliases/{alias}",
        summary="Take an alias away",
        response_model=AliasMove,
        dependencies=[needs("admin")],
    )
    async def remove(who: Who, name: str, alias: str, why: str = "") -> Response:
        move = await hubs.read(lambda hub: hub.remove_alias(name, alias, why=why), who=who)
        return OrjsonResponse(move)

    return router


def history_routes(hubs: Hubs) -> APIRouter:
    router = APIRouter(dependencies=[needs("infer")])

    @router.post(
        "/adapters/{name:path}/-/rollback",
        summary="Point production back at an earlier version",
        response_model=AliasMove,
        dependencies=[needs("admin")],
    )
    async def rollback(who: Who, name: str, given: RollbackIn) -> Response:
        move = await hubs.read(lambda hub: hub.rollback(name, to=given.to, why=given.why), who=who)
        return OrjsonResponse(move)

    @router.get(
        "/adapters/{name:path}/-/history",
        summary="Every move of an adapter's aliases (or of one), newest first",
        response_model=Page[AliasMove],
    )
    async def history(
        request: Request, name: str, asked: AskedPage, alias: str | None = None
    ) -> Response:
        below = asked.number()
        found = await hubs.read(
            lambda hub: hub.moves(name, alias, below=below, limit=asked.limit + 1)
        )
        page = asked.page(found, lambda row: row[0])
        shown = Page([move for _, move in page.items], page.next)
        return tagged(request, shown, headers=asked.headers(page))

    return router


def protection_routes(hubs: Hubs) -> APIRouter:
    """Alias names that only a version with the gate's PASS may take, in every adapter."""
    router = APIRouter(dependencies=[needs("infer")])

    @router.get("/protected-aliases", summary="The protected alias names", response_model=list[str])
    async def protected(request: Request) -> Response:
        names = await hubs.read(lambda hub: hub.registry.aliases.protected())
        return tagged(request, names)

    @router.put(
        "/protected-aliases/{alias}",
        summary="Protect an alias name in every adapter",
        dependencies=[needs("admin")],
    )
    async def protect(alias: str) -> list[str]:
        return await hubs.read(lambda hub: hub.protect(alias, protected=True))

    @router.delete(
        "/protected-aliases/{alias}",
        summary="Stop to protect an alias name",
        dependencies=[needs("admin")],
    )
    async def unprotect(alias: str) -> list[str]:
        return await hubs.read(lambda hub: hub.protect(alias, protected=False))

    return router


async def _list(request: Request, hubs: Hubs, asked: AskedPage, name: str | None) -> Response:
    after = asked.text()
    found = await hubs.read(lambda hub: hub.aliases(name))
    rest = [facts for facts in found if _key(facts) > after]
    page = asked.page(rest, _key)
    return tagged(request, page, headers=asked.headers(page))


def _key(facts: AliasFacts) -> str:
    """Sorts as the list is sorted: a space comes before everything that a name may hold."""
    return f"{facts.adapter} {facts.alias}"
