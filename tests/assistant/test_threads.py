"""A search sees one state of the memory from its first step to its last, whatever other threads change meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memspan import LanguageModel
from memspan.assistant import retriever
from memspan.assistant.chat import Chat
from memspan.explain.passages import explain_recall
from memspan.memory import Memory
from memspan.memory.index.rankers import heads, words
from memspan.models.generate import Sampling

QUESTION = "Where does the zinc trunk stand?"
SHORT = Sampling(max_new_tokens=2)


def logs(lm: LanguageModel, path: Path | None) -> Memory:
    """Four sources of a passage each."""
    memory = lm.new_memory(path)
    for number in range(4):
        lm.remember(memory, f"The zinc trunk number {number} stands here.", source=f"log {number}")
    return memory


def append(lm: LanguageModel, memory: Memory) -> None:
    late = memory.generation  # no two texts are the same: a text is found once
    lm.remember(memory, f"A zinc trunk that came later, a brass trunk too, {late}.", source=f"late {late}")


def append_and_search(lm: LanguageModel, memory: Memory) -> None:
    append(lm, memory)
    assert len(memory.word_scores("zinc trunk")) == len(memory)


def forget(lm: LanguageModel, memory: Memory) -> None:
    memory.forget(next(iter(memory.sources)))


def forget_and_append(lm: LanguageModel, memory: Memory) -> None:
    """The number of passages is what it was, the numbers mean others."""
    forget(lm, memory)
    append_and_search(lm, memory)


CHANGES = [append, append_and_search, forget, forget_and_append]


def disturbed(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let the change happen ahead of each step of a search."""

    def after(step: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **options: Any) -> Any:
            change()
            return step(*args, **options)

        return changed

    for module, step in (
        (heads, "head_scores"),
        (words, "without_question_words"),
        (retriever, "fuse"),
        (retriever, "best"),
        (retriever, "likelihood_prefix"),
    ):
        monkeypatch.setattr(module, step, after(getattr(module, step)))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_search_sees_the_memory_as_it_was_when_it_began(
    lm: LanguageModel,
    change: Callable[[LanguageModel, Memory], None],
    on_disk: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = logs(lm, tmp_path / "m" if on_disk else None)
    expected = lm.search(memory, QUESTION)
    rankings = lm.retriever.rankings(memory, QUESTION)
    count = 0

    def at_most_three_times() -> None:
        nonlocal count
        count += 1
        if count <= 3:
            change(lm, memory)

    twin = memory.fork()
    disturbed(monkeypatch, at_most_three_times)
    assert lm.search(memory, QUESTION) == expected
    assert count > 4
    memory, count = twin, 0
    ranked = lm.retriever.rankings(memory, QUESTION)
    assert {name: ranking.tolist() for name, ranking in ranked.items()} == {
        name: ranking.tolist() for name, ranking in rankings.items()
    }


def test_the_evidence_is_that_of_the_answer(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = logs(lm, None)
    expected = explain_recall(lm, memory, QUESTION, SHORT)
    disturbed(monkeypatch, lambda: forget_and_append(lm, memory))
    assert explain_recall(lm, memory, QUESTION, SHORT) == expected


def test_a_turn_sees_one_state(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = logs(lm, None)
    expected = Chat(lm, memory, sampling=SHORT, min_confidence=0.0).prompt_ids(QUESTION)
    disturbed(monkeypatch, lambda: forget_and_append(lm, memory))
    assert Chat(lm, memory, sampling=SHORT, min_confidence=0.0).prompt_ids(QUESTION) == expected


def test_passages_are_tried_from_the_best_on_until_enough_meet_the_condition(lm: LanguageModel) -> None:
    memory = logs(lm, None)
    for _ in range(20):
        append(lm, memory)
    ranked = [passage.number for passage in lm.search(memory, QUESTION, top=len(memory), rerank=0)]
    tried: list[int] = []
    found = lm.search(
        memory,
        QUESTION,
        top=2,
        rerank=0,
        among=lambda passage: (tried.append(passage.number), len(tried) != 2)[1],
    )
    assert tried == ranked[:3]
    assert [passage.number for passage in found] == [ranked[0], ranked[2]]
