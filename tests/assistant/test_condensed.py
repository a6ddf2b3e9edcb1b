"""Passages that are read in condensed form before the prompt."""

from dataclasses import replace
from pathlib import Path

import pytest

from memspan import LanguageModel, Memory, Sampling
from memspan.assistant.asking import LEAST_FOUND
from memspan.assistant.chat import Chat
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


def chat(lm: LanguageModel, **settings: object) -> Chat:
    """A conversation over the logbook in which every message recalls something."""
    settings = {"passages": 2, "min_confidence": 0.0, "sampling": SHORT, **settings}
    return Chat(lm, lm.read(logbook(), source="log.txt"), **settings)  # type: ignore[arg-type]


def test_a_chat_condenses_the_passages_behind_those_of_its_prompt(
    lm: LanguageModel, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn those of its message; the prompt is the same as without, and what a chat forgets is not condensed either."""
    read: list[list[str]] = []
    original = Condenser.read

    def recorded(condenser: Condenser, texts: list[list[int]], latents: list[None]) -> object:
        read.append([lm.tokenizer.decode(ids) for ids in texts])
        return original(condenser, texts, latents)

    monkeypatch.setattr(Condenser, "read", recorded)
    alone, both = chat(lm), chat(lm, condensed=3, memory_weights=run)
    replies = ["".join(conversation.reply(QUESTION)) for conversation in (alone, both)]
    assert (alone.condensed, both.recalled) == ((), alone.recalled)
    assert len(both.condensed) == 3
    found = [passage.number for passage in lm.search(both.memory, QUESTION, top=12)]
    chosen = [passage.number for passage in (*both.recalled, *both.condensed)]
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(found)
    assert read == [[f"{passage.text.strip()}\n\n" for passage in reversed(both.condensed)]]
    assert replies[0] != replies[1]
    list(both.reply("Who kept the log?"))
    assert len(read) == 2
    both.forget("log.txt")
    assert both.condensed == ()
    list(both.reply(QUESTION))
    assert all("log.txt" not in passage.source for passage in (*both.recalled, *both.condensed))


def test_a_chat_condenses_nothing_where_nothing_bears_on_the_message(lm: LanguageModel, run: Path) -> None:
    conversation = chat(lm, condensed=3, memory_weights=run, min_confidence=1.0)
    list(conversation.reply(QUESTION))
    assert (conversation.recalled, conversation.condensed) == ((), ())


def test_what_a_chat_condenses_fits_beside_its_prompt(lm: LanguageModel, run: Path) -> None:
    """Also where the exchanges alone would fill the window: they leave room for it."""
    conversation = chat(lm, condensed=4, memory_weights=run)
    paragraphs = logbook(seed=8).split("\n\n")
    for number in range(0, 60, 3):
        conversation.remember(" ".join(paragraphs[number : number + 3]), "Noted.")
    messages = conversation.messages(QUESTION)
    taken = conversation._count(messages) + sum(passage.tokens for passage in conversation.condensed)
    assert len(conversation.condensed) == 4
    assert WINDOW // 2 < taken + SHORT.max_new_tokens <= WINDOW
    assert len(messages) > 3


def test_a_chat_refuses_what_cannot_be(lm: LanguageModel, memory: Memory, run: Path) -> None:
    with pytest.raises(UsageError, match="has no trained memory to read condensed passages with"):
        Chat(lm, memory, condensed=2)
    with pytest.raises(UsageError, match="let nothing else answer"):
        Chat(lm, memory, condensed=2, memory_weights=run, answerer=lm.answerer)
    with pytest.raises(UsageError, match="`condensed` must be at least 0, got -1"):
        Chat(lm, memory, condensed=-1)
