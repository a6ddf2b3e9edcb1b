"""Messages of conversations that are deleted one by one, by the client that OpenAI publishes."""

from typing import Any

import openai
import pytest
from openai.types.conversations import Conversation

from memspan.serve.library import LOCAL
from tests.serve.running import Running
from tests.serve.test_responses import create, said

CANARY = "The boathouse holds the zinc trunk of Quirinus."


def ids(client: openai.OpenAI, conversation: str) -> list[str]:
    return [str(item.id) for item in client.conversations.items.list(conversation, order="asc")]


def in_files(server: Running, text: str) -> bool:
    """Whether a text stands in any file of the library."""
    files = [file for file in server.service.library.root.rglob("*") if file.is_file()]
    assert files
    return any(text.encode() in file.read_bytes() for file in files)


def test_a_deleted_item_is_gone_from_the_conversation_its_prompts_and_its_files(
    server: Running, client: openai.OpenAI
) -> None:
    items: Any = [{"role": "user", "content": CANARY}, {"role": "assistant", "content": "I see."}]
    conversation = client.conversations.create(items=items, metadata={"topic": "a"})
    first = create(client, "One", conversation=conversation.id)
    second = create(client, "Two", conversation=conversation.id)
    before = ids(client, conversation.id)
    assert in_files(server, "Quirinus")
    left = client.conversations.items.delete(before[0], conversation_id=conversation.id)
    Conversation.model_validate_json(left.model_dump_json(), strict=True)
    assert left == conversation
    assert said(client, conversation.id) == ["I see.", "One", first.output_text, "Two", second.output_text]
    assert ids(client, conversation.id) == before[1:]  # the other items are what they were, and where they were
    assert not in_files(server, "Quirinus")
    library = server.service.library
    name = f"session-{conversation.id.removeprefix('conv_')}"
    found = server.service.lm.search(library.open(LOCAL, name), "What does the boathouse hold?", top=50)
    assert "Quirinus" not in "".join(passage.text for passage in found)
    for act in (client.conversations.items.delete, client.conversations.items.retrieve):
        with pytest.raises(openai.NotFoundError) as raised:
            act(before[0], conversation_id=conversation.id)
        assert raised.value.code == "item_not_found"
    assert client.responses.retrieve(first.id) == first
    client.conversations.items.delete(before[1], conversation_id=conversation.id)  # nothing is left of the exchange
    third = create(client, "Three", conversation=conversation.id)
    texts = ["One", first.output_text, "Two", second.output_text, "Three", third.output_text]
    assert said(client, conversation.id) == texts


def test_a_response_whose_reply_is_deleted_is_none(client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    first = create(client, "One", conversation=conversation.id)
    second = create(client, "Two", conversation=conversation.id)
    reply = ids(client, conversation.id)[1]
    client.conversations.items.delete(reply, conversation_id=conversation.id)
    assert said(client, conversation.id) == ["One", "Two", second.output_text]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    assert client.responses.retrieve(second.id) == second


def test_a_deleted_item_is_gone_from_all_branches(server: Running, client: openai.OpenAI) -> None:
    first = create(client, "Gwendolen has the key.")
    for message in ("Left", "Right"):
        create(client, message, previous_response_id=first.id)
    conversation = f"conv_{first.id.removeprefix('resp_')[:32]}"
    assert len(server.service.library.names(LOCAL, f"session-{conversation.removeprefix('conv_')}")) == 2
    assert in_files(server, "Gwendolen")
    client.conversations.items.delete(ids(client, conversation)[0], conversation_id=conversation)
    assert not in_files(server, "Gwendolen")
    assert said(client, conversation)[:2] == [first.output_text, "Right"]


def test_a_response_does_not_keep_the_message_as_the_query_of_a_search(server: Running, client: openai.OpenAI) -> None:
    store = client.vector_stores.create()
    conversation = client.conversations.create()
    search: Any = [{"type": "file_search", "vector_store_ids": [store.id]}]
    response = create(client, "Does Ermintrude own a kettle?", conversation=conversation.id, tools=search)
    assert in_files(server, "Ermintrude")
    client.conversations.items.delete(ids(client, conversation.id)[0], conversation_id=conversation.id)
    assert not in_files(server, "Ermintrude")
    kept = client.responses.retrieve(response.id)
    assert kept.output_text == response.output_text
    assert kept.output[0].queries == []  # type: ignore[union-attr]
    client.vector_stores.delete(store.id)
