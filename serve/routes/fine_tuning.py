"""`/v1/fine_tuning`: OpenAI's jobs, their events and checkpoints.

All of it wants `admin`, as publishing does, which is what a job ends with. A key that is limited to
namespaces has the jobs of its adapters.
"""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from hub.errors import InvalidParameter, UnknownReference, UsageError
from hub.jobs import Job
from hub.local import LocalHub
from serve.caller import caller, needs
from serve.failures import refusal
from serve.fine_tuning import JobIn, wanted
from serve.fine_tuning_objects import checkpoints_of, event_out, job_out, page
from serve.hubs import Hubs
from serve.job_starter import JobStarter
from serve.requests.answers import OrjsonResponse
from serve.resolver import Arm, Resolver
from serve.routes.asking import Who

_METADATA = re.compile(r"metadata\[([^\]]{1,64})\]")
_ANY = ["GET", "POST", "DELETE"]
Limit = Annotated[int, Query(ge=1, le=100)]


async def _again(
    retries: Annotated[
        str,
        Header(
            alias="x-stainless-retry-count",
            description="OpenAI's clients: how often this was sent before without an answer.",
        ),
    ] = "",
) -> bool:
    return retries.strip("0") != "" and retries.isdecimal()


Again = Annotated[bool, Depends(_again)]


def fine_tuning_routes(hubs: Hubs, resolver: Resolver, starter: JobStarter) -> APIRouter:
    router = APIRouter(
        prefix="/v1/fine_tuning", tags=["fine-tuning"], dependencies=[needs("admin")]
    )

    @router.post("/jobs", summary="Train on an uploaded file, and publish what comes of it")
    async def create(who: Who, again: Again, given: JobIn) -> Response:
        starter.require()
        arm = _meant(resolver, given.model)
        namespaces = caller.get().namespaces

        def make(hub: LocalHub) -> Job:
            registry = hub.registry
            return registry.jobs.create(wanted(given, arm, registry, namespaces), again=again)

        job = await hubs.read(make, who=who)
        starter.wake()
        return await _shown(hubs, job)

    @router.get("/jobs", summary="Jobs, newest first")
    async def jobs(request: Request, after: str | None = None, limit: Limit = 20) -> Response:
        metadata, without = _metadata(request)

        def find(hub: LocalHub) -> dict[str, object]:
            found = hub.registry.jobs.all(
                after=after, limit=limit + 1, metadata=metadata, without_metadata=without
            )
            return page(found, limit, lambda job: job_out(job, hub.registry.ledger))

        return OrjsonResponse(await hubs.read(find))

    @router.get("/jobs/{job_id}")
    async def job(job_id: str) -> Response:
        return await _shown(hubs, await hubs.read(lambda hub: hub.registry.jobs.get(job_id)))

    @router.post("/jobs/{job_id}/cancel", summary="End a job for good")
    async def cancel(job_id: str) -> Response:
        return await _shown(hubs, await hubs.read(lambda hub: hub.registry.jobs.cancel(job_id)))

    @router.post("/jobs/{job_id}/pause", summary="Stop at the next step, and let others train")
    async def pause(job_id: str) -> Response:
        return await _shown(hubs, await hubs.read(lambda hub: hub.registry.jobs.pause(job_id)))

    @router.post("/jobs/{job_id}/resume", summary="Go on from the last checkpoint")
    async def resume(job_id: str) -> Response:
        found = await hubs.read(lambda hub: hub.registry.jobs.resume(job_id))
        starter.wake()
        return await _shown(hubs, found)

    @router.get("/jobs/{job_id}/events", summary="What happened, newest first")
    async def events(job_id: str, after: str | None = None, limit: Limit = 20) -> Response:
        def find(hub: LocalHub) -> dict[str, object]:
            jobs = hub.registry.jobs
            found = jobs.events(jobs.get(job_id), after=after, limit=limit + 1)
            return page(found, limit, lambda event: event_out(event, hub.home))

        return OrjsonResponse(await hubs.read(find))

    @router.get("/jobs/{job_id}/checkpoints", summary="Checkpoints, newest first")
    async def checkpoints(job_id: str, after: str | None = None, limit: Limit = 10) -> Response:
        def find(hub: LocalHub) -> dict[str, object]:
            found = checkpoints_of(hub.registry.jobs.get(job_id), hub.registry.ledger)
            known = [checkpoint["id"] for checkpoint in found]
            if after is not None and after not in known:
                raise InvalidParameter(f"{after[:80]!a} is no checkpoint of it", param="after")
            start = 0 if after is None else known.index(after) + 1
            return page(found[start:], limit, lambda checkpoint: checkpoint)

        return OrjsonResponse(await hubs.read(find))

    @router.api_route("/alpha/graders/{rest:path}", methods=_ANY, include_in_schema=False)
    async def graders(rest: str) -> Response:
        return refusal(404, "no_graders", "this hub has no graders, and no reinforcement")

    @router.api_route("/checkpoints/{rest:path}", methods=_ANY, include_in_schema=False)
    async def permissions(rest: str) -> Response:
        return refusal(
            404,
            "no_permissions",
            "checkpoints have no permissions here: API keys say who may call what",
        )

    return router


def _meant(resolver: Resolver, model: str) -> Arm:
    try:
        return resolver.resolve(model)
    except (UnknownReference, UsageError) as error:
        error.param = "model"
        raise


async def _shown(hubs: Hubs, job: Job) -> Response:
    return OrjsonResponse(await hubs.read(lambda hub: job_out(job, hub.registry.ledger)))


def _metadata(request: Request) -> tuple[dict[str, str], bool]:
    """What `metadata[k]=v` asks for, and whether `metadata=null` does."""
    found: dict[str, str] = {}
    without = False
    for name, value in request.query_params.multi_items():
        if key := _METADATA.fullmatch(name):
            found[key[1]] = value
        elif name == "metadata" and value == "null":
            without = True
        elif name.startswith("metadata"):
            raise InvalidParameter("write metadata[key]=value, or metadata=null", param="metadata")
    if without and found:
        raise InvalidParameter("metadata=null goes with no metadata[key]", param="metadata")
    return found, without
