"""Completions, embeddings, tokens, and the numbers for Prometheus."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch
from openai.types import Completion, CreateEmbeddingResponse

from memspan import LanguageModel, Sampling
from memspan.pretrained import encoders
from tests.assistant.conftest import HEADS
from tests.serve.running import Running, running
from tests.tiny import save_tiny_encoder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:
    folder = save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "words")
    encoder = encoders.load_or_none(str(folder), device=None)
    whole = LanguageModel(lm.model, lm.tokenizer, name="tiny", heads=HEADS, sentence_encoder=encoder)
    with running(tmp_path_factory.mktemp("server"), whole) as server:
        yield server


def create(server: Running, prompt: Any, **options: Any) -> Completion:
    completion = server.client().completions.create(model="tiny", prompt=prompt, **options)
    Completion.model_validate_json(completion.model_dump_json(), strict=True)
    return completion


def test_a_text_goes_on_as_the_decoder_has_it(server: Running, lm: LanguageModel) -> None:
    prompt = "The captain said that"
    ids = lm.tokenizer(prompt).input_ids
    expected = lm.tokenizer.decode(list(lm.decoder.generate(ids, Sampling(6))))
    for given in (prompt, ids, [prompt], [ids]):
        completion = create(server, given, max_tokens=6)
        assert completion.choices[0].text == expected
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage is not None
        assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (len(ids), 6)
    both = create(server, [prompt, "On the"], max_tokens=6, n=2, echo=True)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.choices[1].text == prompt + expected
    assert both.choices[2].text.startswith("On the")
    stream = server.client().completions.create(
        model="tiny", prompt=prompt, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == expected
    assert chunks[-1].usage == create(server, prompt, max_tokens=6).usage
    cut = create(server, prompt, max_tokens=6, stop=expected[4:7])
    assert cut.choices[0].text == expected[: expected.find(expected[4:7])]
    assert cut.choices[0].finish_reason == "stop"


def test_likelihoods_are_those_of_the_model(server: Running, lm: LanguageModel) -> None:
    ids = lm.tokenizer("The captain said that the pump").input_ids
    options: dict[str, Any] = {"model": "tiny", "prompt": ids, "echo": True}
    completion = server.client().completions.create(**options, max_tokens=1, logprobs=2, temperature=0)
    chances = completion.choices[0].logprobs
    assert chances is not None
    assert chances.token_logprobs is not None
    assert chances.top_logprobs is not None
    assert chances.tokens is not None
    assert chances.text_offset is not None
    with torch.inference_mode():
        whole = [*ids, *lm.decoder.generate(ids, Sampling(1))]
        rows = lm.causal_lm(input_ids=torch.tensor([whole])).logits[0].float().log_softmax(-1)
    expected = [float(rows[index - 1, token]) for index, token in enumerate(whole)][1:]
    assert chances.token_logprobs[0] is None  # as the API has it, whatever the client's types say
    np.testing.assert_allclose(np.array(chances.token_logprobs[1:], float), expected, rtol=1e-4)
    assert "".join(chances.tokens) == completion.choices[0].text
    assert chances.text_offset == [len("".join(chances.tokens[:index])) for index in range(len(whole))]
    best = chances.top_logprobs[-1]
    assert max(best.values()) == chances.token_logprobs[-1]  # greedy
    only_prompt = server.client().completions.create(**options, max_tokens=0, logprobs=1)
    assert only_prompt.choices[0].logprobs is not None
    assert len(only_prompt.choices[0].logprobs.tokens or []) == len(ids)
    behind = create(server, ids, max_tokens=2, logprobs=0)
    assert behind.choices[0].logprobs is not None
    assert len(behind.choices[0].logprobs.tokens or []) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [10**6]},
        {"prompt": [-1]},
        {"prompt": ["a", 1]},
        {"prompt": [5] * 3000},
        {"prompt": ["a"] * 65},
        {"prompt": None},
        {"logprobs": 21},
        {"logprobs": 1, "stream": True},
        {"suffix": "end"},
        {"best_of": 3},
        {"model": "tiny/book"},
        {"session_id": "s"},
        {"max_tokens": -1},
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_refused(server: Running, fields: dict[str, Any]) -> None:
    for stream in (False, True):
        with server.http() as http:
            reply = http.post("/v1/completions", json={"model": "tiny", "prompt": "Hi", "stream": stream, **fields})
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"].keys() == {"message", "type", "param", "code"}


def test_embeddings_are_those_of_the_encoder(server: Running) -> None:
    encoder = server.service.lm.vectors.encoder
    assert encoder is not None
    texts = ["The captain sleeps.", "the pump"]
    expected = encoder.passages(texts)
    for name in ("words", "tiny"):
        reply = server.client().embeddings.create(model=name, input=texts)  # in base64, which the client decodes
        np.testing.assert_allclose([item.embedding for item in reply.data], expected, rtol=1e-5)
        CreateEmbeddingResponse.model_validate_json(reply.model_dump_json(), strict=True)
    reply = server.client().embeddings.create(model="tiny", input="the pump", encoding_format="float", dimensions=32)
    np.testing.assert_allclose(reply.data[0].embedding, expected[1], rtol=1e-5, atol=1e-6)
    assert reply.usage.prompt_tokens > 0
    for options in ({"dimensions": 5}, {"input": ""}, {"input": []}, {"input": [1, 2]}):
        with pytest.raises(openai.BadRequestError):
            server.client().embeddings.create(**{"model": "tiny", "input": "a", **options})  # type: ignore[call-overload]
    with pytest.raises(openai.NotFoundError):
        server.client().embeddings.create(model="other", input="a")


def test_without_an_encoder_there_are_no_embeddings(tmp_path: Path, lm: LanguageModel) -> None:
    with running(tmp_path, lm) as server, pytest.raises(openai.BadRequestError, match="no sentence encoder"):
        server.client().embeddings.create(model="tiny", input="a")


def test_texts_become_tokens_and_back(server: Running, lm: LanguageModel) -> None:
    with server.http() as http:
        reply = http.post("/tokenize", json={"model": "tiny", "prompt": "The captain"}).json()
        assert reply["tokens"] == lm.tokenizer("The captain").input_ids
        assert reply["max_model_len"] == lm.decoder.window
        assert http.post("/detokenize", json={"tokens": reply["tokens"]}).json() == {"prompt": "The captain"}
        messages = [{"role": "user", "content": "Hi </s>"}]
        assert http.post("/tokenize", json={"messages": messages}).json()["tokens"] == lm.prompt_ids(messages)
        assert http.get("/tokenizer_info").json()["eos_token"] == "</s>"
        for route, body in (("/tokenize", {}), ("/detokenize", {"tokens": [10**6]}), ("/detokenize", {"tokens": "a"})):
            assert http.post(route, json=body).status_code == 400


def test_numbers_are_counted_without_what_clients_wrote(server: Running) -> None:
    before = numbers(server)
    with server.http() as http:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "canary"}], "max_tokens": 3}
        reply = http.post("/v1/chat/completions", json=body, headers={"X-Session-Id": "canary"}).json()
        http.get("/canary?canary")
        http.request("CANARY", "/v1/models")
    after = numbers(server)
    labels = 'memspan_requests_total{method="POST",route="/v1/chat/completions",status="200"}'
    assert after[labels] == before.get(labels, 0) + 1
    assert after["memspan_generation_tokens_total"] == before["memspan_generation_tokens_total"] + 3
    prompt = reply["usage"]["prompt_tokens"]
    assert after["memspan_prompt_tokens_total"] == before["memspan_prompt_tokens_total"] + prompt
    assert after["memspan_time_to_first_token_seconds_count"] >= 1
    assert after["memspan_num_requests_running"] == 0
    assert after['memspan_requests_total{method="GET",route="none",status="404"}'] == 1
    assert "canary" not in str(after).lower()


def numbers(server: Running) -> dict[str, float]:
    with server.http() as http:
        text = http.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}
