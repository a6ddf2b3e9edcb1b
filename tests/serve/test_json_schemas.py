"""Replies by a schema of JSON, as the client that OpenAI publishes asks for them and reads them."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict

from memspan.errors import UsageError
from memspan.serve.json_objects import grammar_of
from tests.serve.running import Running


class Pet(BaseModel):
    """What replies are to be."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["cat", "dog", "axolotl"]
    legs: Literal[2, 4]
    is_tame: bool
    friends: list[Literal["Ann", "Bert"]]


MESSAGE: Any = [{"role": "user", "content": "Describe a pet."}]


def test_a_chat_completion_is_parsed_as_the_clients_model(client: openai.OpenAI) -> None:
    pets = set()
    for seed in range(4):
        options: Any = {"temperature": 2, "seed": seed, "max_tokens": 200}
        completion = client.chat.completions.parse(model="tiny", messages=MESSAGE, response_format=Pet, **options)
        pet = completion.choices[0].message.parsed
        assert isinstance(pet, Pet)
        pets.add((pet.kind, pet.legs, pet.is_tame))
    assert len(pets) > 1  # the schema leaves the choice to the model


def test_a_response_is_parsed_as_the_clients_model(client: openai.OpenAI) -> None:
    options: Any = {"temperature": 2, "max_output_tokens": 200}
    response = client.responses.parse(model="tiny", input="Describe a pet.", text_format=Pet, **options)
    assert isinstance(response.output_parsed, Pet)
    form: Any = response.text
    assert (form.format.type, form.format.name) == ("json_schema", "Pet")
    assert form.format.schema_["properties"].keys() == {"kind", "legs", "is_tame", "friends"}
    kept = client.responses.retrieve(response.id)
    assert kept.text == response.text
    assert Pet.model_validate_json(kept.output_text) == response.output_parsed


def test_a_stream_keeps_to_the_schema(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "pet", "schema": Pet.model_json_schema()}}
    chunks = client.chat.completions.create(
        model="tiny", messages=MESSAGE, response_format=form, max_tokens=200, temperature=2, seed=1, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert Pet.model_validate_json(text)


def test_a_value_need_not_be_an_object_and_may_be_cut(client: openai.OpenAI) -> None:
    def reply(schema: dict[str, Any], tokens: int) -> Any:
        form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return client.chat.completions.create(
            model="tiny", messages=MESSAGE, response_format=form, max_tokens=tokens
        ).choices[0]

    numbers = reply({"type": "array", "items": {"enum": [10, 20]}, "minItems": 2, "maxItems": 2}, 40)
    assert numbers.finish_reason == "stop"
    assert set(json.loads(numbers.message.content)) <= {10, 20}
    cut = reply({"const": "a text that is longer than a token"}, 2)
    assert cut.finish_reason == "length"
    assert cut.message.content.startswith('"')


WRONG: list[dict[str, Any]] = [
    {"type": "cow"},
    {"type": "object", "properties": 7},
    {"$ref": "#/$defs/nothing"},
    {"$ref": "http://127.0.0.1:1/schema.json"},
    {"type": "string", "pattern": "(("},
    {"enum": []},
    {"allOf": [{"type": "string"}, {"type": "number"}]},
]


@pytest.mark.parametrize("schema", WRONG, ids=str)
def test_a_schema_that_cannot_be_followed_is_named(server: Running, schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot be followed"):
        grammar_of(schema)
    with server.http() as http:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        chat = http.post("/v1/chat/completions", json={"model": "tiny", "messages": MESSAGE, "response_format": form})
        text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
        response = http.post("/v1/responses", json={"model": "tiny", "input": "Hi", "text": text})
    for reply, param in ((chat, "response_format"), (response, "text.format")):
        assert reply.status_code == 400, reply.text
        error = reply.json()["error"]
        assert (error["param"], error["code"]) == (param, "invalid_json_schema")
        assert "\n" not in error["message"]


def test_a_format_without_its_parts_is_named(server: Running) -> None:
    with server.http() as http:
        for form, param in (
            ({"type": "json_schema"}, "response_format.json_schema"),
            ({"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.json_schema.schema"),
            (
                {"type": "json_schema", "json_schema": {"name": "x", "schema": "y"}},
                "response_format.json_schema.schema",
            ),
            ({"type": "xml"}, "response_format.type"),
        ):
            body = {"model": "tiny", "messages": MESSAGE, "response_format": form}
            reply = http.post("/v1/chat/completions", json=body)
            assert reply.status_code == 400
            assert reply.json()["error"]["param"] == param
