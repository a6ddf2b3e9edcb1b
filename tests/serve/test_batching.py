"""Requests that are answered at the same time: each as it would be alone, none with the words of another."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memspan import LanguageModel
from memspan.pretrained.batched import BatchedDecoder
from memspan.serve.library import LOCAL
from memspan.serve.service import Limits
from tests.serve.running import Running, running

SESSIONS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server"), lm, limits=Limits(new_tokens=24)) as server:
        for number in range(SESSIONS):
            server.service.library.create(LOCAL, f"diary-{number}")
            with server.service.library.lease(LOCAL, f"diary-{number}") as memory:
                lm.read(f"The secret word of this diary is canary{number:02}.", memory, source="diary.txt")
        yield server


@pytest.fixture
def shared(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of each common step."""
    decoder = server.service.lm.decoder
    assert isinstance(decoder, BatchedDecoder)
    assert decoder.shares_steps
    sizes, original = [], decoder.read_together
    monkeypatch.setattr(decoder, "read_together", lambda texts: (sizes.append(len(texts)), original(texts))[1])
    return sizes


def replies(server: Running, number: int, kind: str) -> list[dict[str, Any]]:
    """The completions of two turns of a session with a memory of its own."""
    messages = (f"canary{number:02} is mine too", "What is the secret word of this diary?")
    with server.http() as http:
        out = []
        for message in messages:
            body = {
                "model": f"tiny/diary-{number}",
                "messages": [{"role": "user", "content": message}],
                "session_id": f"{kind} {number}",
                "stop": ["never written"],
                "temperature": (0, 1.0)[number % 2],
                "seed": number,
            }
            reply = http.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            out.append(reply.json())
    return out


def content(completions: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, int]]]:
    return [
        (reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"], reply["usage"])
        for reply in completions
    ]


def test_no_word_of_a_session_crosses_into_another(server: Running, shared: list[int]) -> None:
    with ThreadPoolExecutor(SESSIONS) as pool:
        together = list(pool.map(lambda number: replies(server, number, "together"), range(SESSIONS)))
    assert max(shared) > 2
    for number, completions in enumerate(together):
        text = repr(completions)
        assert f"canary{number:02}" in text  # its own, in the passages
        assert not [other for other in range(SESSIONS) if other != number and f"canary{other:02}" in text]
    shared.clear()
    assert [content(completions) for completions in together] == [
        content(replies(server, number, "alone")) for number in range(SESSIONS)
    ]
    assert shared == []


def test_completions_share_steps_too(server: Running, shared: list[int]) -> None:
    def completion(number: int) -> dict[str, Any]:
        body = {"model": "tiny", "prompt": f"Number {number}", "max_tokens": 20, "n": 2, "seed": 7, "temperature": 1.0}
        with server.http() as http:
            reply = http.post("/v1/completions", json=body).json()
        return {"choices": reply["choices"], "usage": reply["usage"]}

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(completion, range(4)))
    assert max(shared) > 1
    assert together == [completion(number) for number in range(4)]


def test_the_choices_of_a_request_share_steps(server: Running, shared: list[int]) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "temperature": 1.0}
    body |= {"max_tokens": 20, "seed": 7}
    with server.http() as http:
        whole = http.post("/v1/chat/completions", json={**body, "n": 4}).json()
        assert max(shared) > 1
        texts = [choice["message"]["content"] for choice in whole["choices"]]
        assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
        for number, text in enumerate(texts):
            alone = http.post("/v1/chat/completions", json={**body, "seed": 7 + number}).json()
            assert alone["choices"][0]["message"]["content"] == text
        events = http.post("/v1/chat/completions", json={**body, "n": 4, "stream": True}).text.split("\n\n")
    streamed = ["", "", "", ""]
    for event in events:
        if event.startswith("data: {"):
            (choice,) = json.loads(event.removeprefix("data: "))["choices"]
            streamed[choice["index"]] += choice["delta"].get("content") or ""
    assert streamed == texts


def test_requests_of_a_session_follow_each_other(server: Running) -> None:
    def turn(number: int) -> Any:
        body = {"model": "tiny", "messages": [{"role": "user", "content": f"{number}"}], "session_id": "shared"}
        with server.http() as http:
            return http.post("/v1/chat/completions", json=body).json()["memory"]["session"]

    with ThreadPoolExecutor(4) as pool:
        (name,) = set(pool.map(turn, range(4)))
    exchanges = server.service.library.open(LOCAL, name).sources
    users = [source.meta["turns"][0][1] for source in exchanges.values()]
    assert sorted(users) == ["0", "1", "2", "3"]
    kept = {int(source.meta["turns"][0][1]): source.name for source in exchanges.values()}
    assert len(set(kept.values())) == 4
