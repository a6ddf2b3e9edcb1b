"""Several texts at a time: the same tokens as each alone, in fewer steps, whoever joins, leaves or fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from memspan.models.generate import Sampling
from memspan.pretrained.batched import PENDING, PROMPT_PART, RUN_AHEAD, BatchedDecoder
from memspan.pretrained.decoding import Decoder, Prefix

PROMPTS = [[(7 * index + 3 + text) % 1900 + 5 for index in range(20 + 11 * text)] for text in range(5)]
PROMPTS[2] = [5, 6, 7, 8, 9] * 6  # of which drafts are found


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


@pytest.fixture
def decoder(model: Any) -> BatchedDecoder:
    return BatchedDecoder(model, [])


def steps_of(decoder: BatchedDecoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of each common step."""
    assert decoder.shares_steps
    steps, original = [], decoder.read_together
    monkeypatch.setattr(decoder, "read_together", lambda texts: (steps.append(len(texts)), original(texts))[1])
    return steps


def in_turns(*streams: Iterator[int]) -> list[list[int]]:
    """The tokens of several streams, which have a turn up to each pause."""
    tokens: list[list[int]] = [[] for _ in streams]
    left = list(enumerate(streams))
    while left:
        for number, stream in list(left):
            for token in stream:
                if token == PENDING:
                    break
                tokens[number].append(token)
            else:
                left.remove((number, stream))
    return tokens


def alone(model: Any, ids: list[int], sampling: Sampling) -> list[int]:
    return list(Decoder(model, []).generate(ids, sampling))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_text_is_what_it_is_alone(
    model: Any, decoder: BatchedDecoder, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    steps = steps_of(decoder, monkeypatch)
    rules = [Sampling(10 + 5 * number, temperature, seed=number) for number in range(len(PROMPTS))]
    written = in_turns(*(decoder.generate(ids, rule) for ids, rule in zip(PROMPTS, rules, strict=True)))
    assert written == [alone(model, ids, rule) for ids, rule in zip(PROMPTS, rules, strict=True)]
    assert steps[0] == len(PROMPTS)
    assert sum(steps) > 2 * len(steps)


def test_texts_join_and_leave(model: Any, decoder: BatchedDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = steps_of(decoder, monkeypatch)
    rule = Sampling(12)
    first, second, third = (decoder.generate(ids, rule) for ids in PROMPTS[:3])
    begun = [next(first), next(second)]
    for _ in range(6):
        next(first)
    second.close()
    written = in_turns(first, third)
    assert written[0] == alone(model, PROMPTS[0], rule)[-len(written[0]) :]
    assert begun == [alone(model, ids, rule)[0] for ids in PROMPTS[:2]]
    assert written[1] == alone(model, PROMPTS[2], rule)
    assert set(steps) == {2}


def test_a_long_prompt_is_read_between_the_steps_of_others(
    model: Any, decoder: BatchedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    original = decoder.step
    monkeypatch.setattr(decoder, "step", lambda ids, *others: (passes.append(ids.shape[1]), original(ids, *others))[1])
    long, rule = [(13 * index + 7) % 1900 + 5 for index in range(2 * PROMPT_PART + 40)], Sampling(6)
    writing = decoder.generate(PROMPTS[0], Sampling(30))
    first = next(writing)
    written = in_turns(writing, decoder.generate(long, rule))
    assert [first, *written[0]] == alone(model, PROMPTS[0], Sampling(30))
    assert written[1] == alone(model, long, rule)
    parts = [number for number, size in enumerate(passes) if size in (PROMPT_PART, 40)]
    assert [passes[number] for number in parts] == [PROMPT_PART, PROMPT_PART, 40]
    assert parts[0] < parts[1] - 1 < parts[2] - 2  # a step of the other text between any two
    passes.clear()
    assert [token for token in decoder.generate(long, rule) if token != PENDING] == written[1]
    assert passes[0] == len(long)  # nobody waits


def test_who_waits_for_one_text_lets_the_others_run_ahead_within_bounds(model: Any, decoder: BatchedDecoder) -> None:
    rule = Sampling(RUN_AHEAD + 40, 1.0, seed=3)
    waiting, taken = decoder.generate(PROMPTS[1], rule), decoder.generate(PROMPTS[0], rule)
    first = next(waiting)
    tokens = [token for token in taken if token != PENDING]
    assert tokens == alone(model, PROMPTS[0], rule)
    ready: list[int] = []
    for token in waiting:
        if token == PENDING:
            break
        ready.append(token)
    assert RUN_AHEAD <= len(ready) < RUN_AHEAD + 8
    rest = [token for token in waiting if token != PENDING]
    assert [first, *ready, *rest] == alone(model, PROMPTS[1], rule)


def test_logits_of_a_common_step_are_those_of_steps_alone(model: Any, decoder: BatchedDecoder) -> None:
    def begun() -> list[Any]:
        rule = Sampling(20)
        texts = [decoder.begin(ids, rule)[0] for ids in ([5, 6, 7, 8, 9] * 4 + [5, 6], PROMPTS[0], PROMPTS[2])]
        for text, token in zip(texts, (7, 11, 5), strict=True):
            text.take(torch.nn.functional.one_hot(torch.tensor([token]), model.config.vocab_size).float())
        return texts

    with torch.inference_mode():
        together = decoder.read_together(begun())
        assert {len(rows) for rows in together} == {1, 5}  # with drafts and without
        for rows, text in zip(together, begun(), strict=True):
            torch.testing.assert_close(rows, decoder.read_on(text)[: len(rows)], atol=1e-5, rtol=1e-4)


def test_what_goes_wrong_in_a_text_stays_there(model: Any, decoder: BatchedDecoder) -> None:
    def constraint() -> Any:
        def fail(written: Tensor, logits: Tensor) -> Tensor:
            if written.shape[1] == 3:
                raise ValueError("no token may follow")
            return logits

        return fail

    failing, fine = (
        decoder.generate(PROMPTS[0], Sampling(9, constraint=constraint)),
        decoder.generate(PROMPTS[1], Sampling(9)),
    )
    next(failing)
    assert [token for token in fine if token != PENDING] == alone(model, PROMPTS[1], Sampling(9))
    with pytest.raises(ValueError, match="no token may follow"):
        list(failing)
    assert [token for token in decoder.generate(PROMPTS[0], Sampling(9)) if token != PENDING] == alone(
        model, PROMPTS[0], Sampling(9)
    )


def test_a_step_that_fails_ends_its_texts_only(
    model: Any, decoder: BatchedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decoder.shares_steps
    texts = [decoder.generate(ids, Sampling(9)) for ids in PROMPTS[:2]]
    for text in texts:
        next(text)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "read_together", lambda texts: 1 / 0)
        for text in texts:
            with pytest.raises(ZeroDivisionError):
                list(text)
    assert [token for token in decoder.generate(PROMPTS[0], Sampling(9)) if token != PENDING] == alone(
        model, PROMPTS[0], Sampling(9)
    )


def test_the_window_goes_on_afterwards(model: Any, decoder: BatchedDecoder) -> None:
    prefixes: dict[int, Prefix] = {}

    def kept(number: int) -> Iterator[int]:
        prefixes[number] = yield from decoder.generate(PROMPTS[number], Sampling(10))

    written = in_turns(kept(0), kept(2))
    for number, tokens in zip((0, 2), written, strict=True):
        longer = [*PROMPTS[number], *tokens, 3, 4]
        assert prefixes[number].cache.get_seq_length() == len(prefixes[number].ids)
        on = [token for token in decoder.generate(longer, Sampling(10), prefixes[number]) if token != PENDING]
        assert on == alone(model, longer, Sampling(10))


def test_models_that_cannot_share_steps_take_turns(
    model: Any, decoder: BatchedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(decoder, monkeypatch)
    expected = [alone(model, ids, Sampling(8)) for ids in PROMPTS[:2]]
    monkeypatch.setattr("memspan.pretrained.batched.can_step_back", lambda cache: False)
    assert in_turns(*(decoder.generate(ids, Sampling(8)) for ids in PROMPTS[:2])) == expected
    assert steps == []


def test_the_self_test_notices_attention_to_another_text(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = BatchedDecoder(model, [])
    monkeypatch.setattr("memspan.pretrained.decoding.current_rows", lambda: None)
    assert not decoder.shares_steps
