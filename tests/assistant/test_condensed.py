"""Passages that are read in condensed form before the prompt."""

from dataclasses import replace
from pathlib import Path

import pytest

from memspan import LanguageModel, Memory, Sampling
from memspan.assistant.asking import LEAST_FOUND
from memspan.assistant.prompt_budget import PASSAGE_TOKENS
from memspan.errors import UsageError
from memspan.pretrained.condenser import Condenser
from tests.tiny import WINDOW, logbook, save_trained_memory

QUESTION = "What did the wind do on the third day?"
SHORT = Sampling(max_new_tokens=6)


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return save_trained_memory(str(tiny_model), folder, rate=4, window=64, block=64, code=4, hidden=4)


@pytest.fixture(scope="module")
def memory(lm: LanguageModel) -> Memory:
    return lm.read(logbook(), source="log.txt")


def test_the_next_best_passages_are_condensed_the_best_last(
    lm: LanguageModel, memory: Memory, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are what a larger prompt would quote; the prompt itself, and what is quoted from it, stay as they are."""
    read: list[list[str]] = []
    original = Condenser.read

    def recorded(condenser: Condenser, texts: list[list[int]], latents: list[None]) -> object:
        read.append([lm.tokenizer.decode(ids) for ids in texts])
        assert latents == [None] * len(texts)
        return original(condenser, texts)

    monkeypatch.setattr(Condenser, "read", recorded)
    alone = lm.ask(memory, QUESTION, passages=2, sampling=SHORT)
    both = lm.ask(memory, QUESTION, passages=2, condensed=3, memory_weights=run, sampling=SHORT)
    assert alone.condensed == ()
    assert (both.passages, both.quotes, both.prompt_tokens) == (alone.passages, alone.quotes, alone.prompt_tokens)
    found = lm.search(memory, QUESTION, top=12)
    assert [passage.number for passage in (*both.passages, *both.condensed)] == [one.number for one in found[:5]]
    assert read == [[f"{passage.text.strip()}\n\n" for passage in reversed(both.condensed)]]
    assert both.text != alone.text
    assert [passage["number"] for passage in both.to_dict()["condensed"]] == [one.number for one in both.condensed]


def test_a_complement_from_beyond_the_best_is_not_condensed_as_well(
    lm: LanguageModel, memory: Memory, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a passage that the search ranks among those to condense."""
    beyond = replace(lm.search(memory, QUESTION, top=LEAST_FOUND + 3)[LEAST_FOUND + 1], second_gap=0.0)
    monkeypatch.setattr(
        "memspan.assistant.asking.with_complement", lambda _, __, found, *___, **____: [found[0], beyond]
    )
    answer = lm.ask(memory, QUESTION, passages=2, condensed=3, memory_weights=run, sampling=SHORT)
    numbers = [passage.number for passage in (*answer.passages, *answer.condensed)]
    assert beyond.number in numbers
    assert len(numbers) == len(set(numbers)) > 2


def test_they_leave_room_for_the_prompt_and_the_answer(lm: LanguageModel, memory: Memory, run: Path) -> None:
    """The text is longer than the window."""
    most = WINDOW // PASSAGE_TOKENS * 4
    answer = lm.ask(memory, QUESTION, passages=2, condensed=most, memory_weights=run, sampling=SHORT)
    taken = answer.prompt_tokens + sum(passage.tokens for passage in answer.condensed)
    assert len(answer.condensed) < most
    assert WINDOW - 2 * PASSAGE_TOKENS < taken + SHORT.max_new_tokens <= WINDOW


def test_what_cannot_be(lm: LanguageModel, memory: Memory, run: Path) -> None:
    class Other:
        name, window = "other", 1000

        def answer(self, messages: object, sampling: Sampling) -> list[str]:
            return ["nothing"]

    with pytest.raises(UsageError, match="has no trained memory to read condensed passages with: `memspan train"):
        lm.ask(memory, QUESTION, condensed=2)
    with pytest.raises(UsageError, match="let nothing else answer"):
        lm.ask(memory, QUESTION, condensed=2, memory_weights=run, answerer=Other())
    with pytest.raises(UsageError, match="`condensed` must be at least 0, got -1"):
        lm.ask(memory, QUESTION, condensed=-1)
