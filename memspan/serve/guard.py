"""The guard in front of all routes: which hosts and keys a request may have, how large it is, and how long it takes.

Nothing of the app is reached without a key but /health and the files of the page, not even a route that does not exist.
"""

import asyncio
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memspan.serve.keys import Keys
from memspan.serve.library import LOCAL
from memspan.serve.metrics import Metrics
from memspan.serve.rates import Rates
from memspan.serve.replies import ApiError
from memspan.serve.service import Limits

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
MOST_HEADERS, LONGEST_HEADERS = 100, 32 * 1024  # fields, and bytes of all of them
_OPEN = re.compile(r"/health|/ui|/ui/[a-z.]+")  # the page holds no data: it asks for the key itself
_UPLOAD = re.compile(r"/v1/files|/v1/memories/[^/]+/files")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Rules:
    """Who may come in.

    Attributes:
        keys: None lets everybody in, as the owner `LOCAL`.
        hosts: that a request may name as the server's, without the port, in lower case.
    """

    keys: Keys | None = None
    hosts: frozenset[str] = field(default=LOOPBACK)


class Guarded(Protocol):
    """What the guard needs to know of a service, and where it counts."""

    @property
    def limits(self) -> Limits: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def rates(self) -> Rates: ...


class Guard:
    """The middleware. It passes requests on to the app with their owner in the state."""

    def __init__(self, app: ASGIApp, *, rules: Rules, service: Guarded) -> None:
        self._app, self._rules, self._limits, self._metrics = app, rules, service.limits, service.metrics
        self._rates = service.rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _headers(scope)
        sent = headers.get("x-request-id", "")
        request_id = sent if _ID.fullmatch(sent) else secrets.token_hex(8)

        status, begun = 500, time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, owner = message["status"], scope.get("state", {}).get("owner")
                left = {} if owner is None or _OPEN.fullmatch(scope["path"]) else self._rates.headers(owner)
                added = [
                    (name.encode(), value.encode()) for name, value in {"x-request-id": request_id, **left}.items()
                ]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await self._passed_on(scope, headers, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - begun)

    async def _passed_on(self, scope: Scope, headers: dict[str, str], receive: Receive, answer: Send) -> None:
        try:
            self._check_form(scope, headers)
            owner = self._owner(scope["path"], headers)
            scope.setdefault("state", {})["owner"] = owner
            if not _OPEN.fullmatch(scope["path"]):
                self._rates.count_request(owner)
            body = await self._body(scope["path"], headers, receive)
        except ApiError as error:
            error.headers["Connection"] = "close"
            await error.response()(scope, receive, answer)
            return
        await self._app(scope, _replayed(body, receive), answer)

    def _check_form(self, scope: Scope, headers: dict[str, str]) -> None:
        fields = scope["headers"]
        if len(fields) > MOST_HEADERS or sum(len(name) + len(value) for name, value in fields) > LONGEST_HEADERS:
            raise ApiError(431, "The headers of the request are too large.", code="headers_too_large")
        names = [name for name, _ in fields]
        both = b"content-length" in names and b"transfer-encoding" in names
        if both or any(names.count(name) > 1 for name in (b"host", b"content-length", b"authorization")):
            raise ApiError(400, "The headers of the request contradict each other.", code="bad_headers")
        if "*" not in self._rules.hosts and _host(headers.get("host", "")) not in self._rules.hosts:
            raise ApiError(403, "The server does not go by this name: see --allow-host.", code="unknown_host")
        origin = headers.get("origin")
        if origin is not None and "*" not in self._rules.hosts and not self._is_own(origin):
            raise ApiError(403, "Requests of other pages are refused.", code="foreign_origin")
        if headers.get("content-encoding", "identity") != "identity":
            raise ApiError(415, "The body must not be compressed.", code="compressed_body")

    def _is_own(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and _host(parts.netloc) in self._rules.hosts

    def _owner(self, path: str, headers: dict[str, str]) -> str:
        keys = self._rules.keys
        if keys is None or _OPEN.fullmatch(path):
            return LOCAL
        scheme, _, key = headers.get("authorization", "").partition(" ")
        owner = keys.owner(key.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            sentence = "A valid key is needed, as the header Authorization: Bearer KEY."
            raise ApiError(401, sentence, headers={"WWW-Authenticate": "Bearer"})
        return owner

    async def _body(self, path: str, headers: dict[str, str], receive: Receive) -> bytes:
        """The body as a whole, so that no slow client holds anything but its connection."""
        limit = self._limits.upload_bytes if _UPLOAD.fullmatch(path) else self._limits.body_bytes
        too_large = ApiError(413, f"The body must have at most {limit:,} bytes.")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise ApiError(400, "Content-Length must be a number.", code="bad_headers")
        if int(length) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ApiError(400, "The client has left.", code="client_closed_request")
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            seconds = self._limits.body_seconds
            raise ApiError(408, f"The body was not sent within {seconds:g} seconds.", code="timeout") from error


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Yields the body again, and then what happens on the connection."""
    waiting: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _host(netloc: str) -> str:
    """The name in HOST:PORT, in lower case; `[::1]` keeps its brackets."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/\s]+)(?::[0-9]{1,5})?", netloc)
    return "" if match is None else match[1].lower().rstrip(".")
