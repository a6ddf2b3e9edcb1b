"""Running the app: uvicorn, with a limit of time for the head of a request, and an orderly end."""

import asyncio
import socket

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from memspan.serve.replies import ApiError

KEEP_ALIVE = 5  # seconds that a connection may be idle between requests
HEAD_SECONDS = 10.0  # within which the head of a request must have been sent
MOST_CONNECTIONS = 1024
STOP_SECONDS = 10  # for requests that are under way when the server is to stop
LARGEST_HEAD = 64 * 1024  # bytes of a request before its body, at most


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it; a connection whose next request has no end of its head in time is closed."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.app = _overloaded
        self._expect()

    def send_400_response(self, msg: str) -> None:
        """Replies to what is no HTTP as to everything that is wrong, and closes the connection."""
        body = bytes(ApiError(400, msg, code="bad_request").response().body)
        fields = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=fields, reason=b"Bad Request"), h11.Data(data=body)):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._expect()
        else:
            self._expect_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """The app of a connection that is one too many."""
    headers = {"Retry-After": "5", "Connection": "close"}
    error = ApiError(503, "The server has too many connections: try again later.", code="overloaded", headers=headers)
    await error.response()(scope, receive, send)


def make_server(app: ASGIApp) -> uvicorn.Server:
    """A server of the app, which `run(sockets=[...])` runs until a signal or `should_exit` ends it."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )
    return uvicorn.Server(config)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener
