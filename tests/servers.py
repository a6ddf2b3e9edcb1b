"""Servers on the loopback interface that reply as llama.cpp, Ollama and vLLM do."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Headers = dict[str, str]


@dataclass
class Reply:
    """What a server sends. With a length longer than the body, the connection breaks within the reply."""

    body: str | Sequence[str] = ""
    status: int = 200
    headers: Headers = field(default_factory=dict)
    missing: int = 0

    @property
    def content(self) -> bytes:
        return (self.body if isinstance(self.body, str) else "".join(self.body)).encode()


@dataclass
class Server:
    """A running server: its address, and the requests so far as (path, headers, body)."""

    url: str
    requests: list[tuple[str, Headers, Any]] = field(default_factory=list)

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the requests for answers."""
        return [body for path, _, body in self.requests if path.endswith("/chat/completions")]


Route = Callable[[str, Any], Reply]


@contextmanager
def serving(route: Route) -> Iterator[Server]:
    """A server that answers each request, as path and JSON body, with what `route` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: Any) -> None:
            server.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            reply = route(self.path, body)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.content) + reply.missing))
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(json.dumps(value), status, {"Content-Type": "application/json", **headers})


def as_events(*events: Any, end: str = "data: [DONE]\n\n", missing: int = 0) -> Reply:
    """A stream of server-sent events; a string is sent as it is."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events]
    return Reply([*lines, end], headers={"Content-Type": "text/event-stream; charset=utf-8"}, missing=missing)


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A part of a chat completion as llama.cpp streams it."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def usage(prompt: int, answer: int) -> dict[str, Any]:
    """The last event of a stream with `include_usage`."""
    counts = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": counts}


def completion(*texts: str, prompt: int = 300) -> Reply:
    """A whole answer: the role first, then its parts, the reason for the end, and the usage."""
    first = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    return as_events(first, *map(chunk, texts), chunk(reason="stop"), usage(prompt, len(texts)))


MODELS = {
    "llama.cpp": {
        "object": "list",
        "data": [{"id": "small.gguf", "object": "model", "owned_by": "llamacpp", "meta": {"n_ctx_train": 32768}}],
    },
    "vllm": {
        "object": "list",
        "data": [{"id": "org/model", "object": "model", "owned_by": "vllm", "max_model_len": 1024}],
    },
    "ollama": {
        "object": "list",
        "data": [
            {"id": "llama3.2:3b", "object": "model", "created": 1, "owned_by": "library"},
            {"id": "qwen3:8b", "object": "model", "created": 1, "owned_by": "library"},
        ],
    },
}
PROPERTIES = {"default_generation_settings": {"n_ctx": 512, "params": {}}, "total_slots": 1, "model_path": "small.gguf"}


def dialect(name: str, *replies: Reply) -> Route:
    """The routes of a server: its models and properties, and these replies to requests for answers, the last again."""
    waiting = list(replies)

    def route(path: str, body: Any) -> Reply:
        if path == "/v1/models":
            return as_json(MODELS[name])
        if path == "/props" and name == "llama.cpp":
            return as_json(PROPERTIES)
        if path == "/v1/chat/completions":
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return Reply("404 page not found", 404, {"Content-Type": "text/plain"})

    return route
