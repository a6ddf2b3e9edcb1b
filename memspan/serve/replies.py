"""What a request gets that fails: a status, and the object `error` as OpenAI's API has it. Never a traceback or a path."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from memspan.errors import AnswererFailed, MemoryLocked, MemspanError, SystemRefused, UnknownMemory, UsageError

log = logging.getLogger("memspan.serve")

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_CODES = {401: "invalid_api_key", 404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


class ApiError(Exception):
    """A request that is refused: the status and the fields of `error`; `param` is the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = _CODES.get(status) if code is None else code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON value of the reply."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _TYPES.get(self.status, default)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return JSONResponse(self.body(), self.status, self.headers)


def missing(noun: str, name: str, param: str | None = None) -> ApiError:
    """The reply for what an owner does not have, whoever else may have it."""
    return ApiError(404, f"There is no {noun} {name[:200]!r}.", code=f"{noun.replace(' ', '_')}_not_found", param=param)


def as_api_error(error: Exception, root: str) -> ApiError:
    """The reply for an error; `root` is the path of the library, which nobody outside sees."""
    match error:
        case ApiError():
            return error
        case UnknownMemory():
            return ApiError(404, str(error), code="memory_not_found")
        case UsageError():
            return ApiError(400, str(error).replace(root, "the library"))
        case MemoryLocked():
            return ApiError(
                409, "Another request or process is writing to this memory: try again.", code="memory_locked"
            )
        case AnswererFailed():
            log.error("%s", error)
            return ApiError(502, "What writes the answers failed: try again later.", code="answerer_failed")
        case SystemRefused():
            log.error("%s", error)
            return ApiError(507, "The memory could not be read or written, nothing was changed.", code="storage_failed")
        case MemspanError():
            log.error("%s", error)
            return ApiError(
                500, "This memory cannot be used as it is: ask whoever runs the server.", code="memory_failed"
            )
    log.error("a request failed", exc_info=error)
    return ApiError(500, "The request failed in the server.", code="internal_error")


def handle_errors(app: FastAPI, root: str) -> None:
    """Let every error of `app` be replied to in this form."""

    async def reply(request: Request, error: Exception) -> Response:
        return as_api_error(error, root).response()

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _invalid(error).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, OSError):  # an upload whose form could not be stored
            return as_api_error(
                SystemRefused(f"a form could not be stored: {error.__cause__.strerror}."), root
            ).response()
        what = {
            404: f"There is no route {request.url.path}.",
            405: f"{request.url.path} does not take {request.method}.",
        }
        sentence = what.get(error.status_code, str(error.detail))
        headers = {**(error.headers or {}), **({"Allow": _allowed(request)} if error.status_code == 405 else {})}
        return ApiError(error.status_code, sentence, headers=headers).response()

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    for kind in (ApiError, MemspanError, Exception):
        app.add_exception_handler(kind, reply)


def _allowed(request: Request) -> str:
    """The methods that the routes of a path take together; Starlette names those of the first alone.

    A path that stands in the contract as it is, is not an id in another one.
    """
    documented = request.app.openapi()["paths"].get(request.url.path)
    if documented is not None:
        return ", ".join(sorted(method.upper() for method in documented))
    routes = request.app.router.routes
    taken = (
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )
    return ", ".join(taken)


def _invalid(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    sentence = str(first["msg"]).removeprefix("Value error, ")
    param = path if path and first["type"] != "json_invalid" else None
    return ApiError(400, sentence if param is None else f"{param}: {sentence}", param=param)
