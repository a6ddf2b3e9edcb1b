"""The server's contract: the OpenAPI document at /openapi.json, made from the routes and the models of their requests.

Whatever a request gets that is not carried out has one form, which stands in the document for every status but 200.
"""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string", "minLength": 1},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSED: Final = {
    "description": "What is wrong, in a sentence.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_OPEN: Final = "/health"  # needs no key


def describe(app: FastAPI, *, has_keys: bool) -> None:
    """Let an app serve its contract.

    Args:
        has_keys: whether requests need a key.
    """
    document: dict[str, Any] = {}

    def contract() -> dict[str, Any]:
        if not document:
            document.update(_contract(app, has_keys))
        return document

    app.openapi = contract  # type: ignore[method-assign]


def _contract(app: FastAPI, has_keys: bool) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Error"] = _ERROR
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's form of errors, which is not ours
        schemas.pop(name, None)
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
            if has_keys and path != _OPEN:
                operation["security"] = [{"key": []}]
    return document
