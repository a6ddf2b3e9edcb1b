"""Phrases and sentences: what they choose stands in the text, has about the usual length, and is learned from examples."""

import random

import numpy as np
import pytest

from memspan.assistant.extracts.base import Case, Source
from memspan.assistant.extracts.overlap import longest_common, shared_words
from memspan.assistant.extracts.phrases import Phrases, Tokens
from memspan.assistant.extracts.sentences import SentencedText, Sentences
from memspan.assistant.language_model import LanguageModel

SUBJECTS = ("steel bridges", "river floods", "wheat prices", "night trains", "paper mills", "cold storage", "sea walls")
SPACED = (
    "We have often wondered, as others did. This paper presents a new study of {0} in the north. It took {1} years."
)
UNSPACED = "近年来情况有变。本文研究了{0}的影响因素，取得了{1}项结果。"


def cases(lm: LanguageModel, form: str, title: str, count: int = 40) -> list[Case]:
    draw = random.Random(0)
    subjects = [draw.choice(SUBJECTS) for _ in range(count)]
    texts = [form.format(subject, number + 2) for number, subject in enumerate(subjects)]
    return [Case(Source(lm, text), "", (title.format(subject),)) for text, subject in zip(texts, subjects, strict=True)]


@pytest.mark.parametrize(("form", "title"), [(SPACED, "a new study of {0}"), (UNSPACED, "{0}的影响因素")])
def test_phrases_learn_where_titles_begin_and_end(lm: LanguageModel, form: str, title: str) -> None:
    examples = cases(lm, form, title)
    extract = Phrases(5)
    extract.fit(examples[:30])
    unseen = [Case(Source(lm, form.format("iron ore", 3)), "", (title.format("iron ore"),)), *examples[30:]]
    found = extract.extract(unseen)
    right = [case.targets[0] for case in unseen]
    assert sum(text == target for text, target in zip(found, right, strict=True)) >= 8
    assert all(text in case.source.text for text, case in zip(found, unseen, strict=True))


def test_phrases_stay_within_a_clause_and_near_the_length() -> None:
    text = Tokens("One two three four five, six seven eight nine ten. Eleven")
    candidates = text.candidates(3)
    for first, last in zip(candidates.first.tolist(), candidates.last.tolist(), strict=True):
        assert not set(text.words[first:last]) & {",", "."}
        assert 1 <= last - first <= 5
    assert text.between(0, 2) == "One two"


@pytest.mark.parametrize("text", ["", "...", "\n\n", "a"])
def test_texts_with_next_to_nothing_in_them(lm: LanguageModel, text: str) -> None:
    for kind in (Phrases, Sentences):
        (found,) = kind(5).extract([Case(Source(lm, text))])
        assert found in text


def meeting(number: int) -> str:
    """A meeting in which a decision about one thing stands among others."""
    lines = [f"Okay, so that was {word}." for word in ("nice", "long", "fine", "good", "odd")]
    lines[number % 5] = f"We decided to buy {number} remote controls made of rubber."
    lines[(number + 2) % 5] = f"The budget for batteries is {number} euros."
    return "\n".join(f"Ann: {line}" for line in lines)


def test_sentences_answer_the_question(lm: LanguageModel) -> None:
    def case(number: int, about: str, target: str) -> Case:
        return Case(Source(lm, meeting(number)), f"What was said about the {about}?", (target,))

    examples = [
        pair
        for number in range(30, 50)
        for pair in (
            case(number, "remote controls", f"they decided to buy {number} remote controls of rubber"),
            case(number, "budget for batteries", f"the budget for batteries is {number} euros"),
        )
    ]
    extract = Sentences(9)
    extract.fit(examples)
    remote, budget = extract.extract([case(12, "remote controls", ""), case(12, "budget for batteries", "")])
    assert "12 remote controls" in remote
    assert "12 euros" in budget
    assert "euros" not in remote
    again = Sentences(9)
    again.restore(extract.tensors())
    assert again.extract([case(12, "remote controls", "")]) == [remote]


def test_sentences_stand_in_order_and_are_not_the_same_twice(lm: LanguageModel) -> None:
    text = SentencedText(Source(lm, "One two three. Four five six. One two three. Seven eight nine."))
    text.vectors = np.array([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], np.float32)
    scores = np.array([1.0, 0.9, 0.95, 0.0])
    assert text.best(scores, 6) == [0, 1]
    assert text.best(scores, 100) == [0, 1, 2, 3]
    assert text.best(scores, 1) == [0]


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="must be those of phrases"):
        Phrases(5).restore(Sentences(5).tensors())


def test_overlap() -> None:
    assert longest_common(["a", "b", "c", "d"], ["a", "x", "c"]) == pytest.approx(2 * 2 / 7)
    assert longest_common([], ["a"]) == 0.0
    assert shared_words(["a", "a", "b"], ["a", "c", "a", "a"]) == pytest.approx(2 * 2 / 7)
