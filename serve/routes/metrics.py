"""`/metrics`, in Prometheus' text format or OpenMetrics'."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from serve.metrics import Metrics


def metrics_routes(metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/metrics")
    async def exposition(request: Request) -> Response:
        text, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return router
