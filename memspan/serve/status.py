"""The routes that say how the server is: /health, /ready, /version, /metrics."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from memspan import __version__
from memspan.serve.metrics import Metrics
from memspan.serve.replies import ApiError
from memspan.serve.service import EngineOf, ServiceOf

router = APIRouter()
METRICS = "/metrics"


@router.get("/health")
def health() -> dict[str, Any]:
    """That the process replies; needs no key."""
    return {"status": "ok"}


@router.get("/ready")
def ready(engine: EngineOf) -> dict[str, Any]:
    """That the model takes requests."""
    if not engine.is_ready:
        raise ApiError(503, "The server is stopping.", code="stopping")
    return {"status": "ready", "running": engine.running, "waiting": engine.waiting}


@router.get("/version")
def version() -> dict[str, Any]:
    """The version of memspan."""
    return {"version": __version__}


@router.get(METRICS, response_class=PlainTextResponse)
def metrics(service: ServiceOf) -> Response:
    """Counts and times for Prometheus."""
    return metrics_of(service.metrics)


def metrics_of(metrics: Metrics) -> Response:
    """The reply with these counts and times."""
    return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
