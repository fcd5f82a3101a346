"""What is checked, compared and swept: everything that may take longer than a look-up."""

from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from hub.errors import HubError
from hub.facts import (
    Diff,
    Evaluated,
    EvaluationFacts,
    Finding,
    Lineage,
    SignatureFacts,
    Swept,
    Verification,
    VersionFacts,
)
from serve.caller import needs
from serve.hubs import Hubs
from serve.protocol import GcIn, VerifyIn
from serve.requests.answers import OrjsonResponse, tagged
from serve.routes.registry_adapters import abroad

_NDJSON = "application/x-ndjson"


def origin_routes(hubs: Hubs) -> APIRouter:
    """Where a version comes from, how it differs from another, who signed it."""
    router = APIRouter(dependencies=[needs("infer")])

    @router.get(
        "/adapters/{reference:path}/-/lineage",
        summary="What a version came from, and what came of it",
        response_model=Lineage,
    )
    async def lineage(request: Request, reference: str) -> Response:
        found = await hubs.work(lambda hub: hub.lineage(reference))
        return tagged(request, found, digest=found.digest)

    @router.get("/diff", summary="What differs between two versions of a base", response_model=Diff)
    async def diff(request: Request, a: str, b: str) -> Response:
        return tagged(request, await hubs.work(lambda hub: hub.diff(a, b)))

    @router.get(
        "/adapters/{reference:path}/-/signatures",
        summary="The signatures of a version's manifest",
        response_model=list[SignatureFacts],
    )
    async def signatures(request: Request, reference: str) -> Response:
        facts = await hubs.read(lambda hub: hub.show(reference))
        return tagged(request, facts.signatures, digest=facts.digest)

    @router.post(
        "/adapters/{reference:path}/-/signatures",
        status_code=201,
        dependencies=[needs("admin")],
        summary="Keep a signature of a version's manifest",
        response_model=VersionFacts,
    )
    async def sign(reference: str, given: SignatureFacts) -> Response:
        facts = await hubs.read(lambda hub: hub.sign(reference, given))
        return OrjsonResponse(abroad(facts), 201)

    return router


def evaluation_routes(hubs: Hubs) -> APIRouter:
    router = APIRouter(dependencies=[needs("infer")])

    @router.get(
        "/adapters/{reference:path}/-/evaluations",
        summary="A version's evaluations, newest first",
        response_model=list[EvaluationFacts],
    )
    async def evaluations(request: Request, reference: str) -> Response:
        facts = await hubs.read(lambda hub: hub.show(reference))
        return tagged(request, facts.evaluations, digest=facts.digest)

    @router.post(
        "/adapters/{reference:path}/-/evaluations",
        status_code=201,
        dependencies=[needs("admin")],
        summary="Keep an evaluation with a version: what the gate goes by",
        response_model=EvaluationFacts,
    )
    async def record(reference: str, given: Evaluated) -> Response:
        kept = await hubs.read(lambda hub: hub.record_evaluation(reference, given))
        return OrjsonResponse(kept, 201)

    return router


def check_routes(hubs: Hubs) -> APIRouter:
    """POST, although they change nothing: they run the model, and no link shall start that."""
    router = APIRouter(dependencies=[needs("admin")])

    @router.post(
        "/adapters/{reference:path}/-/verify",
        summary="Run the publish gate's checks again on one version",
        response_model=Verification,
    )
    async def verify(reference: str, given: VerifyIn) -> Response:
        (found,) = await hubs.work(
            lambda hub: list(hub.verify(reference, effect=given.effect, keys=given.keys))
        )
        return OrjsonResponse(found)

    @router.post(
        "/verify",
        summary="The same on every version: one line of JSON each, as they come",
        response_class=StreamingResponse,
        responses={200: {"content": {_NDJSON: {}}}},
    )
    async def verify_all(given: VerifyIn) -> Response:
        found = hubs.each(lambda hub: hub.verify(None, effect=given.effect, keys=given.keys))
        return StreamingResponse(_lines(found), media_type=_NDJSON)

    @router.get(
        "/doctor", summary="Look at every invariant of the hub", response_model=list[Finding]
    )
    async def doctor(quick: bool = False) -> Response:
        return OrjsonResponse(await hubs.work(lambda hub: hub.doctor(quick=quick)))

    @router.post("/gc", summary="Remove what nothing reaches", response_model=Swept)
    async def gc(given: GcIn) -> Response:
        swept = await hubs.work(
            lambda hub: hub.gc(keep_days=given.keep_days, dry_run=given.dry_run)
        )
        return OrjsonResponse(swept)

    return router


async def _lines(found: AsyncIterator[Verification]) -> AsyncIterator[bytes]:
    try:
        async for verification in found:
            yield orjson.dumps(verification) + b"\n"
    except HubError as error:
        # The status has been sent long ago; the last line says it.
        yield orjson.dumps(error.to_openai()) + b"\n"
