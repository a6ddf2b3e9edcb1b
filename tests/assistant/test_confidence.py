"""Confidence: high where a passage holds what is asked for, low where the memory is about something else."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import memspan
from memspan import LanguageModel, Memory
from memspan.assistant.confidence import MIN_CONFIDENCE, SILENCE, SUPPORTED, confidence, confidences
from memspan.assistant.likeness import Likeness
from memspan.assistant.quotes import Evidence
from memspan.errors import UsageError
from tests.tiny import logbook

SHORT = memspan.Sampling(max_new_tokens=2)
SECRET = "The zinc trunk of Ilse Brandt stands under the stairs of the boathouse."
HELD, FOREIGN = "Where does the zinc trunk of Ilse Brandt stand?", "Who won the football championship of 1998 in Paris?"


@pytest.fixture(scope="module")
def memory(lm: LanguageModel) -> Memory:
    return lm.read(SECRET, lm.read(logbook()[:6000], source="book"), source="note")


def evidence(lm: LanguageModel, memory: Memory, question: str) -> Evidence:
    return Evidence(memory.view(), question, lm.search(memory, question, rerank=0), lm.retriever)


def test_what_the_memory_holds_is_supported_and_nothing_else_is(lm: LanguageModel, memory: Memory) -> None:
    held, foreign = (lm.ask(memory, question, sampling=SHORT) for question in (HELD, FOREIGN))
    assert held.confidence > SUPPORTED > MIN_CONFIDENCE > foreign.confidence >= 0
    assert held.is_supported
    assert not foreign.is_supported
    assert foreign.is_answered  # unless a smallest confidence is asked for
    assert held.to_dict().items() >= {"is_supported": True, "confidence": held.confidence}.items()


def test_below_the_smallest_confidence_nothing_is_written(lm: LanguageModel, memory: Memory) -> None:
    parts: list[str] = []
    answer = lm.ask(memory, FOREIGN, min_confidence=MIN_CONFIDENCE, on_text=parts.append)
    assert answer.text == "".join(parts) == SILENCE
    assert (answer.is_answered, answer.is_supported, answer.quote) == (False, False, None)
    assert answer.passages[0] == lm.search(memory, FOREIGN)[0]
    assert (answer.prompt_tokens, answer.answer_tokens) == (0, 0)
    assert lm.ask(memory, HELD, min_confidence=MIN_CONFIDENCE, sampling=SHORT).text != SILENCE


def test_an_empty_memory_says_nothing(lm: LanguageModel) -> None:
    parts: list[str] = []
    answer = lm.ask(lm.new_memory(), HELD, min_confidence=MIN_CONFIDENCE, on_text=parts.append)
    assert (answer.text, answer.confidence, answer.is_answered) == (SILENCE, 0.0, False)
    assert parts == [SILENCE]


def test_a_small_memory_is_judged_like_a_large_one(lm: LanguageModel) -> None:
    """The words that its only passage holds would weigh next to nothing by their frequency."""
    alone = lm.read(SECRET)
    assert lm.ask(alone, HELD, sampling=SHORT).confidence > SUPPORTED
    assert lm.ask(alone, FOREIGN, sampling=SHORT).confidence < MIN_CONFIDENCE


def test_a_question_of_question_words_is_judged_by_the_rest(lm: LanguageModel, memory: Memory) -> None:
    assert confidence(evidence(lm, memory, "Who is it?")) > MIN_CONFIDENCE


def test_each_passage_has_its_own_confidence(lm: LanguageModel, memory: Memory) -> None:
    found = lm.search(memory, HELD, top=6)
    shares = confidences(Evidence(memory.view(), HELD, found, lm.retriever, 6))
    assert shares.argmax() == [passage.text.strip() for passage in found].index(SECRET)
    kept = lm.search(memory, HELD, top=6, min_confidence=SUPPORTED)
    expected = [replace(p, confidence=s) for p, s in zip(found, shares.tolist(), strict=True) if s >= SUPPORTED]
    assert kept == expected != []
    assert len(kept) < len(found)
    assert all(passage.confidence is None for passage in found)


def set_meaning(monkeypatch: pytest.MonkeyPatch, some: Evidence, cosine: float, likeness: float) -> None:
    """As if the sentence encoder found every sentence so near to the question, and every token so like one of it."""
    sentences = len(some.sentences)
    monkeypatch.setattr(Evidence, "sentence_meaning", np.full(sentences, cosine, np.float32))
    spans = [match.span() for match in re.finditer(r"\w+", some.question)]
    like = Likeness(some.question, spans, np.full((len(spans), sentences), likeness))
    monkeypatch.setattr(Evidence, "likeness", like)
    monkeypatch.setattr(Evidence, "word_likeness", np.full(sentences, likeness))


def test_meaning_supports_what_words_do_not(lm: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cosines of sentences: the same question without a shared word, near in meaning or not."""
    shares = []
    for cosine in (0.0, 0.3, 0.6, 0.9):
        some = evidence(lm, memory, "In which building is the luggage?")
        set_meaning(monkeypatch, some, cosine, cosine)
        shares.append(confidence(some))
    assert shares == sorted(set(shares))
    assert shares[0] < MIN_CONFIDENCE < shares[2]


def test_a_sentence_about_the_same_in_other_words_is_doubtful(
    lm: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = evidence(lm, memory, "In which building is the luggage?")
    for cosine, least, most in (
        (0.3, 0, MIN_CONFIDENCE),
        (0.45, MIN_CONFIDENCE, SUPPORTED),
        (0.9, MIN_CONFIDENCE, SUPPORTED),
    ):
        set_meaning(monkeypatch, some, cosine, likeness=0.3)
        assert least <= confidence(some) < most


def test_no_passage_supports_nothing() -> None:
    assert confidence(SimpleNamespace(passages=())) == 0.0


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_numbers_that_are_no_confidence(lm: LanguageModel, memory: Memory, wrong: float) -> None:
    for act in (lm.ask, lm.search):
        with pytest.raises(UsageError, match=r"^`min_confidence` must be from 0 to 1, got"):
            act(memory, HELD, min_confidence=wrong)
