"""Chat completions, by the client that OpenAI publishes: replies, streams, sessions and what they keep."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from memspan import LanguageModel, Library
from memspan.assistant.chat import latest_exchanges
from memspan.serve.library import LOCAL
from memspan.serve.sessions import is_session, session_name
from tests.serve.running import Running, running

FACT = "The zinc trunk stands under the stairs of the boathouse."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server"), lm) as server:
        server.service.library.create(LOCAL, "book")
        with server.service.library.lease(LOCAL, "book") as memory:
            lm.read(f"{FACT} The pump is in the cellar. The captain sleeps.", memory, source="house.txt")
        yield server


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def chat(server: Running, *texts: str, session: str | None = None, **options: Any) -> ChatCompletion:
    """The completion of messages that are the user's and the assistant's in turn."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    headers = {} if session is None else {"X-Session-Id": session}
    options = {"model": "tiny", "max_tokens": 5, **options}
    completion = server.client().chat.completions.create(messages=messages, extra_headers=headers, **options)  # type: ignore[arg-type]
    ChatCompletion.model_validate_json(completion.model_dump_json(), strict=True)
    return completion


def text_of(completion: ChatCompletion) -> str:
    content = completion.choices[0].message.content
    assert content is not None
    return content


def transcript(library: Library, session: str) -> list[tuple[str, str]]:
    """The exchanges of the newest branch."""
    name = session_name("session", session)
    branches = [other for other in library.names(LOCAL) if other.startswith(name)]
    newest = max((list(latest_exchanges(library.open(LOCAL, other))) for other in branches), key=lambda e: e[0].source)
    return [(exchange.user, exchange.assistant) for exchange in reversed(newest)]


def test_a_stateless_reply_leaves_nothing(server: Running) -> None:
    before = server.service.library.names(LOCAL)
    completion = chat(server, "Hello")
    usage = completion.usage
    assert usage is not None
    assert completion.choices[0].finish_reason == "length"
    assert (usage.completion_tokens, usage.total_tokens) == (5, usage.prompt_tokens + 5)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert text_of(completion) == text_of(chat(server, "Hello"))
    assert server.service.library.names(LOCAL) == before


def test_the_reply_is_that_of_the_library(server: Running, lm: LanguageModel) -> None:
    from memspan import Chat, Sampling

    alone = "".join(Chat(lm, lm.new_memory(), sampling=Sampling(12)).reply("Where is the pump?"))
    assert text_of(chat(server, "Where is the pump?", max_tokens=12)) == alone.strip()


def test_a_memory_is_recalled_and_counted(server: Running) -> None:
    for options in (
        {"model": "tiny/book"},
        {"metadata": {"memory": "book"}},
        {"extra_body": {}, "extra_headers": {"X-Memory": "book"}},
    ):
        headers = options.pop("extra_headers", {})
        completion = server.client().chat.completions.create(
            **{"model": "tiny", "messages": [user("Where is the zinc trunk?")], "max_tokens": 3, **options},
            extra_headers=headers,
        )
        passages = completion.model_extra["memory"]["recalled"]  # type: ignore[index]
        assert [passage["source"] for passage in passages] == ["house.txt"]
        assert FACT in passages[0]["text"]
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        cached = completion.usage.prompt_tokens_details.cached_tokens
        assert cached is not None
        assert 10 < cached < completion.usage.prompt_tokens


def test_a_stream_has_the_parts_of_the_whole(server: Running) -> None:
    whole = chat(server, "Hello", max_tokens=7)
    chunks = list(
        server.client().chat.completions.create(
            model="tiny",
            messages=[user("Hello")],  # type: ignore[list-item]
            max_tokens=7,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk.model_dump_json(), strict=True)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text_of(whole)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    with server.http() as http:
        body = {"model": "tiny", "messages": [user("Hello")], "max_tokens": 2, "stream": True}
        lines = http.post("/v1/chat/completions", json=body).text
    assert lines.endswith("data: [DONE]\n\n")
    assert "usage" not in json.loads(lines.split("\n\n")[-3].removeprefix("data: "))


def test_sampling_is_as_the_request_has_it(server: Running) -> None:
    drawn = [text_of(chat(server, "Hello", temperature=1.5, seed=seed, max_tokens=8)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    several = chat(server, "Hello", temperature=1.5, seed=1, max_tokens=8, n=2)
    assert [choice.message.content for choice in several.choices] == [drawn[0], drawn[2]]
    assert several.usage is not None
    assert several.usage.completion_tokens <= 16
    whole = text_of(chat(server, "Hello", max_tokens=8))
    cut = chat(server, "Hello", max_tokens=8, stop=[whole[3:6], "never"])
    assert text_of(cut) == whole[: whole.find(whole[3:6])].rstrip()
    assert cut.choices[0].finish_reason == "stop"


def test_an_object_is_one_or_says_that_it_was_cut(server: Running) -> None:
    reasons = set()
    for seed in range(4):
        options: dict[str, Any] = {"temperature": 1, "seed": seed, "max_tokens": 120}
        completion = chat(server, "Write JSON", response_format={"type": "json_object"}, **options)
        reasons.add(completion.choices[0].finish_reason)
        assert text_of(completion).startswith("{")
        if completion.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(text_of(completion)), dict)
    assert "stop" in reasons
    short = chat(server, "Write JSON", response_format={"type": "json_object"}, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    response = server.client().responses.create(
        model="tiny", input="Write JSON", text={"format": {"type": "json_object"}}, max_output_tokens=3, store=False
    )
    assert response.output_text.startswith("{")


def test_a_session_goes_on_and_resent_history_is_not_read_again(server: Running) -> None:
    library = server.service.library
    first = text_of(chat(server, "One", session="resent"))
    second = text_of(chat(server, "Two", session="resent"))
    assert transcript(library, "resent") == [("One", first), ("Two", second)]
    generation = library.open(LOCAL, session_name("session", "resent")).generation
    third = chat(server, "One", first, "Two", second, "Three", session="resent")
    assert transcript(library, "resent") == [("One", first), ("Two", second), ("Three", text_of(third))]
    assert library.open(LOCAL, session_name("session", "resent")).generation == generation + 1
    assert third.usage is not None
    assert third.usage.prompt_tokens_details is not None
    assert (third.usage.prompt_tokens_details.cached_tokens or 0) > 0
    trimmed = text_of(chat(server, "Three", text_of(third), "Four", session="resent"))  # what fits a client's window
    assert transcript(library, "resent")[-1] == ("Four", trimmed)
    assert len(transcript(library, "resent")) == 4
    elsewhere = ["Four", trimmed, "Five", "Said by another model", "Six"]
    sixth = text_of(chat(server, *elsewhere, session="resent"))
    assert transcript(library, "resent")[-2:] == [("Five", "Said by another model"), ("Six", sixth)]


def test_an_edited_history_branches_and_the_other_branch_stays(server: Running) -> None:
    library = server.service.library
    texts = ["One"]
    for message in ("Two", "Three", ""):
        texts += [text_of(chat(server, *texts, session="edited")), message]
    original = transcript(library, "edited")
    assert len(original) == 3
    edited = [*texts[:2], "Zwei"]
    reply = text_of(chat(server, *edited, session="edited"))
    assert transcript(library, "edited") == [original[0], ("Zwei", reply)]
    first = library.open(LOCAL, session_name("session", "edited"))
    assert [exchange.user for exchange in latest_exchanges(first)] == ["Three", "Two", "One"]
    back = text_of(chat(server, *texts[:-1], "Four", session="edited"))
    assert transcript(library, "edited") == [*original, ("Four", back)]
    again = text_of(chat(server, *edited, reply, "Drei", session="edited"))
    assert transcript(library, "edited") == [original[0], ("Zwei", reply), ("Drei", again)]
    assert sum(name.startswith(session_name("session", "edited")) for name in library.names(LOCAL)) == 2


def test_a_session_recalls_what_left_the_window(server: Running) -> None:
    chat(server, FACT, session="long", max_tokens=2)
    memory = server.service.library.open(LOCAL, session_name("session", "long"))
    for count in range(30):
        server.service.lm.remember(
            memory,
            f"User: {count}\n\nAssistant: {'well ' * 60}",
            source=f"chat/3000-{count:02}",
            turns=[["user", str(count)], ["assistant", "well " * 60]],
        )
    completion = chat(server, "Where is the zinc trunk?", session="long", max_tokens=2)
    assert FACT in completion.model_extra["memory"]["recalled"][0]["text"]  # type: ignore[index]


def test_a_session_and_a_memory_together(server: Running) -> None:
    book = server.service.library.open(LOCAL, "book").generation
    for message in ("Where is the zinc trunk?", "And the zinc trunk again?"):
        completion = chat(server, message, session="both", model="tiny/book", max_tokens=2)
        sources = [passage["source"] for passage in completion.model_extra["memory"]["recalled"]]  # type: ignore[index]
        assert any(source.endswith("house.txt") for source in sources)
    assert server.service.library.open(LOCAL, "book").generation == book
    assert len(transcript(server.service.library, "both")) == 2


def test_sessions_are_no_models_and_tasks_are_no_turns(server: Running) -> None:
    chat(server, "One", session="task")
    with server.http() as http:
        body = {"model": "tiny", "messages": [user("Find a title")], "max_tokens": 2, "session_id": "task"}
        reply = http.post("/v1/chat/completions", json=body, headers={"X-Task": "title_generation"})
        assert reply.json()["memory"]["session"] is None
        assert len(transcript(server.service.library, "task")) == 1
        assert is_session(http.post("/v1/chat/completions", json=body).json()["memory"]["session"])
    models = [model.id for model in server.client().models.list()]
    assert models == ["tiny", "tiny/book"]
    assert server.client().models.retrieve("tiny/book").id == "tiny/book"
    with pytest.raises(openai.NotFoundError):
        server.client().models.retrieve("tiny/other")


def test_a_client_that_leaves_stops_the_reply_and_nothing_of_it_is_kept(server: Running) -> None:
    chat(server, "One", session="left")
    kept = transcript(server.service.library, "left")
    for parts in (0, 1, 3):
        stream = server.client().chat.completions.create(
            model="tiny",
            messages=[user("Go on for ever")],  # type: ignore[list-item]
            max_tokens=1500,
            temperature=2,
            seed=parts,
            stream=True,
            extra_headers={"X-Session-Id": "left"},
        )
        for _ in range(parts):
            next(stream)
        stream.close()
        wait_until_idle(server)
        assert transcript(server.service.library, "left") == kept
    leaving = threading.Thread(target=_leave, args=(server,))
    leaving.start()
    leaving.join()
    wait_until_idle(server)
    assert transcript(server.service.library, "left") == kept
    assert text_of(chat(server, "Two", session="left"))
    assert len(transcript(server.service.library, "left")) == 2


def _leave(server: Running) -> None:
    """Ask for a reply as a whole, and leave before it is there."""
    with pytest.raises(openai.APITimeoutError):
        server.client().with_options(timeout=0.3).chat.completions.create(
            model="tiny",
            messages=[user("Go on for ever")],  # type: ignore[list-item]
            max_tokens=1900,
            temperature=2,
            extra_headers={"X-Session-Id": "left"},
        )


def wait_until_idle(server: Running) -> None:
    while server.service.engine.running or server.service.engine.waiting:
        time.sleep(0.01)


WRONG = [
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "Hello"}]}, "messages"),
    ({"messages": [user("")]}, "messages"),
    ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages.0.role"),
    ({"messages": "Hello"}, "messages"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1e309}, None),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 2**63}, "max_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"seed": 2**64}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 1000}, "n"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"logprobs": True}, "logprobs"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"n": 2, "session_id": "s"}, "n"),
    ({"session_id": 7}, "session_id"),
    ({"session_id": "s" * 600}, "session"),
    ({"metadata": {"memory": "x"}, "model": "tiny/book"}, "metadata.memory"),
    ({"messages": [user("word " * 3000)]}, None),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named(server: Running, fields: dict[str, Any], param: str | None) -> None:
    body = {"model": "tiny", "messages": [user("Hi")], **fields}
    before = server.service.library.names(LOCAL)
    for stream in (False, True):
        with server.http() as http:
            content = json.dumps({**body, "stream": stream}).replace("Infinity", "1e309")
            reply = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
        assert reply.status_code == 400, reply.text
        assert reply.json().keys() == {"error"}
        error = reply.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert param is None or error["param"].startswith(param)
        assert "Traceback" not in error["message"]
    assert server.service.library.names(LOCAL) == before


@pytest.mark.parametrize("model", ["other", "tiny/other", "tiny/", "tiny/../book", "other/tiny/book", "/tiny", "TINY"])
def test_an_unknown_model_or_memory_is_missing(server: Running, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        chat(server, "Hello", model=model)
    assert raised.value.code in ("model_not_found", "memory_not_found")


def test_a_reply_outlives_the_server(tmp_path: Path, lm: LanguageModel) -> None:
    with running(tmp_path, lm) as server:
        first = text_of(chat(server, "One", session="s"))
        straight = text_of(chat(server, "One", session="t", max_tokens=5))
        straight = text_of(chat(server, "Two", session="t", max_tokens=20))
    with running(tmp_path, lm) as server:
        assert text_of(chat(server, "Two", session="s", max_tokens=20)) == straight
        assert transcript(server.service.library, "s") == [("One", first), ("Two", straight)]
