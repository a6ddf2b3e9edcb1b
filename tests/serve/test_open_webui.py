"""A conversation as Open WebUI sends it: the whole history each time, headers filled in from a template, tasks in between."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from memspan import LanguageModel
from memspan.assistant.chat import latest_exchanges
from memspan.serve.library import LOCAL
from memspan.serve.service import Limits
from memspan.serve.sessions import branch_names, session_name
from tests.serve.running import Running, running

CHAT = "0f3a7b1e-5d6c-4a2b-9c8d-112233445566"
TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("webui"), lm, limits=Limits(new_tokens=5)) as server:
        yield server


def send(server: Running, messages: list[dict[str, Any]], *, chat: str = CHAT, task: str = "") -> str:
    """The text of a reply; tasks are not streamed."""
    body = {"stream": not task, "model": "tiny", "messages": messages}
    if task:
        body["max_completion_tokens"] = 5
    headers = {"X-Session-Id": chat, "X-Task": task, "User-Agent": "Open WebUI"}
    with server.http("none") as http:
        reply = http.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    if task:
        return str(reply.json()["choices"][0]["message"]["content"])
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    events = reply.text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def branches(server: Running, chat: str = CHAT) -> list[list[str]]:
    """The user's messages in each branch of a chat."""
    library, name = server.service.library, session_name("session", chat)
    names = branch_names(library, LOCAL, name)
    return [[each.user for each in latest_exchanges(library.open(LOCAL, name))][::-1] for name in names]


def test_a_chat_with_tasks_a_regenerated_reply_and_an_edit(server: Running) -> None:
    with server.http("none") as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["tiny"]
    system = {"role": "system", "content": "Be brief."}
    history = [system, user("One")]
    first = send(server, history)
    send(
        server,
        [user(f"{TITLE}\n<chat_history>\nUSER: One\nASSISTANT: {first}\n</chat_history>")],
        task="title_generation",
    )
    history += [assistant(first), user("Two")]
    second = send(server, history)
    assert branches(server) == [["One", "Two"]]
    again = send(server, history)  # regenerated: the same messages once more
    assert again == second
    assert branches(server) == [["One", "Two"], ["One", "Two"]]
    parts = [{"type": "text", "text": "Zwei"}]
    edited = send(server, [*history[:3], {"role": "user", "content": parts}])
    assert sorted(branches(server)) == [["One", "Two"], ["One", "Two"], ["One", "Zwei"]]
    send(server, [*history[:3], user("Zwei"), assistant(edited), user("Drei")])
    assert sorted(branches(server)) == [["One", "Two"], ["One", "Two"], ["One", "Zwei", "Drei"]]
    send(server, [system, user("Another chat")], chat="another")
    assert branches(server, "another") == [["Another chat"]]


def test_a_placeholder_that_was_not_filled_in_is_no_session(server: Running) -> None:
    before = server.service.library.names(LOCAL)
    send(server, [user("One")], chat="{{CHAT_ID}}")
    assert server.service.library.names(LOCAL) == before
    with server.http("none") as http:
        headers = {"X-Session-Id": "without-tasks", "X-Task": "{{TASK}}"}
        http.post("/v1/chat/completions", json={"model": "tiny", "messages": [user("One")]}, headers=headers)
    assert branches(server, "without-tasks") == [["One"]]
