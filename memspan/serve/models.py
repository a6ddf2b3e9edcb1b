"""The routes /v1/models: the model, and the model with each memory of the owner."""

from typing import Any

from fastapi import APIRouter

from memspan.serve.replies import ApiError
from memspan.serve.requests import served_names
from memspan.serve.service import Owner, Service, ServiceOf

router = APIRouter()


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "memspan"}


def _names(service: Service, owner: str) -> list[str]:
    return [service.model, *(f"{service.model}/{name}" for name in served_names(service.library, owner))]


@router.get("/v1/models")
def list_models(owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """MODEL, which knows what a conversation says, and MODEL/MEMORY for each memory, which knows what is in it as well."""
    return {"object": "list", "data": [_model(name) for name in _names(service, owner)]}


@router.get("/v1/models/{name:path}")
def retrieve_model(name: str, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """One of them."""
    if name not in _names(service, owner):
        raise ApiError(404, f"There is no model {name[:200]!r}.", code="model_not_found", param="model")
    return _model(name)
