"""`/health`: the gateway lives. `/ready`: it can answer, which needs an engine that is up."""

from fastapi import APIRouter
from starlette.responses import Response

from serve.caller import NOBODY, caller, needs
from serve.engines.base import EngineState
from serve.placement.fleet import Fleet
from serve.requests.admission import Admission
from serve.requests.answers import OrjsonResponse


def health_routes(fleet: Fleet, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["health"], dependencies=[needs(None)])

    @router.get("/health")
    async def health() -> Response:
        return OrjsonResponse({"status": "ok"})

    @router.get("/ready")
    async def ready() -> Response:
        state = "stopping" if admission.closed else fleet.state.value
        status = 200 if state == EngineState.READY.value else 503
        if caller.get() is NOBODY:  # engines are named by their addresses
            return OrjsonResponse({"state": state}, status)
        engines = {member.engine.name: member.engine.state.value for member in fleet.members}
        return OrjsonResponse({"state": state, "engines": engines}, status)

    return router
