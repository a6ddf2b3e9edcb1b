"""Running the app: uvicorn, with what it can hold against slow clients, and an orderly end."""

import socket

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE = 5  # seconds that a connection may be idle
MOST_CONNECTIONS = 256
STOP_SECONDS = 10  # for requests that are under way when the server is to stop
LARGEST_HEAD = 64 * 1024  # bytes of a request before its body, at most


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server of the app, which `run(sockets=[...])` runs until a signal or `should_exit` ends it."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
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
