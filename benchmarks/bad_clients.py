"""Clients of a server that are slow, or speak no proper HTTP, or ask for what cannot be."""

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

PAUSE = 0.4  # seconds between two bad requests, on average
LONGEST_WAIT = 30.0  # seconds for a reply
READERS, SENDERS = 12, 6  # slow clients that stay open


@dataclass(frozen=True)
class Bad:
    """A request, and the statuses that are right; none where the server may close the connection without a word."""

    name: str
    content: bytes
    statuses: tuple[int, ...]
    leaves: bool = False  # the client closes its end at once


@dataclass
class Seen:
    """What became of bad requests: their statuses by name, and the replies that were not right."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    bytes_read: int = 0
    slow: Counter[str] = field(default_factory=Counter)  # slow connections that were opened, by kind


def bad_requests(key: str, model: str) -> list[Bad]:
    """Every kind of bad request."""
    of_key = f"Host: localhost\r\nAuthorization: Bearer {key}\r\n"

    def post(body: bytes, path: str = "/v1/chat/completions", fields: str = "", length: int | None = None) -> bytes:
        size = len(body) if length is None else length
        head = (
            f"POST {path} HTTP/1.1\r\n{of_key}Content-Type: application/json\r\nContent-Length: {size}\r\n{fields}\r\n"
        )
        return head.encode() + body

    def get(path: str, key_fields: str = of_key) -> bytes:
        return f"GET {path} HTTP/1.1\r\n{key_fields}\r\n".encode("latin-1")

    chat = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    whole = json.dumps(chat).encode()
    chunked = f"POST /v1/models HTTP/1.1\r\n{of_key}Transfer-Encoding: chunked\r\n\r\n"
    both = chunked.replace("Host", "Content-Length: 5\r\nHost") + "0\r\n\r\n"
    return [
        Bad("garbage", bytes(range(256)) * 8, (400,)),
        Bad("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), (400,)),
        Bad("large head", f"GET /v1/models HTTP/1.1\r\n{of_key}X: {'x' * 200_000}\r\n\r\n".encode(), (400, 431)),
        Bad("many headers", f"GET /v1/models HTTP/1.1\r\n{of_key}".encode() + b"X: y\r\n" * 300 + b"\r\n", (431,)),
        Bad("large body", post(b"", length=10**9), (413,)),
        Bad("large body in chunks", chunked.encode() + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 80, (413,)),
        Bad("two lengths", both.encode(), (400,)),
        Bad("half a body, then gone", post(whole[:20], length=len(whole)), (), leaves=True),
        Bad("gone before the reply", post(json.dumps({**chat, "max_tokens": 400}).encode()), (), leaves=True),
        Bad("half a head, then gone", b"POST /v1/chat/comp", (), leaves=True),
        Bad("no JSON", post(b"{'model': 1"), (400,)),
        Bad("deep JSON", post(b"[" * 50_000), (400,)),
        Bad("no UTF-8", post(b'{"model": "\xff\xfe"}'), (400,)),
        Bad("numbers", post(json.dumps({**chat, "max_tokens": 10**400, "temperature": -1}).encode()), (400,)),
        Bad("not a number", post(whole[:-1] + b', "temperature": NaN}'), (400,)),
        Bad("unpaired surrogate", post(whole.replace(b"Hello", b"\\ud800")), (200, 400)),
        Bad("no message", post(json.dumps({"model": model, "messages": []}).encode()), (400,)),
        Bad("another model", post(json.dumps({**chat, "model": "nothing"}).encode()), (404,)),
        Bad("no key", get("/v1/models", "Host: localhost\r\n"), (401,)),
        Bad("wrong key", get("/v1/models", "Host: localhost\r\nAuthorization: Bearer \xff\r\n"), (401,)),
        Bad("another host", get("/v1/models", f"Host: evil.example\r\n{of_key.partition(chr(10))[2]}"), (403,)),
        Bad("no route", get("/v2/nothing"), (404,)),
        Bad("a path", get("/v1/files/..%2f..%2f..%2fetc%2fpasswd/content"), (404,)),
        Bad("a method", f"PUT /v1/models HTTP/1.1\r\n{of_key}Content-Length: 0\r\n\r\n".encode(), (405,)),
        Bad("no form", post(b"--x\r\nnothing", "/v1/files"), (400,)),
    ]


class BadClient(threading.Thread):
    """Sends bad requests, one after the other, and looks at the replies."""

    def __init__(self, address: tuple[str, int], requests: list[Bad], seed: int, is_up: threading.Event) -> None:
        super().__init__(daemon=True)
        self.address, self.requests, self.is_up = address, requests, is_up
        self.draw, self.seen, self.ending = random.Random(seed), Seen(), threading.Event()

    def run(self) -> None:
        waiting: list[Bad] = []
        while not self.ending.wait(self.draw.expovariate(1 / PAUSE)):
            if not self.is_up.is_set():
                continue
            waiting = waiting or self.draw.sample(self.requests, len(self.requests))
            self.send(waiting.pop())

    def send(self, bad: Bad) -> None:
        """Send a request, and judge the reply unless the server was killed meanwhile."""
        try:
            reply = exchanged(self.address, bad)
        except OSError as error:
            if self.is_up.is_set() and not isinstance(error, ConnectionError):
                self.seen.wrong.append(f"{bad.name}: {error!r}")
            return
        if bad.leaves or not self.is_up.is_set() or reply == b"":
            self.seen.statuses[f"{bad.name}: none"] += 1
            return
        status = int(reply[9:12]) if reply.startswith(b"HTTP/1.1 ") else 0
        self.seen.statuses[f"{bad.name}: {status}"] += 1
        if status not in bad.statuses or not (status == 200 or is_error(reply)):
            self.seen.wrong.append(f"{bad.name}: {reply[:400]!r}")


def exchanged(address: tuple[str, int], bad: Bad) -> bytes:
    """The reply to a request: what comes until the head and the body that it announces are there, or the end."""
    with socket.create_connection(address, timeout=LONGEST_WAIT) as connection:
        with suppress(ConnectionError):  # it may be refused before all is sent
            connection.sendall(bad.content)
        reply = b""
        while not bad.leaves and not is_whole(reply):
            part = connection.recv(65536)
            if not part:
                break
            reply += part
        return reply


def is_whole(reply: bytes) -> bool:
    """Whether a reply has the bytes that its head announces."""
    head, end, body = reply.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    return bool(end) and any(name == b"content-length" and len(body) >= int(value) for name, _, value in fields)


def is_error(reply: bytes) -> bool:
    """Whether the body of a reply is an error as the API has it."""
    try:
        error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(error, dict) and set(error) == {"message", "type", "param", "code"} and bool(error["message"])


class SlowClients(threading.Thread):
    """Connections that read or send a byte a second, and are opened again when the server closes them.

    Of the readers half have a large file, half a stream of text; of the senders half a head, half a body.
    """

    def __init__(self, address: tuple[str, int], key: str, model: str, file: str, is_up: threading.Event) -> None:
        super().__init__(daemon=True)
        self.address, self.is_up = address, is_up
        self.seen, self.ending = Seen(), threading.Event()
        of_key = f"Host: localhost\r\nAuthorization: Bearer {key}\r\n"
        body = json.dumps(
            {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, "stream": True}
        )
        head = f"POST /v1/chat/completions HTTP/1.1\r\n{of_key}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._begin = {
            "reads a file": (f"GET /v1/files/{file}/content HTTP/1.1\r\n{of_key}\r\n".encode(), b""),
            "reads a stream": ((head + body).encode(), b""),
            "sends a head": (b"", head.encode()),
            "sends a body": (head.encode(), body.encode()),
        }
        self._open: list[tuple[socket.socket, str, Iterator[int]]] = []

    def run(self) -> None:
        kinds = [
            *["reads a file", "reads a stream"] * (READERS // 2),
            *["sends a head", "sends a body"] * (SENDERS // 2),
        ]
        while not self.ending.wait(1):
            if self.is_up.is_set():
                open_now = Counter(kind for _, kind, _ in self._open)
                for kind, count in (Counter(kinds) - open_now).items():
                    for _ in range(count):
                        self._connect(kind)
            self._open = [slow for slow in self._open if self._step(*slow)]
        for connection, _, _ in self._open:
            connection.close()

    def _connect(self, kind: str) -> None:
        at_once, slowly = self._begin[kind]
        with suppress(OSError):
            connection = socket.create_connection(self.address, timeout=5)
            connection.sendall(at_once)
            connection.setblocking(False)
            self._open.append((connection, kind, iter(slowly)))
            self.seen.slow[kind] += 1

    def _step(self, connection: socket.socket, kind: str, slowly: Iterator[int]) -> bool:
        """Read or send the next byte; whether the connection stays open."""
        try:
            if kind.startswith("sends") and (byte := next(slowly, None)) is not None:
                connection.send(bytes([byte]))
                return True
            read = connection.recv(1)
            self.seen.bytes_read += len(read)
            if read:
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        connection.close()
        return False
