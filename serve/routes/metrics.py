"""`/metrics`, in Prometheus' text format or OpenMetrics'."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from serve.caller import needs
from serve.metrics import Metrics


def metrics_routes(metrics: Metrics) -> APIRouter:
    # It names adapters, so it is for keys that may use them all; no scope beyond that, so that a
    # scraper needs no key that could change anything.
    rule = needs("infer", everything=True)
    router = APIRouter(tags=["health"], dependencies=[rule])

    @router.get("/metrics")
    async def exposition(request: Request) -> Response:
        text, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return router
