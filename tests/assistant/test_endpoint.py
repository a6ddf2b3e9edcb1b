"""A server writes the answer: the three dialects, and everything that can go wrong with a server."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

import memspan
from memspan.assistant.answerers.base import PromptTooLong
from memspan.assistant.answerers.endpoint import EndpointAnswerer
from memspan.assistant.chat import Chat
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.prompts import quoted
from memspan.errors import AnswererFailed, UsageError
from memspan.models.generate import Sampling
from tests.servers import Reply, Server, as_events, as_json, chunk, completion, dialect, serving
from tests.tiny import logbook

MESSAGES = [{"role": "user", "content": "Where does the trunk stand?"}]
QUESTION = "What was the weather on the gallery?"
SHORT = Sampling(max_new_tokens=20)


@pytest.fixture(autouse=True)
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMSPAN_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def memory(lm: LanguageModel) -> memspan.Memory:
    return lm.read(logbook()[:8000], source="book")


def written(server: Server, model: str | None = None, sampling: Sampling = SHORT, **options: Any) -> str:
    return "".join(EndpointAnswerer(server.url, model, **options).answer(MESSAGES, sampling))


def failure(reply: Reply, name: str = "vllm", model: str | None = None) -> str:
    """The sentence for a reply to the request for an answer."""
    with serving(dialect(name, reply)) as server, pytest.raises(AnswererFailed) as error:
        written(server, model)
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_an_answer_is_streamed_with_its_settings() -> None:
    with serving(dialect("vllm", completion("Under ", "the third ", "stair."))) as server:
        sampling = Sampling(max_new_tokens=7, temperature=0.5, top_p=0.9, seed=3)
        parts = EndpointAnswerer(server.url).answer(MESSAGES, sampling)
        assert next(parts) == "Under "
        assert list(parts) == ["the third ", "stair."]
    (body,) = server.bodies
    assert body["messages"] == MESSAGES
    assert (body["model"], body["stream"], body["max_tokens"]) == ("org/model", True, 7)
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.5, 0.9, 3)


def test_what_is_not_set_is_not_sent() -> None:
    with serving(dialect("vllm", completion("Yes."))) as server:
        written(server)
    assert server.bodies[0].keys() == {"model", "messages", "stream", "stream_options", "max_tokens", "temperature"}


@pytest.mark.parametrize(("name", "window"), [("llama.cpp", 512), ("vllm", 1024), ("ollama", None)])
def test_the_window_that_a_server_reports(name: str, window: int | None) -> None:
    model = "qwen3:8b" if name == "ollama" else None
    with serving(dialect(name, completion("Yes."))) as server:
        answerer = EndpointAnswerer(server.url, model)
        assert answerer.window == window
        assert answerer.name.endswith(" at 127.0.0.1")
        list(answerer.answer(MESSAGES, SHORT))
    assert [path for path, _, _ in server.requests].count("/v1/models") == 1


def test_one_of_several_models_must_be_chosen() -> None:
    with serving(dialect("ollama", completion("Yes."))) as server:
        with pytest.raises(AnswererFailed, match=r"models llama3.2:3b, qwen3:8b: choose one .*/v1#llama3.2:3b'"):
            written(server)
        assert written(server, "qwen3:8b") == "Yes."
    assert server.bodies[0]["model"] == "qwen3:8b"
    with serving(lambda *_: as_json({"data": []})) as server, pytest.raises(AnswererFailed, match="has no model: load"):
        written(server)


def test_a_server_without_a_list_of_models() -> None:
    def route(path: str, body: Any) -> Reply:
        return completion("Yes.") if body else as_json({"error": {"message": "Not Found"}}, 404)

    with serving(route) as server:
        assert written(server, "mine") == "Yes."
        with pytest.raises(AnswererFailed, match=r"no chat completions API at .* \(Not Found\): .* /v1"):
            written(server)


def test_a_reply_that_is_no_stream_is_an_answer_too() -> None:
    whole = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    }
    with serving(dialect("vllm", as_json(whole))) as server:
        assert written(server) == "Yes."


def test_parts_of_a_character_and_comments_in_the_stream() -> None:
    events = [
        ": ping\n\n",
        "event: message\r\nid: 1\r\n",
        chunk("我"),
        chunk("们"),
        chunk(None),
        chunk(reason="length"),
    ]
    with serving(dialect("vllm", as_events(*events))) as server:
        assert written(server) == "我们"


# What the servers reply, as recorded from them or as their issues and sources have it.
REPLIES = {
    "llama.cpp, wrong key": (
        as_json({"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}}, 401),
        r"127.0.0.1 refuses the key \(Invalid API Key\): put one into \$MEMSPAN_API_KEY\.",
    ),
    "llama.cpp, loading": (
        as_json({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503),
        r"is not ready \(Loading model\): wait until its model is loaded\.",
    ),
    "ollama, no such model": (
        as_json({"error": {"message": "model 'qwen3:8b' not found", "type": "not_found_error", "code": None}}, 404),
        r"has no model 'qwen3:8b' \(model 'qwen3:8b' not found\): load it there",
    ),
    "vllm, no such model": (
        as_json({"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}, 404),
        r"has no model 'qwen3:8b' \(The model `x` does not exist\)",
    ),
    "fastapi, no such address": (as_json({"detail": "Not Found"}, 404), r"no chat completions API at .* \(Not Found\)"),
    "a web page": (Reply("<html>nothing</html>", 404, {"Content-Type": "text/html"}), "its address usually ends in /v1"),
    "vllm, a bad request": (
        as_json({"object": "error", "message": "top_p must be in (0, 1]", "type": "BadRequestError", "code": 400}, 400),
        r"refused the request with status 400 \(top_p must be in \(0, 1\]\)\.",
    ),
    "too many requests": (
        as_json({"error": "slow down"}, 429, **{"Retry-After": "7"}),
        r"takes no more requests now \(slow down\): try again in 7 seconds\.",
    ),
    "no time to try again": (as_json({}, 429, **{"Retry-After": "\x1b[31m"}), "try again in a while"),
    "a failing server": (Reply("Bad Gateway", 502), "failed with status 502: look at its log"),
    "a message of control characters": (
        as_json({"error": {"message": "a\x1b[31mb\n\u202ec" + "x" * 5000}}, 500),
        r"\(a \[31mb  ?cx{250,300}\.\.\.\)",
    ),
    "an error within the stream": (
        as_events(chunk("Under"), {"error": {"message": "out of memory", "code": 500}}),
        r"ended the answer with an error \(out of memory\): look at its log",
    ),
    "an error of vllm within the stream": (
        as_events(chunk("Under"), {"object": "error", "message": "engine dead", "code": 500}),
        r"ended the answer with an error \(engine dead\)",
    ),
    "a web page instead of a stream": (
        Reply("<html>Welcome!</html>", 200, {"Content-Type": "text/html"}),
        r"does not speak the chat completions API of OpenAI \(it sent text/html\): check the address",
    ),
    "no JSON in an event": (as_events("data: {oops\n\n"), r"an event of the stream is no JSON"),
    "another JSON value": (as_events([1, 2]), "an event of the stream is no JSON object"),
    "choices that are none": (as_events({"choices": "x"}), "no part of a chat completion"),
    "a delta that is none": (as_events({"choices": [{"delta": "x"}]}), "no part of a chat completion"),
    "an end before the end": (as_events(chunk("Under"), end=""), r"broke off \(the stream ended before the answer did\)"),
    "a connection that breaks": (as_events(chunk("Under"), end="", missing=99), r"127.0.0.1 broke off \(.+\): ask again"),
    "an event of many megabytes": (as_events("data: " + "x" * 3_000_000 + "\n\n"), "broke off"),
    "reasoning alone": (
        as_events({"choices": [{"delta": {"reasoning_content": "Hm."}}]}, chunk(reason="length")),
        "spent all tokens of the answer on reasoning: allow more with --max-new-tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPLIES)
def test_what_goes_wrong_is_one_sentence_with_a_way_out(case: str) -> None:
    reply, sentence = REPLIES[case]
    assert re.search(sentence, failure(reply, "ollama", "qwen3:8b"))


def test_no_server_and_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(dialect("vllm", completion("Yes."))) as server:
        pass
    with pytest.raises(
        AnswererFailed, match=r"does not answer \(.*refused.*\): start it, or give the address of another"
    ):
        written(server)
    with pytest.raises(AnswererFailed, match=r"http://no-such-host.invalid/v1 does not answer"):
        list(EndpointAnswerer("http://no-such-host.invalid/v1").answer(MESSAGES, SHORT))
    monkeypatch.setattr("memspan.assistant.answerers.endpoint.SILENCE_SECONDS", 0.05)

    def late(*_: object) -> Reply:
        import time

        time.sleep(0.3)
        return Reply()

    with serving(late) as server, pytest.raises(AnswererFailed, match="it was silent for 0 seconds"):
        written(server)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("localhost:8080/v1", "must begin with http:// or https://"),
        ("ftp://host/v1", "must begin with http:// or https://"),
        ("file:///etc/passwd", "must begin with http:// or https://"),
        ("http:///v1", "must begin with http:// or https://"),
        ("http://ann:secret@host/v1", "neither a password nor a query, got one for host"),
        ("http://host/v1?key=secret", "neither a password nor a query, got one for host"),
        ("http://ho st\0/v1", "must be a URL|must begin"),
    ],
)
def test_addresses_that_are_none(url: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        EndpointAnswerer(url)
    assert "secret" not in str(error.value)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(dialect("vllm", completion("Yes."))) as server:
        yield server


def authorizations(server: Server) -> set[str | None]:
    return {headers.get("authorization") for _, headers, _ in server.requests}


def test_the_key_comes_from_the_environment(asked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    written(asked)
    assert authorizations(asked) == {None}
    asked.requests.clear()
    monkeypatch.setenv("OPENAI_API_KEY", "general")
    written(asked)
    assert authorizations(asked) == {"Bearer general"}
    asked.requests.clear()
    monkeypatch.setenv("MEMSPAN_API_KEY", "own")
    written(asked)
    assert authorizations(asked) == {"Bearer own"}
    sentence = failure(as_json({"error": {"message": "no"}}, 403))
    assert "put the right one into $MEMSPAN_API_KEY" in sentence
    assert "own" not in sentence.replace("own into", "")


def test_the_general_key_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only to this machine and by HTTPS: whoever sets $OPENAI_API_KEY did not mean each server that is ever tried."""
    monkeypatch.setenv("OPENAI_API_KEY", "general")

    def sent(url: str) -> str | None:
        with EndpointAnswerer(url)._client() as client:
            return client.headers.get("authorization")

    assert sent("http://example.org/v1") is None
    assert sent("http://10.0.0.7/v1") is None
    assert (
        sent("https://example.org/v1") == sent("http://localhost:1/v1") == sent("http://[::1]:1/v1") == "Bearer general"
    )
    monkeypatch.setenv("MEMSPAN_API_KEY", "own")
    assert sent("http://example.org/v1") == "Bearer own"


def test_a_redirection_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPAN_API_KEY", "own")
    with serving(dialect("vllm", completion("Yes."))) as thief:
        sentence = failure(Reply(status=307, headers={"Location": thief.url + "/chat/completions"}))
    assert not thief.requests
    assert f"redirects to {thief.url}/chat/completions: give that address if you trust it" in sentence


TOO_LONG = {
    "llama.cpp": as_json(
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 1407,
                "n_ctx": 256,
            }
        },
        400,
    ),
    "llama.cpp, with status 200": as_json(
        {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 1407, "n_ctx": 256}}
    ),
    "vllm": as_json(
        {
            "object": "error",
            "message": "This model's maximum context length is 256 tokens. However, you requested 1427 tokens (1407 in the "
            "messages, 20 in the completion). Please reduce the length of the messages or completion.",
            "type": "BadRequestError",
            "code": 400,
        },
        400,
    ),
    "vllm, newer": as_json(
        {
            "error": {
                "message": "You passed 1407 input tokens and requested 20 output tokens. However, the model's context length "
                "is only 256 tokens, resulting in a maximum input length of 236 tokens.",
                "type": "BadRequestError",
                "code": 400,
            }
        },
        400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_LONG)
def test_a_prompt_beyond_the_window_is_shortened_once(case: str, lm: LanguageModel, memory: memspan.Memory) -> None:
    with serving(dialect("ollama", TOO_LONG[case], completion("Fair."))) as server:
        answer = lm.ask(memory, QUESTION, sampling=SHORT, answerer=EndpointAnswerer(server.url, "m"))
    assert answer.text == "Fair."
    long, short = (len(body["messages"][0]["content"]) for body in server.bodies)
    assert short < long * (256 - 20) / 1407
    assert quoted([answer.passages[0]]).split("\n", 1)[1] in server.bodies[1]["messages"][0]["content"]
    with (
        serving(dialect("ollama", TOO_LONG[case])) as server,
        pytest.raises(PromptTooLong, match="256 tokens, with the answer, got 1,407 tokens: lower --budget"),
    ):
        lm.ask(memory, QUESTION, sampling=SHORT, answerer=EndpointAnswerer(server.url, "m"))
    assert len(server.bodies) == 2


def test_the_prompt_fits_the_window_that_a_server_reports(lm: LanguageModel, memory: memspan.Memory) -> None:
    with serving(dialect("llama.cpp", completion("Fair."))) as server:
        answer = lm.ask(memory, QUESTION, sampling=SHORT, answerer=EndpointAnswerer(server.url))
    assert len(lm.prompt_ids(server.bodies[0]["messages"])) + 20 <= 512
    assert (answer.prompt_tokens, answer.answer_tokens) == (300, 1), "as the server counts them"


def test_a_silent_cut_of_the_prompt_is_reported(lm: LanguageModel, memory: memspan.Memory) -> None:
    heard: list[str] = []
    with serving(dialect("ollama", completion("Fair.", prompt=52), completion("Fair.", prompt=1000))) as server:
        answerer = EndpointAnswerer(server.url, "qwen3:8b", on_warning=heard.append)
        lm.ask(memory, QUESTION, sampling=SHORT, answerer=answerer)
        assert len(heard) == 1
        assert "read only 52 tokens of a prompt of" in heard[0]
        lm.ask(memory, QUESTION, sampling=SHORT, answerer=answerer)
    assert len(heard) == 1


def test_a_server_that_never_ends_is_left(lm: LanguageModel) -> None:
    with serving(dialect("vllm", as_events(*[chunk("x" * 100)] * 1000))) as server:
        assert len(written(server)) < 2000


def test_a_server_replies_in_a_chat(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    lm.remember(memory, "-", source="chat/1", kind="exchange", turns=[["user", "word " * 300], ["assistant", "I see."]])
    with serving(dialect("ollama", completion("Good ", "day."), TOO_LONG["llama.cpp"], completion("Bye."))) as server:
        chat = Chat(lm, memory, sampling=SHORT, answerer=EndpointAnswerer(server.url, "m"))
        assert list(chat.reply("Hello.")) == ["Good ", "day."]
        assert list(chat.reply("Until tomorrow.")) == ["Bye."]
    assert [exchange.assistant for exchange in chat.transcript] == ["I see.", "Good day.", "Bye."]
    assert [len(body["messages"]) for body in server.bodies] == [3, 5, 1], "no exchange fits any more"
