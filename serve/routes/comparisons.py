"""Blind comparisons over HTTP: make one, watch both answers once, vote, and then learn the arms."""

from fastapi import APIRouter
from starlette.responses import Response

from serve.ab import Comparisons
from serve.caller import needs
from serve.protocol import ComparisonIn, ComparisonOut, VoteIn, VoteOut


def comparison_routes(comparisons: Comparisons) -> APIRouter:
    router = APIRouter(
        prefix="/hub/comparisons",
        tags=["comparisons"],
        dependencies=[needs("feedback")],
    )

    # These ask the model, too.
    @router.post("", status_code=201, dependencies=[needs("infer")])
    async def create(asked: ComparisonIn) -> ComparisonOut:
        return ComparisonOut(id=await comparisons.create(asked))

    @router.get("/{comparison_id}/stream", dependencies=[needs("infer")])
    async def stream(comparison_id: str) -> Response:
        return await comparisons.stream(comparison_id)

    @router.post("/{comparison_id}/vote")
    async def vote(comparison_id: str, given: VoteIn) -> VoteOut:
        return await comparisons.vote(comparison_id, given.vote)

    return router
