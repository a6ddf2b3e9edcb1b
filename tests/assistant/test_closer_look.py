"""A closer look: the best passages are ranked by their sentences, as a naive loop over all of them says."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from memspan import Chat, LanguageModel, Memory
from memspan.assistant.closer_look import MEANING_WEIGHT, REACH, TOKENS_WEIGHT, WORDS_WEIGHT, looked_at_closely
from memspan.assistant.rare_words import RareWords
from memspan.assistant.retrieved import RetrievedPassage
from memspan.memory import View
from memspan.pretrained import encoders
from memspan.pretrained.sentence_encoder import SentenceEncoder
from memspan.pretrained.text_encoder import TextEncoder
from tests.assistant.test_complement import Words
from tests.tiny import logbook, save_tiny_encoder

QUESTION = "What was the weather on the gallery?"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return encoders.load(str(save_tiny_encoder(tmp_path_factory.mktemp("encoder"))), dtype="float32")


@pytest.fixture
def embedded(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> SentenceEncoder:
    """A tiny encoder in the name of the one for which the weights are."""
    monkeypatch.setitem(encoders.EMBEDDED, encoder.name, encoders.EMBEDDED[encoders.DEFAULT])
    return encoder


@pytest.fixture(scope="module")
def seeing(lm: LanguageModel, encoder: SentenceEncoder) -> LanguageModel:
    return LanguageModel(lm.causal_lm, lm.tokenizer, heads=lm.heads, sentence_encoder=encoder)


@pytest.fixture(scope="module")
def memory(seeing: LanguageModel) -> Memory:
    return seeing.read(logbook()[:9000], source="book")


def naive_score(view: View, encoder: TextEncoder, passage: RetrievedPassage) -> float:
    """Of the sentences of a passage, which end in full stops, the best in each respect."""
    (question,), words = encoder.read([QUESTION]), RareWords.of(view, QUESTION)
    meanings, tokens, shares = [], [], []
    for sentence in re.split(r"(?<=\.) ", passage.text):
        (read,) = encoder.read([sentence])
        best = [max(float(state @ other) for other in read.states) for state in question.states]
        meanings.append(float(encoder.question(QUESTION) @ read.vector))
        tokens.append(sum(best) / len(best))
        weighted = 0.0
        for word, weight in zip(words.words, words.weights, strict=True):
            where = QUESTION.casefold().index(word)
            own = [
                value
                for value, (first, last) in zip(best, question.spans, strict=True)
                if first < where + len(word) and last > where
            ]
            weighted += weight * max(0.0, sum(own) / len(own))
        shares.append(weighted / words.weights.sum())
    return (
        passage.score + MEANING_WEIGHT * max(meanings) + TOKENS_WEIGHT * max(tokens) + WORDS_WEIGHT * max(shares)
    )  # fmt: skip


def test_the_scores_are_those_of_a_naive_loop(seeing: LanguageModel, embedded: SentenceEncoder, memory: Memory) -> None:
    view = memory.view()
    found = [
        replace(passage, text="The weather was foul. Rain fell on the gallery. The lamp burns well")
        if number == 2
        else replace(passage, text=["All is quiet", "A ship. The weather. Gallery"][number % 2])
        for number, passage in enumerate(seeing.search(memory, QUESTION, top=6, rerank=0))
    ]
    expected = {passage.number: naive_score(view, embedded, passage) for passage in found[:5]}
    closer = looked_at_closely(view, QUESTION, found, 5, embedded)
    assert closer is not None
    assert [passage.number for passage in closer[:5]] == sorted(expected, key=lambda number: -expected[number])
    highest = max(expected.values())
    assert [passage.score - found[0].score for passage in closer[:5]] == pytest.approx(
        [expected[passage.number] - highest for passage in closer[:5]],
        abs=1e-2,  # weights of 8 on rounded cosines
    )
    assert closer[5].number == found[5].number
    assert closer[5].score == min(found[5].score, closer[4].score)
    before = {passage.number: passage.score for passage in found}
    assert [passage.reranked for passage in closer] == pytest.approx(
        [passage.score - before[passage.number] for passage in closer], abs=1e-4
    )


def test_a_passage_far_behind_is_not_read(
    seeing: LanguageModel, embedded: SentenceEncoder, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        replace(passage, score=30.0 - behind, text=f"The weather of day {behind}.")
        for behind, passage in zip(
            (0.0, REACH, REACH + 0.1, 20.0), seeing.search(memory, QUESTION, rerank=0), strict=False
        )
    ]
    read: list[str] = []
    monkeypatch.setattr(
        embedded, "read", lambda texts, read_all=embedded.read: [read.extend(texts), read_all(texts)][1]
    )
    closer = looked_at_closely(memory.view(), QUESTION, found, 4, embedded)
    assert closer is not None
    assert set(read) == {QUESTION, found[0].text, found[1].text}
    assert [passage.number for passage in closer[2:]] == [passage.number for passage in found[2:]]
    assert closer[0].score == 30.0


def test_a_search_takes_it_and_asks_no_language_model(
    seeing: LanguageModel, embedded: SentenceEncoder, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeing.retriever, "likelihood_gains", lambda *_: pytest.fail("the likelihood was computed"))
    first = seeing.search(memory, QUESTION, top=16, rerank=0)
    expected = looked_at_closely(memory.view(), QUESTION, first, 16, embedded)
    assert expected is not None
    assert seeing.search(memory, QUESTION, top=16) == expected
    assert seeing.search(memory, QUESTION, top=3) == expected[:3]  # found further down than what is returned
    assert [passage.number for passage in expected] != [passage.number for passage in first]


def test_a_chat_takes_it_and_never_the_likelihood(
    seeing: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = "memspan.assistant.retriever.looked_at_closely"
    monkeypatch.setattr("memspan.assistant.retriever.RERANK_GAP", np.inf)
    monkeypatch.setattr(seeing.retriever, "likelihood_gains", lambda *_: pytest.fail("the likelihood was computed"))
    first = seeing.search(memory, QUESTION, top=16, rerank=0)
    monkeypatch.setattr(looked_at, lambda view, question, found, count, encoder: [*reversed(found[:count])])
    chat = Chat(seeing, memory, min_confidence=0.0, passages=1, budget=1000)
    chat.prompt_ids(QUESTION)
    assert [passage.number for passage in chat.recalled] == [first[-1].number]
    monkeypatch.setattr(looked_at, lambda *_: None)
    chat.prompt_ids(QUESTION + " ")
    assert [passage.number for passage in chat.recalled] == [first[0].number]


def test_it_is_not_taken_by_an_encoder_that_cannot_tell(
    lm: LanguageModel, seeing: LanguageModel, memory: Memory
) -> None:
    view, found = memory.view(), seeing.search(memory, QUESTION, rerank=0)
    words = Words()
    assert looked_at_closely(view, QUESTION, found, 8, words) is not None
    assert looked_at_closely(view, "unknown to it", found, 8, words) is None
    assert looked_at_closely(view, QUESTION, [], 8, words) is None
    assert looked_at_closely(view, QUESTION, found, 8, None) is None
    turns = [replace(found[0], marks={"speaker": "Ann"}), *found[1:]]
    assert looked_at_closely(view, QUESTION, turns, 8, words) is None
    assert looked_at_closely(view, QUESTION, found, 8, seeing.vectors.encoder) is None  # not the embedded one
    texts: list[str] = []

    def gains(question: str, asked: Sequence[str]) -> list[float]:
        texts.extend(asked)
        return [0.0] * len(asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeing.retriever, "likelihood_gains", gains)
        patch.setattr("memspan.assistant.retriever.RERANK_GAP", np.inf)
        seeing.search(memory, QUESTION)
    assert len(texts) == 4  # a pass of the model each: the best alone
