"""The tool `file_search` of responses, by the client that OpenAI publishes, whose models check every reply strictly."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from memspan import LanguageModel
from memspan.assistant.answerers import answerer_of
from memspan.assistant.confidence import MIN_CONFIDENCE, SILENCE
from memspan.serve.library import LOCAL
from tests.serve.running import ANNA, BERT, KEYS, Running, running
from tests.servers import completion, dialect, serving

FACT = "The zinc trunk stands under the stairs of the boathouse."
SOUP = "Green peas are soaked overnight before the soup is cooked."
QUERY = "Where does the zinc trunk stand?"
UNKNOWN = "Who won the football world cup of 1998?"


def filled(client: openai.OpenAI, **texts: str) -> str:
    """The id of a vector store with a file for each text."""
    store = client.vector_stores.create(name="notes").id
    for name, text in texts.items():
        file = client.files.create(file=(f"{name}.txt", text.encode()), purpose="user_data")
        client.vector_stores.files.create(store, file_id=file.id, attributes={"name": name})
    return store


@pytest.fixture(scope="module")
def store(client: openai.OpenAI) -> str:
    return filled(client, fact=FACT, soup=SOUP)


def tool(*stores: str, **options: Any) -> list[Any]:
    return [{"type": "file_search", "vector_store_ids": list(stores), **options}]


def create(client: openai.OpenAI, message: Any, **options: Any) -> Response:
    """A response that its own model accepts as it stands."""
    response = client.responses.create(model="tiny", input=message, **{"max_output_tokens": 4, **options})
    assert isinstance(response, Response)
    Response.model_validate_json(response.model_dump_json(), strict=True)
    return response


def searched(client: openai.OpenAI, message: Any, tools: list[Any], **options: Any) -> list[Any]:
    """The results of the search that a response begins with."""
    response = create(client, message, tools=tools, include=["file_search_call.results"], **options)
    assert [item.type for item in response.output] == ["file_search_call", "message"]
    call: Any = response.output[0]
    assert (call.status, len(call.queries)) == ("completed", 1)
    assert isinstance(call.results, list)
    return call.results


def test_a_response_begins_with_what_the_search_of_the_store_finds(client: openai.OpenAI, store: str) -> None:
    options: Any = {"ranking_options": {"score_threshold": 0.01}, "max_num_results": 5}
    found = client.vector_stores.search(store, query=QUERY, **options).data
    results = searched(client, QUERY, tool(store, **options))
    assert [(each.file_id, each.filename, each.score, each.attributes, each.text) for each in results] == [
        (each.file_id, each.filename, each.score, each.attributes, each.content[0].text) for each in found
    ]
    assert FACT in [each.text for each in results]
    assert all(each.score >= MIN_CONFIDENCE for each in searched(client, QUERY, tool(store)))


def test_what_was_found_stands_in_the_prompt_and_its_text_is_not_kept(client: openai.OpenAI, server: Running) -> None:
    store = filled(client, fact=FACT, soup=SOUP)
    response = create(client, QUERY, tools=tool(store), include=["file_search_call.results"])
    alone = create(client, QUERY)
    assert response.usage is not None
    assert alone.usage is not None
    assert response.usage.input_tokens > alone.usage.input_tokens
    assert response.usage.input_tokens_details.cached_tokens > 10
    kept = client.responses.retrieve(response.id)
    call: Any = kept.output[0]
    assert (call.type, call.queries, call.results) == ("file_search_call", [QUERY], None)
    assert kept.output[1:] == response.output[1:]
    assert kept.tools == response.tools
    library = server.service.library
    sessions = [library.root / LOCAL / name for name in library.names(LOCAL, "session-")]
    files = [path for session in sessions for path in session.rglob("*") if path.is_file()]
    assert files
    assert not any(FACT.encode() in path.read_bytes() for path in files)


def test_a_search_is_made_only_where_the_tool_may_be_used(client: openai.OpenAI, store: str) -> None:
    for options in ({"tools": tool(store), "tool_choice": "none"}, {"tools": []}, {"tool_choice": "auto"}):
        response = create(client, QUERY, **options)
        assert [item.type for item in response.output] == ["message"]
    for choice in ("auto", "required", {"type": "file_search"}):
        assert FACT in [each.text for each in searched(client, QUERY, tool(store), tool_choice=choice)]


def test_a_stream_tells_the_search_and_then_the_reply(client: openai.OpenAI, store: str) -> None:
    options: Any = {"tools": tool(store), "include": ["file_search_call.results"], "store": False}
    whole = create(client, QUERY, **options)
    events = list(client.responses.create(model="tiny", input=QUERY, max_output_tokens=4, stream=True, **options))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:9] == [
        "created",
        "in_progress",
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
        "output_item.added",
        "content_part.added",
    ]
    for event in events:
        type(event).model_validate_json(event.model_dump_json(), strict=True)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    done: Any = events[6]
    final: Any = events[-1]
    assert (done.output_index, done.item.results) == (0, whole.output[0].results)  # type: ignore[union-attr]
    assert {event.output_index for event in events[7:-1]} == {1}  # type: ignore[union-attr]
    assert final.response.output[0].id == done.item.id
    assert final.response.output_text == whole.output_text
    with client.responses.stream(model="tiny", input=QUERY, max_output_tokens=4, **options) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(texts) == whole.output_text


def test_sentences_that_rest_on_a_passage_cite_its_file(tmp_path: Path, lm: LanguageModel) -> None:
    sentences = ["The zinc trunk stands under the stairs.", "Jupiter has ninety moons.", "It takes a night [2]."]
    with (
        serving(dialect("llama.cpp", completion(" ".join(sentences)))) as other,
        running(tmp_path, lm, answerer=answerer_of(other.url, print)) as server,
    ):
        client = server.client()
        one, two = filled(client, fact=FACT), filled(client, fact=f"{SOUP} The zinc trunk is full of them.")
        tools = tool(one, two, ranking_options={"score_threshold": 0})
        response = create(client, QUERY, tools=tools)
        prompt = str(other.bodies[-1]["messages"])
        assert FACT in prompt
        assert SOUP in prompt
        files = {store: client.vector_stores.files.list(store).data[0].id for store in (one, two)}
        message: Any = response.output[1]
        cited = message.content[0].annotations
        text = response.output_text
        second = two if prompt.index(FACT) < prompt.index(SOUP) else one
        assert [(each.file_id, each.filename, text[: each.index]) for each in cited] == [
            (files[one], "fact.txt", sentences[0]),
            (files[second], "fact.txt", text.removesuffix(".")),
        ]
        assert client.responses.retrieve(response.id).output[1] == message
        events = list(client.responses.create(model="tiny", input=QUERY, stream=True, tools=tools))
        added = [event for event in events if event.type == "response.output_text.annotation.added"]
        assert [event.annotation.model_dump() for event in added] == [each.model_dump() for each in cited]  # type: ignore[union-attr]
        assert [(event.annotation_index, event.output_index) for event in added] == [(0, 1), (1, 1)]
        conversation = client.conversations.create()
        create(client, QUERY, tools=tools, conversation=conversation.id)
        reply, message = client.conversations.items.list(conversation.id).data
        assert [each.model_dump() for each in reply.content[0].annotations] == [each.model_dump() for each in cited]  # type: ignore[union-attr]
        assert client.conversations.items.retrieve(reply.id, conversation_id=conversation.id) == reply  # type: ignore[union-attr]
        assert "annotations" not in message.model_dump()["content"][0]
        again = create(client, [*_sent(QUERY), *response.output, *_sent("And the peas?")], store=False)
        assert again.output_text == text
        assert sentences[1] in str(other.bodies[-1]["messages"])


def _sent(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_nothing_is_answered_that_no_passage_supports(client: openai.OpenAI, store: str) -> None:
    for options in (
        {"tools": tool(store, ranking_options={"score_threshold": 0.5})},
        {"tools": tool(store), "tool_choice": "required"},
        {"tools": tool(filled(client)), "tool_choice": "required"},
    ):
        response = create(client, UNKNOWN, include=["file_search_call.results"], **options)
        assert response.output_text == SILENCE
        assert response.status == "completed"
        assert response.output[0].results == []  # type: ignore[union-attr]
        assert response.usage is not None
        assert response.usage.output_tokens == 0
        assert client.responses.retrieve(response.id).output_text == SILENCE
    assert create(client, UNKNOWN, tools=tool(store)).output_text != SILENCE  # the model is told that nothing was found
    first = create(client, "My name is Frieda.")
    tools = tool(store, ranking_options={"score_threshold": 0.5})
    second = create(client, "What is my name?", tools=tools, previous_response_id=first.id)
    assert second.output_text != SILENCE  # the conversation may answer


def test_the_model_is_told_that_nothing_was_found(tmp_path: Path, lm: LanguageModel) -> None:
    with (
        serving(dialect("llama.cpp", completion("I do not know."))) as other,
        running(tmp_path, lm, answerer=answerer_of(other.url, print)) as server,
    ):
        store = filled(server.client(), soup=SOUP)
        assert create(server.client(), UNKNOWN, tools=tool(store)).output_text == "I do not know."
        (message,) = other.bodies[-1]["messages"]
        assert "found nothing about this" in message["content"]
        assert message["content"].endswith(UNKNOWN)


def test_a_search_keeps_to_its_stores_filters_and_number(client: openai.OpenAI) -> None:
    one, two = filled(client, a=FACT, b=f"{FACT} It is old."), filled(client, a=f"{FACT} It is heavy.", c=SOUP)
    wide: Any = {"ranking_options": {"score_threshold": 0}}

    def texts(*stores: str, **options: Any) -> set[str]:
        return {each.text for each in searched(client, QUERY, tool(*stores, **wide, **options))}

    assert texts(one) == {FACT, f"{FACT} It is old."}
    assert texts(one, two, one) == {FACT, f"{FACT} It is old.", f"{FACT} It is heavy.", SOUP}
    assert texts(one, two, filters={"type": "eq", "key": "name", "value": "a"}) == {FACT, f"{FACT} It is heavy."}
    assert texts(one, two, filters={"type": "eq", "key": "name", "value": "c"}) == {SOUP}
    assert texts(one, two, filters={"type": "eq", "key": "name", "value": "d"}) == set()
    assert len(texts(one, two, max_num_results=2)) == 2


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "tools"),
    ({"tools": [{"type": "file_search"}]}, "tools"),
    ({"tools": tool()}, "tools"),
    ({"tools": tool("STORE", max_num_results=0)}, "tools"),
    ({"tools": tool("STORE", max_num_results=51)}, "tools"),
    ({"tools": tool("STORE", ranking_options={"score_threshold": 1.5})}, "tools"),
    ({"tools": tool("STORE", filters={"type": "like", "key": "a", "value": "b"})}, "tools"),
    ({"tools": tool("STORE", filters={"type": "in", "key": "a", "value": "b"})}, "filters"),
    ({"tools": [*tool("STORE"), *tool("STORE")]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": tool("STORE"), "tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"include": ["message.output_text.logprobs"]}, "include"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=str)
def test_what_is_wrong_is_named(server: Running, store: str, fields: dict[str, Any], param: str) -> None:
    before = server.service.library.names(LOCAL)
    for named in fields.get("tools", []):
        if named.get("vector_store_ids") == ["STORE"]:
            named["vector_store_ids"] = [store]
    for stream in (False, True):
        with server.http() as http:
            body = {"model": "tiny", "input": "Hi", "stream": stream, **fields}
            reply = http.post("/v1/responses", json=body)
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["param"].startswith(param)
    assert server.service.library.names(LOCAL) == before


def test_stores_of_others_equal_stores_of_nobody(tmp_path: Path, lm: LanguageModel) -> None:
    with running(tmp_path, lm, KEYS) as server:
        anna, bert = server.client(ANNA), server.client(BERT)
        store = filled(anna, fact=FACT)
        session = create(anna, QUERY).id.removeprefix("resp_")[:32]
        bodies = []
        for name in (store, "vs_" + "0" * 24):
            with pytest.raises(openai.NotFoundError) as raised:
                create(bert, QUERY, tools=tool(name))
            bodies.append(str(raised.value.body).replace(name, "NAME"))
        assert bodies[0] == bodies[1]
        for name in (f"session-{session}", "../anna/x", ""):
            with pytest.raises(openai.NotFoundError):
                create(anna, QUERY, tools=tool(name))
        assert server.service.library.names("bert") == []
        assert searched(anna, QUERY, tool(store))[0].text == FACT
