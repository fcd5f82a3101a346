"""Adapters and their versions: listing, looking up, deleting."""

from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.facts import Removed, Resolved, VersionFacts
from hub.local import LocalHub
from hub.names import parse_name
from hub.records import AdapterSummary, Base
from serve.caller import needs
from serve.hubs import Hubs
from serve.paging import AskedPage, Page
from serve.protocol import AdaptersOut, BaseOut
from serve.requests.answers import OrjsonResponse, tagged
from serve.routes.asking import Who


def listing_routes(hubs: Hubs, served: Base | None) -> APIRouter:
    """`served` is the base that this server's engine runs, None without an engine."""
    router = APIRouter(dependencies=[needs("infer")])
    base = BaseOut(name=served.name, digest=served.digest) if served else None

    @router.get("/adapters", summary="Every adapter, by name", response_model=AdaptersOut)
    async def adapters(request: Request, asked: AskedPage) -> Response:
        after = asked.text()
        found = await hubs.read(
            lambda hub: hub.registry.summaries(after=after, limit=asked.limit + 1)
        )
        page = asked.page(found, lambda summary: summary.name)
        shown = {"base": base.model_dump() if base else None, "items": page.items}
        return tagged(request, {**shown, "next": page.next}, headers=asked.headers(page))

    @router.get(
        "/adapters/{name:path}/-/versions",
        summary="An adapter's versions, newest first",
        response_model=Page[VersionFacts],
    )
    async def versions(request: Request, name: str, asked: AskedPage) -> Response:
        below = asked.number()
        found = await hubs.read(
            lambda hub: list(hub.versions(name, below=below, limit=asked.limit + 1))
        )
        page = asked.page([abroad(facts) for facts in found], lambda facts: facts.number)
        return tagged(request, page, headers=asked.headers(page))

    return router


def adapter_routes(hubs: Hubs) -> APIRouter:
    """To be included last: `{name}` takes whatever no other route wants."""
    router = APIRouter(dependencies=[needs("infer")])

    @router.get(
        "/adapters/{name:path}@{selector:path}",
        summary="One version: name@3, name@alias, name@sha256:…",
        response_model=VersionFacts,
    )
    async def version(request: Request, name: str, selector: str) -> Response:
        return await _show(request, hubs, f"{name}@{selector}")

    @router.delete(
        "/adapters/{name:path}@{selector:path}",
        summary="Delete a version that no alias names",
        response_model=Removed,
        dependencies=[needs("admin")],
    )
    async def delete_version(
        who: Who, name: str, selector: str, why: str = "", whole_adapter: bool = False
    ) -> Response:
        return await _delete(hubs, who, f"{name}@{selector}", whole_adapter, why)

    @router.get("/adapters/{name:path}", summary="One adapter", response_model=AdapterSummary)
    async def adapter(request: Request, name: str) -> Response:
        return tagged(request, await hubs.read(lambda hub: hub.registry.summary(parse_name(name))))

    @router.delete(
        "/adapters/{name:path}",
        summary="Delete an adapter with all of its versions and aliases",
        response_model=Removed,
        dependencies=[needs("admin")],
    )
    async def delete_adapter(
        who: Who, name: str, why: str = "", whole_adapter: bool = True
    ) -> Response:
        return await _delete(hubs, who, name, whole_adapter, why)

    return router


def reference_routes(hubs: Hubs) -> APIRouter:
    """What a reference means; a name alone means its production."""
    router = APIRouter(dependencies=[needs("infer")])

    @router.get(
        "/adapters/{reference:path}/-/version",
        summary="The version that a reference means; a name alone means its production",
        response_model=VersionFacts,
    )
    async def show(request: Request, reference: str) -> Response:
        return await _show(request, hubs, reference)

    @router.get(
        "/adapters/{reference:path}/-/resolve",
        summary="The exact version of a reference, now or at a time (ISO 8601)",
        response_model=Resolved,
    )
    async def resolve(request: Request, reference: str, at: str | None = None) -> Response:
        found = await hubs.read(lambda hub: hub.resolve(reference, at=at))
        return tagged(request, found, digest=found.digest)

    return router


def abroad(facts: VersionFacts) -> VersionFacts:
    """As other machines see it: places on this one are nothing that they could open."""
    return replace(facts, folder=None, store=None)


async def _show(request: Request, hubs: Hubs, reference: str) -> Response:
    facts = abroad(await hubs.read(lambda hub: hub.show(reference)))
    return tagged(request, facts, digest=facts.digest)


async def _delete(hubs: Hubs, who: str, reference: str, whole_adapter: bool, why: str) -> Response:
    def remove(hub: LocalHub) -> Removed:
        return hub.remove(reference, whole_adapter=whole_adapter, why=why)

    return OrjsonResponse(await hubs.read(remove, who=who))
