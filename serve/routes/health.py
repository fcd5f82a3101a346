"""`/health`: the gateway lives. `/ready`: it can answer, which needs its engine."""

from fastapi import APIRouter
from starlette.responses import Response

from serve.admission import Admission
from serve.answers import OrjsonResponse
from serve.engines.base import Engine, EngineState


def health_routes(engine: Engine, admission: Admission) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health")
    async def health() -> Response:
        return OrjsonResponse({"status": "ok"})

    @router.get("/ready")
    async def ready() -> Response:
        state = "stopping" if admission.closed else engine.state.value
        status = 200 if state == EngineState.READY.value else 503
        return OrjsonResponse({"state": state, "engine": engine.name}, status)

    return router
