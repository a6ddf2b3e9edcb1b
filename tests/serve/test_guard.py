"""What stands in front of the routes: keys, hosts, sizes and times; and that owners are strangers over all of them."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from memspan import LanguageModel
from memspan.assistant.chat import latest_exchanges
from memspan.errors import UsageError
from memspan.serve.app import make_app
from memspan.serve.guard import Rules
from memspan.serve.keys import Keys
from memspan.serve.service import Limits
from memspan.serve.sessions import session_name
from tests.commands import Run
from tests.serve.running import ANNA, BERT, KEYS, Running, running

LIMITS = Limits(new_tokens=4, body_bytes=20_000, body_seconds=0.4)
CANARY = "The zinc trunk of Anna stands under the stairs."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server"), lm, KEYS, LIMITS) as server:
        library = server.service.library
        library.create("anna", "diary")
        with library.lease("anna", "diary") as memory:
            lm.read(CANARY, memory, source="anna.txt")
        yield server


def raw(server: Running, content: bytes, seconds: float = 5) -> bytes:
    """What the server replies to these bytes until it closes the connection, or for some seconds."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(content)
        reply = b""
        try:
            while part := connection.recv(65536):
                reply += part
        except TimeoutError:
            reply += b"(open)"
        return reply


def head(*lines: str, path: str = "/v1/models") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


def routes(app: FastAPI) -> list[tuple[str, str]]:
    found = [(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods]
    paths = app.openapi()["paths"]  # also what is included lazily
    return sorted({*found, *((method.upper(), path) for path, methods in paths.items() for method in methods)})


def test_every_route_but_health_needs_a_key(server: Running) -> None:
    app = make_app(server.service, Rules(KEYS))
    listed = routes(app)
    assert len(listed) >= 5
    others = [
        ("GET", "/openapi.json"),
        ("POST", "/mcp"),
        ("GET", "/nowhere"),
        ("GET", "//health"),
        ("GET", "/HEALTH"),
        ("GET", "/health/"),
    ]
    others += [("OPTIONS", "/v1/models"), ("HEAD", "/v1/models"), ("PATCH", "/v1/%6dodels")]
    for key in (None, "wrong", ANNA[:-1], ANNA + "x", "x", "\u00e9".encode().decode("latin-1")):
        with server.http() as http:
            for method, path in [*listed, *others]:
                headers = {} if key is None else {"Authorization": f"Bearer {key}".encode("latin-1")}
                reply = http.request(method, path.replace("{", "").replace("}", ""), headers=headers)
                assert reply.status_code == (200 if path == "/health" else 401), (method, path)
                if path != "/health" and method != "HEAD":
                    assert reply.json()["error"]["code"] == "invalid_api_key"
    with server.http() as http:
        for headers in ({"Authorization": ANNA}, {"Authorization": f"Basic {ANNA}"}, {"X-Api-Key": ANNA}):
            assert http.get("/v1/models", headers=headers).status_code == 401
        assert http.get(f"/v1/models?key={ANNA}").status_code == 401
        assert http.get("/v1/models", headers={"Authorization": f"bearer {ANNA}"}).status_code == 200


def test_an_owner_sees_nothing_of_another(server: Running) -> None:
    anna, bert = server.client(ANNA), server.client(BERT)
    message: Any = [{"role": "user", "content": "Where is the zinc trunk?"}]
    session = {"X-Session-Id": "shared-name"}
    reply = anna.chat.completions.create(model="tiny/diary", messages=message, extra_headers=session)
    assert CANARY in str(reply.model_extra)
    assert [model.id for model in bert.models.list()] == ["tiny"]
    for act in (
        lambda name: bert.chat.completions.create(model=f"tiny/{name}", messages=message),
        lambda name: bert.chat.completions.create(model="tiny", messages=message, metadata={"memory": name}),
        lambda name: bert.chat.completions.create(model="tiny", messages=message, extra_headers={"X-Memory": name}),
        lambda name: bert.models.retrieve(f"tiny/{name}"),
    ):
        errors = []
        for name in ("diary", "nothing"):
            with pytest.raises(openai.NotFoundError) as raised:
                act(name)
            errors.append(json.dumps(raised.value.body).replace(name, "NAME"))
        assert errors[0] == errors[1]
    reply = bert.chat.completions.create(model="tiny", messages=message, extra_headers=session)
    alone = bert.chat.completions.create(model="tiny", messages=message)
    assert reply.choices == alone.choices
    assert reply.usage == alone.usage
    assert reply.model_extra is not None
    assert reply.model_extra["memory"]["recalled"] == []
    library = server.service.library
    assert not set(library.open("bert", reply.model_extra["memory"]["session"]).sources) & set(
        library.open("anna", reply.model_extra["memory"]["session"]).sources
    )
    user = bert.chat.completions.create(model="tiny", messages=message, user="anna", extra_headers={"X-Owner": "anna"})
    assert user.choices == alone.choices


def test_interleaved_sessions_do_not_cross(server: Running) -> None:
    """Eight sessions of two owners at once: each holds its own words, and its replies are those that it gets alone."""

    def converse(session: str) -> list[str]:
        client = server.client(ANNA if int(session[-1]) % 2 else BERT)
        replies = []
        for turn in range(3):
            message: Any = [{"role": "user", "content": f"canary-{session[-1]} number {turn}"}]
            headers = {"X-Session-Id": session}
            reply = client.chat.completions.create(model="tiny", messages=message, extra_headers=headers)
            replies.append(str(reply.choices[0].message.content))
        return replies

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(converse, [f"together-{number}" for number in range(8)]))
    assert together == [converse(f"alone-{number}") for number in range(8)]
    library = server.service.library
    for number in range(8):
        owner = "anna" if number % 2 else "bert"
        memory = library.open(owner, session_name("session", f"together-{number}"))
        exchanges = list(latest_exchanges(memory))
        assert [exchange.user for exchange in exchanges] == [f"canary-{number} number {turn}" for turn in (2, 1, 0)]
        assert not library.holds("bert" if number % 2 else "anna", session_name("session", f"together-{number}"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "evil@127.0.0.1"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:80"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
def test_hosts_and_pages_that_are_not_the_servers_are_refused(
    server: Running, headers: dict[str, str], status: int
) -> None:
    with server.http(ANNA) as http:
        assert http.get("/v1/models", headers=headers).status_code == status


def test_a_form_of_another_page_is_no_request(server: Running) -> None:
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        with server.http(ANNA) as http:
            reply = http.post("/v1/chat/completions", content=body, headers={"Content-Type": kind})
            assert reply.status_code == 400
            assert reply.json()["error"]["type"] == "invalid_request_error"


def test_what_is_too_large_or_too_slow_is_closed(server: Running) -> None:
    key = f"Authorization: Bearer {ANNA}"
    large = raw(server, head("Host: localhost", key, "Content-Length: 60000000", path="/v1/chat/completions"))
    assert large.startswith(b"HTTP/1.1 413")
    assert b'"code":"request_too_large"' in large
    chunks = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    start = head("Host: localhost", key, "Transfer-Encoding: chunked", path="/v1/chat/completions")
    assert raw(server, start + chunks * 2).startswith(b"HTTP/1.1 413")
    begun = time.monotonic()
    slow = raw(server, head("Host: localhost", key, "Content-Length: 10", path="/v1/chat/completions") + b"{")
    assert slow.startswith(b"HTTP/1.1 408")
    assert not slow.endswith(b"(open)")
    assert time.monotonic() - begun < 5
    many = raw(server, head("Host: localhost", key, *(f"X-{number}: x" for number in range(200))))
    assert many.startswith(b"HTTP/1.1 431")
    for size in (40_000, 70_000):
        assert raw(server, head("Host: localhost", key, f"X: {'x' * size}"))[9:12] in (b"431", b"400")
    with server.http(ANNA) as http:
        deep = "[" * 9000 + "]" * 9000
        assert (
            http.post("/v1/chat/completions", content=deep, headers={"Content-Type": "application/json"}).status_code
            == 400
        )
        assert http.get("/ready").status_code == 200


def test_what_is_no_http_gets_an_error_of_the_same_form(server: Running) -> None:
    for content in (
        bytes(range(256)),
        b"\x16\x03\x01\x02\x00" * 20,
        b"GET /\r\n\r\n",
    ):
        head_of_reply, _, body = raw(server, content).partition(b"\r\n\r\n")
        assert head_of_reply.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}


def test_a_connection_too_many_gets_an_error_of_the_same_form(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.serve.running.MOST_CONNECTIONS", 0)
    with server.http(ANNA) as http:
        reply = http.get("/v1/models")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
        assert reply.headers["Connection"] == "close"
    monkeypatch.undo()
    with server.http(ANNA) as http:
        assert http.get("/v1/models").status_code == 200


def test_a_head_that_does_not_come_is_not_waited_for(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.serve.running.HEAD_SECONDS", 0.2)
    for content in (b"", b"GET /v1/mod", b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n"):
        assert raw(server, content) == b""
    whole = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ANNA}\r\n\r\n".encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=4) as connection:  # less than idle connections are kept
        connection.sendall(whole)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v1/mod")
        while connection.recv(65536):
            pass


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: localhost", "Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Host: localhost", "Content-Length: 5", "Content-Length: 6"],
        ["Host: localhost", "Host: evil.example", "Content-Length: 0"],
        ["Host: localhost", "Content-Length: -1"],
        ["Host: localhost", "Content-Length: 1e3"],
        ["Host: localhost", "Transfer-Encoding: gzip, chunked"],
        ["Content-Length: 0"],
    ],
    ids=str,
)
def test_headers_that_contradict_each_other_are_refused(server: Running, lines: list[str]) -> None:
    reply = raw(server, head(*lines, f"Authorization: Bearer {ANNA}") + b"0\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n", 2)
    assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert reply.count(b"HTTP/1.1") == 1
    assert not reply.endswith(b"(open)")


def test_a_request_id_comes_back(server: Running) -> None:
    with server.http(ANNA) as http:
        assert http.get("/v1/models", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
        other = http.get("/nowhere", headers={"X-Request-Id": "<script>"}).headers["X-Request-Id"]
        assert other.isalnum()


def test_limits_are_those_of_each_key(tmp_path: Path, lm: LanguageModel) -> None:
    with running(tmp_path, lm, KEYS, Limits(requests_per_minute=3, stored_bytes=1, new_tokens=2)) as server:
        message: Any = [{"role": "user", "content": "Hi"}]
        session = {"X-Session-Id": "s"}
        anna = server.client(ANNA)
        anna.chat.completions.create(model="tiny", messages=message, extra_headers=session)
        with pytest.raises(openai.RateLimitError) as raised:
            anna.chat.completions.create(model="tiny", messages=message, extra_headers=session)
        assert raised.value.code == "insufficient_quota"
        anna.chat.completions.create(model="tiny", messages=message)
        with pytest.raises(openai.RateLimitError) as raised:
            anna.models.list()
        assert raised.value.code == "rate_limit_exceeded"
        assert 1 <= int(raised.value.response.headers["Retry-After"]) <= 60
        server.client(BERT).models.list()


def test_keys_are_read_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nanna:{ANNA}\nanna: {ANNA}-2\r\nbert:{BERT}", "utf-8")
    keys = Keys.load(file)
    assert keys is not None
    assert [keys.owner(key) for key in (ANNA, f"{ANNA}-2", BERT, "", "x", ANNA + " ")] == ["anna", "anna", "bert"] + [
        None
    ] * 3
    monkeypatch.setenv("MEMSPAN_SERVER_KEYS", f"cleo:{ANNA}")
    from_variable = Keys.load(None)
    assert from_variable is not None
    assert from_variable.owner(ANNA) == "cleo"
    for text, sentence in [
        ("", "at least one line"),
        ("anna", "must be OWNER:KEY"),
        ("anna:short", "at least 16"),
        (f"../anna:{ANNA}", "name of an owner"),
        (f"anna:{ANNA}\nbert:{ANNA}", "two owners"),
        ("anna:with spaces in the key", "no spaces"),
    ]:
        file.write_text(text, "utf-8")
        with pytest.raises(UsageError, match=sentence):
            Keys.load(file)
        with pytest.raises(UsageError) as raised:
            Keys.load(file)
        assert ANNA not in str(raised.value)
    with pytest.raises(UsageError, match="cannot be read"):
        Keys.load(tmp_path / "nothing")


def test_other_machines_need_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMSPAN_SERVER_KEYS", raising=False)
    assert "needs keys" in run("serve", "root", "--host", "0.0.0.0").sentence
    assert "must be an IP address" in run("serve", "root", "--host", "example.org").sentence
