"""Responses and conversations, by the client that OpenAI publishes."""

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from memspan import LanguageModel
from memspan.serve.library import LOCAL
from memspan.serve.requests import served_names
from tests.serve.running import ANNA, BERT, KEYS, Running, running

FACT = "The zinc trunk stands under the stairs of the boathouse."


def create(client: openai.OpenAI, message: Any, **options: Any) -> Response:
    response = client.responses.create(model="tiny", input=message, **{"max_output_tokens": 4, **options})
    assert isinstance(response, Response)
    Response.model_validate_json(response.model_dump_json(), strict=True)
    return response


def said(client: openai.OpenAI, conversation: str) -> list[str]:
    """The texts of a conversation, the oldest first."""
    return [item.content[0].text for item in client.conversations.items.list(conversation, order="asc")]  # type: ignore[union-attr]


def test_a_response_goes_on_from_an_earlier_one(client: openai.OpenAI) -> None:
    first = create(client, "One", instructions="Be brief.", metadata={"purpose": "test"})
    assert first.status == "incomplete"
    assert first.incomplete_details is not None
    assert first.incomplete_details.reason == "max_output_tokens"
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 0
    assert first.usage.output_tokens == 4
    second = create(client, "Two", previous_response_id=first.id)
    third = create(
        client, [{"role": "user", "content": [{"type": "input_text", "text": "Three"}]}], previous_response_id=second.id
    )
    assert third.usage is not None
    assert third.usage.input_tokens_details.cached_tokens > 0
    items = [item.content[0].text for item in client.responses.input_items.list(third.id, order="asc")]  # type: ignore[union-attr]
    assert items == ["One", first.output_text, "Two", second.output_text, "Three"]
    assert client.responses.retrieve(second.id) == second
    page = client.responses.input_items.list(third.id, limit=2, order="asc")
    assert (len(page.data), page.has_more) == (2, True)


def test_two_responses_go_on_from_the_same_one(client: openai.OpenAI) -> None:
    first = create(client, "One")
    left, right = (create(client, message, previous_response_id=first.id) for message in ("Left", "Right"))
    further = create(client, "Further", previous_response_id=left.id)
    texts = [item.content[0].text for item in client.responses.input_items.list(further.id, order="asc")]  # type: ignore[union-attr]
    assert texts == ["One", first.output_text, "Left", left.output_text, "Further"]
    texts = [item.content[0].text for item in client.responses.input_items.list(right.id, order="asc")]  # type: ignore[union-attr]
    assert texts == ["One", first.output_text, "Right"]


def test_what_is_not_stored_leaves_nothing(server: Running, client: openai.OpenAI) -> None:
    first = create(client, "One")
    before = server.service.library.names(LOCAL)
    second = create(client, "Two", store=False)
    third = create(client, "Three", store=False, previous_response_id=first.id)
    assert server.service.library.names(LOCAL) == before
    for response in (second, third):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)
    assert third.usage is not None
    assert second.usage is not None
    assert third.usage.input_tokens > second.usage.input_tokens


def test_a_deleted_response_is_gone(server: Running, client: openai.OpenAI) -> None:
    first = create(client, FACT)
    second = create(client, "Two", previous_response_id=first.id)
    client.responses.delete(first.id)
    for act in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            act(first.id)
    with pytest.raises(openai.NotFoundError):
        create(client, "Three", previous_response_id=first.id)
    third = create(client, "Where is the zinc trunk?", previous_response_id=second.id)
    assert "boathouse" not in str(list(client.responses.input_items.list(third.id)))


def test_a_stream_tells_the_whole_response(client: openai.OpenAI) -> None:
    whole = create(client, "One", store=False)
    events = list(client.responses.create(model="tiny", input="One", max_output_tokens=4, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    for event in events:
        type(event).model_validate_json(event.model_dump_json(), strict=True)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    final = events[-1]
    assert final.type == "response.incomplete"
    assert final.response.output_text == whole.output_text
    assert client.responses.retrieve(final.response.id) == final.response
    with client.responses.stream(model="tiny", input="One", max_output_tokens=4, store=False) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(texts) == whole.output_text


def test_a_conversation_keeps_its_items(server: Running, client: openai.OpenAI) -> None:
    conversation = client.conversations.create(
        metadata={"topic": "a"},
        items=[{"role": "user", "content": FACT}, {"role": "assistant", "content": "I see."}],
    )
    assert conversation.metadata == {"topic": "a"}
    response = create(client, "Where is the zinc trunk?", conversation=conversation.id)
    assert response.conversation is not None
    assert response.conversation.id == conversation.id
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens > 0
    assert said(client, conversation.id) == [FACT, "I see.", "Where is the zinc trunk?", response.output_text]
    added = client.conversations.items.create(
        conversation.id, items=[{"role": "user", "content": [{"type": "input_text", "text": "Alone"}]}]
    )
    assert [item.role for item in added.data] == ["user"]  # type: ignore[union-attr]
    item = client.conversations.items.retrieve(added.data[0].id, conversation_id=conversation.id)  # type: ignore[arg-type]
    assert item.content[0].text == "Alone"  # type: ignore[union-attr]
    newest = client.conversations.items.list(conversation.id, limit=1)
    assert newest.data[0].id == item.id
    assert newest.has_more
    assert len(said(client, conversation.id)) == 5
    changed = client.conversations.update(conversation.id, metadata={"topic": "b"})
    assert client.conversations.retrieve(conversation.id) == changed
    assert changed.created_at == conversation.created_at
    assert served_names(server.service.library, LOCAL) == []
    assert client.conversations.delete(conversation.id).deleted
    for act in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            act(conversation.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


WRONG: list[dict[str, Any]] = [
    {"input": ""},
    {"input": []},
    {"input": [{"role": "assistant", "content": "x"}]},
    {"input": [{"type": "item_reference", "id": "msg_1"}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1:1/x"}]}]},
    {"max_output_tokens": -1},
    {"temperature": -1},
    {"tools": [{"type": "web_search"}]},
    {"background": True},
    {"text": {"format": {"type": "json_schema", "name": "x"}}},
    {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "cow"}}}},
    {"conversation": "conv_1", "previous_response_id": "resp_1"},
    {"conversation": 3},
    {"n": 2},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_what_is_wrong_is_refused(server: Running, client: openai.OpenAI, fields: dict[str, Any]) -> None:
    before = server.service.library.names(LOCAL)
    for stream in (False, True):
        with server.http() as http:
            reply = http.post("/v1/responses", json={"model": "tiny", "input": "Hi", "stream": stream, **fields})
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert server.service.library.names(LOCAL) == before


def test_ids_of_others_equal_ids_of_nobody(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> None:
    with running(tmp_path_factory.mktemp("owners"), lm, KEYS) as server:
        anna, bert = server.client(ANNA), server.client(BERT)
        response = create(anna, FACT)
        conversation = anna.conversations.create(items=[{"role": "user", "content": FACT}])
        item = anna.conversations.items.list(conversation.id).data[0].id
        none = "0" * 48
        acts: list[tuple[str, str, Any]] = [
            (response.id, f"resp_{none}", lambda name: bert.responses.retrieve(name)),
            (response.id, "resp_..anna", lambda name: bert.responses.retrieve(name)),
            (response.id, f"resp_{none}", lambda name: bert.responses.delete(name)),
            (response.id, f"resp_{none}", lambda name: bert.responses.input_items.list(name)),
            (response.id, f"resp_{none}", lambda name: create(bert, "Hi", previous_response_id=name)),
            (conversation.id, f"conv_{none[:32]}", lambda name: bert.conversations.retrieve(name)),
            (conversation.id, f"conv_{none[:32]}", lambda name: bert.conversations.update(name, metadata={"a": "b"})),
            (conversation.id, f"conv_{none[:32]}", lambda name: bert.conversations.delete(name)),
            (conversation.id, f"conv_{none[:32]}", lambda name: bert.conversations.items.list(name)),
            (
                conversation.id,
                f"conv_{none[:32]}",
                lambda name: bert.conversations.items.retrieve(item, conversation_id=name),
            ),  # type: ignore[arg-type]
            (
                conversation.id,
                f"conv_{none[:32]}",
                lambda name: bert.conversations.items.delete(item, conversation_id=name),
            ),  # type: ignore[arg-type]
            (conversation.id, f"conv_{none[:32]}", lambda name: create(bert, "Hi", conversation=name)),
            (
                conversation.id,
                f"conv_{none[:32]}",
                lambda name: bert.conversations.items.create(name, items=[{"role": "user", "content": "x"}]),
            ),
        ]
        for theirs, missing, act in acts:
            bodies = []
            for name in (theirs, missing):
                with pytest.raises(openai.NotFoundError) as raised:
                    act(name)
                bodies.append(str(raised.value.body).replace(name, "NAME"))
            assert bodies[0] == bodies[1]
            assert "zinc" not in bodies[0]
        assert server.service.library.names("bert") == []
        assert anna.responses.retrieve(response.id) == response
        assert said(anna, conversation.id) == [FACT]
