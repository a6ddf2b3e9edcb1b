"""Replicas behind an app: each request reaches the one that has its session, and what is lost with a replica is said.

The replicas of these tests are in the process of the app, but for the last ones, in which Ray starts and replaces them.
"""

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

from memspan import LanguageModel, Library
from memspan.errors import MemoryLocked
from memspan.plugins import is_installed
from memspan.serve.groups import GROUPS, group_of
from memspan.serve.guard import LOOPBACK, Guard, Rules
from memspan.serve.library import LEASE, LOCAL
from memspan.serve.replicas import Front, Replica
from memspan.serve.service import Limits, Service
from memspan.serve.settings import Settings
from tests.commands import Run
from tests.serve.running import ANNA, KEYS, listening_app
from tests.serve.test_killed import served

JSON = {"content-type": "application/json"}
HEX = "0123456789abcdef" * 2


class Lost(Exception):
    """What Ray raises where a replica is lost."""


class Parts:
    """The reply of a replica of this process."""

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self.messages, self.is_cancelled = messages, False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.messages

    def cancel(self) -> None:
        self.is_cancelled = True


class InProcess:
    """Replicas of this process, among which the groups are divided; requests without a group go round.

    Attributes:
        seen: the replica of each request, by its path and group.
    """

    def __init__(self, lm: LanguageModel, settings: Settings, count: int = 2) -> None:
        self.lm, self.settings, self.count = lm, settings, count
        self.replicas: dict[int, Any] = {}
        self.seen: list[tuple[str, str, int]] = []
        self.asked: list[Parts] = []

    def ask(self, scope: dict[str, Any], body: bytes, group: str) -> Parts:
        turn = sum(not of_group for _, of_group, _ in self.seen)
        number = (int(group.split()[1]) if group else turn) % self.count
        self.seen.append((scope["path"], group, number))
        self.asked.append(Parts(self._answer(number, scope, body, group)))
        return self.asked[-1]

    async def _answer(self, number: int, scope: dict[str, Any], body: bytes, group: str) -> AsyncIterator[Any]:
        if number not in self.replicas:
            replica: Any = Replica.__new__(Replica)
            await replica.__init__(SimpleNamespace(load=lambda: self.lm), self.settings, has_keys=False)
            self.replicas[number] = replica
        async for message in self.replicas[number].answer(scope, body, group):
            yield message

    @property
    def services(self) -> list[Service]:
        return [replica._app.state.service for replica in self.replicas.values()]


def settings_of(root: Path, **limits: int) -> Settings:
    return Settings(root, Limits(new_tokens=8, **limits), None, 2**30, 64, 8, has_tools=False, write_to=None)


@contextmanager
def fronted(ask: Any, limits: Limits, rules: Rules | None = None) -> Iterator[str]:
    front = Front(ask, (Lost,), limits)
    with listening_app(Guard(front, rules=rules or Rules(), service=front)) as url:
        yield url


@contextmanager
def clients(replicas: InProcess, rules: Rules | None = None, key: str = "none") -> Iterator[tuple[Any, Any]]:
    with (
        fronted(replicas.ask, replicas.settings.limits, rules) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client,
        httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
    ):
        yield client, http
        for service in replicas.services:
            service.engine.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- which requests belong together


def test_all_ways_to_name_a_session_lead_to_the_same_group() -> None:
    def group(path: str, fields: Any = None, **headers: str) -> str:
        return group_of("anna", path, {**JSON, **headers}, b"" if fields is None else json.dumps(fields).encode())

    ways = {
        group(f"/v1/conversations/conv_{HEX}"),
        group(f"/v1/conversations/conv_{HEX}/items"),
        group(f"/v1/responses/resp_{HEX}{'1' * 16}"),
        group(f"/v1/memories/session-{HEX}/sources"),
        group("/v1/responses", {"conversation": f"conv_{HEX}"}),
        group("/v1/responses", {"conversation": {"id": f"conv_{HEX}"}}),
        group("/v1/responses", {"previous_response_id": f"resp_{HEX}{'2' * 16}"}),
    }
    assert len(ways) == 1
    named = {
        group("/v1/chat/completions", {"session_id": "s"}),
        group("/v1/chat/completions", {"session_id": " s "}),
        group("/v1/chat/completions", {}, **{"x-session-id": "s"}),
        group("/v1/chat/completions", {"session_id": "s"}, **{"x-session-id": "t"}),  # the body counts
    }
    assert len(named) == 1
    assert named != ways
    assert group_of("bert", f"/v1/conversations/conv_{HEX}", {}, b"") not in ways  # another owner's


def test_what_any_replica_can_answer_has_no_group() -> None:
    bodies = [b"", b"{", b"[1]", b'{"conversation": 3}', b'{"session_id": ""}', json.dumps({"model": "m"}).encode()]
    for body in bodies:
        assert group_of("anna", "/v1/chat/completions", JSON, body) == ""
    for path in ("/v1/models", "/v1/conversations", "/v1/files/file-1", "/v1/memories", "/", "", "/v1/conversations/x"):
        assert group_of("anna", path, {}, b"") == ""
    assert group_of("anna", "/v1/chat/completions", {**JSON, "x-session-id": "s", "x-task": "title"}, b"{}") == ""


def test_groups_are_many_and_bounded() -> None:
    groups = {group_of("anna", f"/v1/memories/notes{number}", {}, b"") for number in range(2000)}
    assert GROUPS * 0.9 < len(groups) <= GROUPS


# ---- an app in front of replicas


def test_a_session_stays_with_a_replica_and_its_turns_are_there(lm: LanguageModel, tmp_path: Path) -> None:
    replicas = InProcess(lm, settings_of(tmp_path))
    with clients(replicas) as (client, _):
        sent: dict[str, list[str]] = {}
        for _ in range(4):
            conversation = client.conversations.create().id
            sent[conversation] = []
            for number in range(3):
                sent[conversation].append(f"Message {number} of {conversation}")
                reply = client.responses.create(model="tiny", conversation=conversation, input=sent[conversation][-1])
                assert reply.status in ("completed", "incomplete")
        for conversation, messages in sent.items():
            items = list(client.conversations.items.list(conversation, order="asc", limit=100))
            assert [item.content[0].text for item in items if item.role == "user"] == messages
    numbers: dict[str, set[int]] = {}
    for _, group, number in replicas.seen:
        numbers.setdefault(group, set()).add(number)
    assert all(len(found) == 1 for group, found in numbers.items() if group)
    assert {number for _, _, number in replicas.seen} == {0, 1}


def test_replies_are_those_of_one_process(lm: LanguageModel, tmp_path: Path) -> None:
    replicas = InProcess(lm, settings_of(tmp_path))
    with clients(replicas) as (client, http):
        events = list(client.chat.completions.create(model="tiny", messages=[user("Hello")], stream=True))
        whole = client.chat.completions.create(model="tiny", messages=[user("Hello")])
        assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == (
            whole.choices[0].message.content
        )
        file = client.files.create(file=("a.txt", b"The boat is green.\n" * 5000), purpose="assistants")
        assert client.files.content(file.id).read() == b"The boat is green.\n" * 5000  # by another replica
        store = client.vector_stores.create(name="boats", file_ids=[file.id])
        assert client.vector_stores.search(store.id, query="boat").data[0].filename == "a.txt"
        with pytest.raises(openai.NotFoundError) as refusal:
            client.responses.create(model="tiny", input="x", previous_response_id=f"resp_{HEX}{'0' * 16}")
        assert refusal.value.body == {**refusal.value.body, "param": "previous_response_id"}  # type: ignore[dict-item]
        assert http.get("/nothing").json()["error"]["code"] == "not_found"
        assert http.get("/ui").status_code == 200
        counts = http.get("/metrics").text
    assert 'memspan_requests_total{method="POST",route="/v1/chat/completions",status="200"} 2.0' in counts
    assert 'route="/v1/vector_stores/{store}/search"' in counts
    assert 'route="none",status="404"' in counts


def test_owners_and_limits_are_those_of_the_guard(lm: LanguageModel, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, requests_per_minute=3, body_bytes=1000)
    replicas = InProcess(lm, settings)
    with clients(replicas, Rules(KEYS, LOOPBACK), ANNA) as (client, http):
        assert http.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        conversation = client.conversations.create().id
        assert (tmp_path / "anna" / conversation.replace("conv_", "session-")).is_dir()
        assert http.post("/v1/conversations", json={"metadata": {"a": "b" * 2000}}).status_code == 413
        assert http.get("/v1/models").headers["x-ratelimit-remaining-requests"] == "0"
        assert http.get("/v1/models").status_code == 429
    assert len(replicas.seen) == 2


def test_a_client_that_leaves_stops_the_work(lm: LanguageModel, tmp_path: Path) -> None:
    replicas = InProcess(lm, settings_of(tmp_path), count=1)
    with clients(replicas) as (_, http):
        fields = {"model": "tiny", "messages": [user("Hello")], "max_tokens": 400, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=fields) as reply:
            next(reply.iter_lines())
        (service,) = replicas.services
        until(lambda: service.engine.running == 0)
        until(lambda: service.metrics.left._value.get() == 1)
        assert replicas.asked[-1].is_cancelled
        assert http.get("/v1/models").status_code == 200
        assert not replicas.asked[-1].is_cancelled  # it has the whole reply


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_lost_with_a_replica_is_said_or_ends(begun: bool) -> None:
    async def lost() -> AsyncIterator[Any]:
        if begun:
            yield {"type": "http.response.start", "status": 200, "headers": [], "route": "/v1/models"}
            yield {"type": "http.response.body", "body": b"the beginning", "more_body": True}
            await asyncio.sleep(0.05)
        raise Lost

    with fronted(lambda *request: Parts(lost()), Limits()) as url, httpx2.Client(base_url=url) as http:
        if begun:
            with pytest.raises(httpx2.RemoteProtocolError):
                http.get("/v1/models")
        else:
            reply = http.get("/v1/models")
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert reply.json()["error"]["code"] == "lost"


def test_without_any_replica_a_request_is_refused() -> None:
    def ask(*request: Any) -> Parts:
        raise Lost

    with fronted(ask, Limits()) as url:
        reply = httpx2.get(f"{url}/v1/models")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "lost")
        assert httpx2.get(f"{url}/metrics").status_code == 200


def test_a_reply_that_is_whole_is_not_cancelled() -> None:
    ended = threading.Event()

    async def slow_end() -> AsyncIterator[Any]:
        yield {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")], "route": None}
        yield {"type": "http.response.body", "body": b"done"}
        await asyncio.sleep(0.1)  # what a replica still does
        ended.set()

    parts = Parts(slow_end())
    with fronted(lambda *request: parts, Limits()) as url:
        assert httpx2.get(f"{url}/v1/models").text == "done"
        assert ended.wait(30)
    assert not parts.is_cancelled


def test_a_model_that_cannot_be_loaded_fails_the_replica(tmp_path: Path) -> None:
    def fail() -> LanguageModel:
        raise Lost("no such model")

    async def start() -> None:
        replica: Any = Replica.__new__(Replica)
        await replica.__init__(SimpleNamespace(load=fail), settings_of(tmp_path), has_keys=False)

    with pytest.raises(Lost, match="no such model"):
        asyncio.run(start())


# ---- leases among processes


def test_a_lease_of_a_shared_library_keeps_other_processes_out(lm: LanguageModel, tmp_path: Path) -> None:
    one, other = (Library(tmp_path, lm, is_shared=True) for _ in range(2))  # as in two processes
    one.create(LOCAL, "notes")
    with one.lease(LOCAL, "notes"):
        with one.lease(LOCAL, "notes"):
            pass
        with pytest.raises(MemoryLocked), other.lease(LOCAL, "notes"):  # the inner lease has not let go of it
            pass
        assert other.open(LOCAL, "notes").sources == {}
    with other.lease(LOCAL, "notes") as memory:
        lm.read("The tide turns at noon.", memory, source="tide")
    assert list(one.open(LOCAL, "notes").sources) == ["tide"]
    one.delete(LOCAL, "notes")
    assert not other.holds(LOCAL, "notes")


def test_a_library_of_one_process_makes_no_lock(lm: LanguageModel, tmp_path: Path) -> None:
    library = Library(tmp_path, lm)
    library.create(LOCAL, "notes")
    with library.lease(LOCAL, "notes"):
        assert not (tmp_path / LOCAL / "notes" / LEASE).exists()


def test_a_turn_of_a_session_that_another_replica_works_on_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    replicas = InProcess(lm, settings_of(tmp_path))
    with clients(replicas) as (client, _):
        conversation = client.conversations.create().id
        other = Library(tmp_path, lm, is_shared=True)
        with other.lease(LOCAL, conversation.replace("conv_", "session-")), pytest.raises(openai.ConflictError):
            client.responses.create(model="tiny", conversation=conversation, input="Hello")
        assert client.responses.create(model="tiny", conversation=conversation, input="Hello").id


# ---- the command


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--detach"], "foreground"),
        (["--tokens-per-minute", "100"], "--requests-per-minute"),
        (["--device", "cuda:1"], "cpu or cuda"),
    ],
)
def test_options_that_replicas_do_not_have(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.setattr("memspan.pretrained.ray_cluster.require_installed", lambda *_: None)
    assert sentence in run("serve", str(tmp_path), "--ray", "2", *options).sentence


@pytest.mark.skipif(not is_installed("ray"), reason="Ray is large, and `make` leaves it out: memspan[ray]")
def test_a_killed_replica_of_ray_loses_nothing_that_was_acknowledged(tmp_path: Path, tiny_model: Path) -> None:
    with served(tmp_path, tiny_model, "--ray", "2", "--max-new-tokens", "4", seconds=300) as (process, client):
        sent: dict[str, list[str]] = {client.conversations.create().id: [] for _ in range(4)}
        statuses: list[int] = []
        ending = threading.Event()

        def talk(conversation: str) -> None:
            number = 0
            while not ending.is_set():
                number += 1
                message = f"Message {number} of {conversation}"
                try:
                    client.responses.create(model="model", conversation=conversation, input=message)
                except openai.APIStatusError as error:
                    statuses.append(error.status_code)
                except openai.APIConnectionError:
                    statuses.append(0)
                else:
                    sent[conversation].append(message)

        talking = [threading.Thread(target=talk, args=(conversation,)) for conversation in sent]
        for thread in talking:
            thread.start()
        until(lambda: all(len(messages) >= 3 for messages in sent.values()), 60)
        first, *others = replicas()
        assert len(others) == 1
        os.kill(first, signal.SIGKILL)
        before = {conversation: len(messages) for conversation, messages in sent.items()}
        until(lambda: all(len(sent[each]) >= before[each] + 3 for each in sent), 60)
        until(lambda: len(set(replicas()) - {first}) == 2, 60)  # another one in its place
        ending.set()
        for thread in talking:
            thread.join()
        assert set(statuses) <= {0, 409, 503}
        for conversation, messages in sent.items():
            items = list(client.conversations.items.list(conversation, order="asc", limit=100))
            found = [item.content[0].text for item in items if item.role == "user"]
            assert len(found) == len(set(found))
            assert [message for message in found if message in messages] == messages
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert replicas() == []


def replicas() -> list[int]:
    """The processes of replicas."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::ServeReplica" in line]
