"""Routes of memories and of ratings: a real server with the tiny model, and what its replies hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from memspan import LanguageModel
from memspan.serve.service import Limits
from tests.assistant.conftest import lm  # noqa: F401 - a fixture
from tests.serve.running import ANNA, BERT, KEYS, Running, running

TEXT = "The dragon of Ulm sleeps in the town hall. It was found by Marta Klein in May. " * 3
LIMITS = Limits(new_tokens=4, upload_bytes=200_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:  # noqa: F811
    with running(tmp_path_factory.mktemp("library"), lm, KEYS, LIMITS) as found:
        yield found


@pytest.fixture
def anna(server: Running) -> Iterator[httpx2.Client]:
    """A client of an owner with one memory "book", which holds one source."""
    with server.http(ANNA) as client:
        client.post("/v1/memories", json={"name": "book"}).raise_for_status()
        client.post("/v1/memories/book/texts", json={"source": "ulm.txt", "text": TEXT}).raise_for_status()
        yield client
        for memory in client.get("/v1/memories").json()["data"]:
            client.delete(f"/v1/memories/{memory['name']}").raise_for_status()


def values(reply: httpx2.Response) -> list[dict[str, Any]]:
    """The values of server-sent events or of JSON Lines."""
    assert reply.status_code == 200, reply.text
    return [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]


def error(reply: httpx2.Response) -> tuple[int, str]:
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    return reply.status_code, reply.json()["error"]["message"]


def test_memories_are_listed_with_what_they_hold(anna: httpx2.Client) -> None:
    listed = anna.get("/v1/memories").json()
    (memory,) = listed["data"]
    assert (memory["name"], memory["sources"], memory["is_session"]) == ("book", 1, False)
    assert memory["tokens"] > 0
    assert 0 < memory["bytes"] <= listed["bytes"]
    assert [source["name"] for source in anna.get("/v1/memories/book/sources").json()["data"]] == ["ulm.txt"]


def test_an_answer_comes_in_parts_and_then_as_a_whole(anna: httpx2.Client) -> None:
    body = {"question": "Who found the dragon?", "min_confidence": 0}
    *parts, last = values(anna.post("/v1/memories/book/ask", json=body))
    assert "".join(part["text"] for part in parts).strip() == last["answer"]["answer"]
    assert last["answer"]["is_answered"]
    assert {passage["source"] for passage in last["answer"]["passages"]} == {"ulm.txt"}
    assert all(quote["text"] in TEXT for quote in last["answer"]["quotes"])


def test_a_filter_that_excludes_everything_is_an_error_with_its_own_status(anna: httpx2.Client) -> None:
    body = {"question": "Who found the dragon?", "sources": ["other*"]}
    status, message = error(anna.post("/v1/memories/book/ask", json=body))
    assert status == 400
    assert "other*" in message


@pytest.mark.parametrize(
    ("start", "end", "around"), [(0, 10, 0), (4, 10, 7), (30, 60, 1000), (len(TEXT) - 4, len(TEXT) + 9, 5)]
)
def test_the_text_around_a_passage(anna: httpx2.Client, start: int, end: int, around: int) -> None:
    query = {"source": "ulm.txt", "start": start, "end": end, "around": around}
    shown = anna.get("/v1/memories/book/text", params=query).json()
    expected = TEXT[max(0, start - around) : start], TEXT[start:end], TEXT[end : end + around]
    assert (shown["before"], shown["text"], shown["after"]) == expected


def test_a_file_is_read_and_can_be_sent_again(anna: httpx2.Client, tmp_path: Path) -> None:
    text = "\n\n".join(f"In the year {year} the river of Ulm rose by {year % 13} feet." for year in range(1500, 1900))
    for _ in range(2):
        replies = values(anna.post("/v1/memories/book/files", files={"file": ("rivers/notes.md", text.encode())}))
        assert replies[-1]["sources"] == ["rivers/notes.md"]
        assert replies[-1]["share"] == 1
    sources = {source["name"]: source for source in anna.get("/v1/memories/book/sources").json()["data"]}
    assert sources["rivers/notes.md"]["characters"] == len(text)


def test_reading_goes_on_where_its_turn_ended(anna: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.serve.uploads.TURN", 0.0)
    monkeypatch.setattr("memspan.serve.uploads._SHARE_OF_FINDING", 0.0)
    text = "".join(f"Line {number} of the log of the mill at the bridge.\n" for number in range(3000))
    replies = values(anna.post("/v1/memories/book/files", files={"file": ("log.txt", text.encode())}))
    shares = [reply["share"] for reply in replies]
    assert len(shares) > 2, "one turn read it all"
    assert shares == sorted(shares)
    held = anna.get("/v1/memories/book/text", params={"source": "log.txt", "start": 0, "end": 10**6}).json()["text"]
    assert held == text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("empty.txt", b"", "empty"), ("noise.txt", bytes(range(256)) * 8, "binary"), (" ", b"text", "must have a name")],
)
def test_a_file_that_cannot_be_read_is_an_error(anna: httpx2.Client, name: str, content: bytes, words: str) -> None:
    status, message = error(anna.post("/v1/memories/book/files", files={"file": (name, content)}))
    assert status == 400
    assert words in message
    assert "/tmp" not in message


def test_another_text_of_the_same_name_is_refused(anna: httpx2.Client) -> None:
    send = lambda text: anna.post("/v1/memories/book/files", files={"file": ("a.txt", text.encode())})  # noqa: E731
    values(send("The mill is closed in spring."))
    status, message = error(send("The mill is open in spring."))
    assert status in (400, 409)
    assert "a.txt" in message


def test_forgetting_shows_first_what_it_would_forget(anna: httpx2.Client) -> None:
    body = {"pattern": "ul*", "dry_run": True}
    assert anna.post("/v1/memories/book/forget", json=body).json() == {"sources": ["ulm.txt"], "dry_run": True}
    assert anna.get("/v1/memories/book/sources").json()["data"]
    anna.post("/v1/memories/book/forget", json=body | {"dry_run": False}).raise_for_status()
    assert anna.get("/v1/memories/book/sources").json()["data"] == []
    assert error(anna.post("/v1/memories/book/forget", json=body))[0] == 400


def test_a_foreign_memory_is_as_if_it_were_not_there(server: Running, anna: httpx2.Client) -> None:
    with server.http(BERT) as bert:
        assert bert.get("/v1/memories").json() == {"object": "list", "data": [], "bytes": 0}
        for name in ("book", "nothing"):
            requests = [
                bert.get(f"/v1/memories/{name}/sources"),
                bert.get(f"/v1/memories/{name}/text", params={"source": "ulm.txt", "start": 0, "end": 9}),
                bert.post(f"/v1/memories/{name}/texts", json={"source": "a", "text": "b"}),
                bert.post(f"/v1/memories/{name}/files", files={"file": ("a.txt", b"text")}),
                bert.post(f"/v1/memories/{name}/ask", json={"question": "Who?"}),
                bert.post(f"/v1/memories/{name}/forget", json={"pattern": "*"}),
                bert.delete(f"/v1/memories/{name}"),
                bert.post("/v1/ratings/pairs", json={"question": "Who?", "systems": [f"memory/{name}", "model"]}),
            ]
            assert {error(reply) for reply in requests} == {(404, f"There is no memory '{name}'.")}
    assert [memory["name"] for memory in anna.get("/v1/memories").json()["data"]] == ["book"]


def test_stored_bytes_are_limited(tmp_path: Path, lm: LanguageModel) -> None:  # noqa: F811
    with running(tmp_path, lm, limits=Limits(stored_bytes=1)) as server, server.http() as client:
        client.post("/v1/memories", json={"name": "book"}).raise_for_status()
        assert error(client.post("/v1/memories/book/texts", json={"source": "a", "text": "b"}))[0] == 429


def test_two_answers_are_written_and_rated(server: Running, anna: httpx2.Client) -> None:
    body = {"question": "Who found the dragon?", "systems": ["memory/book", "model"]}
    pair = anna.post("/v1/ratings/pairs", json=body).json()["pair"]
    assert set(pair) == {"id", "question", "left", "right"}
    assert anna.get("/v1/ratings/pairs/next", params={"rater": "ada"}).json()["pair"] == pair
    anna.post(f"/v1/ratings/pairs/{pair['id']}", json={"rater": "ada", "choice": "left"}).raise_for_status()
    assert anna.get("/v1/ratings/pairs/next", params={"rater": "ada"}).json()["pair"] is None
    results = anna.get("/v1/ratings").json()
    (rate,) = results["rates"]
    assert (results["ratings"], {rate["first"], rate["second"]}) == (1, {"memory/book", "model"})
    (line,) = values(anna.get("/v1/ratings/lines"))
    assert line["preferred"] == line["left_system"]
    with server.http(BERT) as bert:
        assert bert.get("/v1/ratings").json()["ratings"] == 0
        assert error(bert.post(f"/v1/ratings/pairs/{pair['id']}", json={"rater": "bert", "choice": "left"}))[0] == 400


@pytest.mark.parametrize("systems", [["model", "model"], ["model"], ["model", "other"], ["model", "memory/../book"]])
def test_what_cannot_be_compared(anna: httpx2.Client, systems: list[str]) -> None:
    assert error(anna.post("/v1/ratings/pairs", json={"question": "Who?", "systems": systems}))[0] in (400, 404)
