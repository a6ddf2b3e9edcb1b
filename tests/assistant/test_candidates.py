"""Candidates: in a large memory the heads score few passages, and what is found is what an exhaustive search finds."""

from pathlib import Path

import numpy as np
import pytest

from memspan import LanguageModel, Memory
from memspan.memory import Filter
from memspan.memory.index import candidates, head_scores
from memspan.memory.index.head_scores import best
from memspan.memory.index.rankers import Encoders
from memspan.memory.index.rankers.heads import HeadRanker
from memspan.pretrained import encoders
from tests.tiny import logbook, save_tiny_encoder

QUESTION = "What was the weather on the gallery?"


@pytest.fixture(scope="module")
def seeing(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    encoder = encoders.load(str(save_tiny_encoder(tmp_path_factory.mktemp("encoder"))), dtype="float32")
    return LanguageModel(lm.causal_lm, lm.tokenizer, heads=lm.heads, sentence_encoder=encoder)


@pytest.fixture(scope="module")
def memory(seeing: LanguageModel) -> Memory:
    memory = seeing.new_memory()
    for name, start in (("early", 0), ("late", 9000)):
        seeing.read(logbook()[start : start + 9000], memory, source=name)
    return memory


def scored(lm: LanguageModel, memory: Memory, passing: np.ndarray | None = None) -> np.ndarray:
    view = memory.view()
    numbers = np.arange(len(view)) if passing is None else passing
    scores = candidates.candidate_scores(lm.retriever.rankers, view, QUESTION, numbers)
    assert scores is not None
    return scores


def exhaustive(lm: LanguageModel, memory: Memory) -> np.ndarray:
    return np.sum(list(lm.retriever.rankings(memory, QUESTION).values()), axis=0)


@pytest.mark.parametrize("count", [1, 5, 10**6])
def test_candidates_have_the_scores_of_an_exhaustive_search_where_all_passages_are_sampled(
    seeing: LanguageModel, memory: Memory, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 0)
    monkeypatch.setattr(candidates, "CANDIDATES", count)
    expected, scores = exhaustive(seeing, memory), scored(seeing, memory)
    first = best(scores, min(count, len(memory)))
    np.testing.assert_allclose(scores[first], expected[first], rtol=1e-3, atol=1e-3)
    if count > len(memory):
        assert best(scores, len(scores)) == best(expected, len(expected))


@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_heads_score_some_passages_as_they_score_all(
    lm: LanguageModel, seeing: LanguageModel, memory: Memory, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With attention so sharp that passages stand out, as those of a trained model do."""
    monkeypatch.setattr(head_scores, "SHARPNESS", 500.0)
    ranker = HeadRanker(Encoders(lm.retriever.encoder, seeing.vectors))
    expected = ranker.scores(memory.view(), QUESTION)
    assert expected.max() - expected.min() > 1
    numbers = np.sort(best(expected, count))
    scores, mean = ranker.scores_of(memory.view(), QUESTION, numbers)
    np.testing.assert_allclose(scores, expected[numbers], rtol=1e-3, atol=1e-3)
    assert mean == pytest.approx(float(expected.mean()), abs=1e-3)


def test_conditions_hold_before_the_cut(seeing: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 0)
    monkeypatch.setattr(candidates, "CANDIDATES", 3)
    ranked = best(scored(seeing, memory), len(memory))
    last = memory.passage(ranked[-1]).source  # of a passage that is no candidate by itself
    wanted = memory.passages_of(last)
    scores = scored(seeing, memory, np.array(wanted))
    assert np.flatnonzero(np.isfinite(scores)).tolist() == wanted
    found = seeing.search(memory, QUESTION, top=8, rerank=0, filter=Filter(sources=(last,)))
    assert [passage.source for passage in found] == [last] * 8
    numbers = {passage.number for passage in found}
    others = seeing.search(memory, QUESTION, top=8, rerank=0, among=lambda passage: passage.number not in numbers)
    assert len(others) == 8
    assert numbers.isdisjoint(passage.number for passage in others)


def test_nothing_ranks_ahead_of_the_candidates(
    seeing: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 0)
    asked: list[list[int]] = []
    ranker = seeing.retriever.rankers["heads"]
    assert isinstance(ranker, HeadRanker)
    of = ranker.scores_of
    monkeypatch.setattr(
        ranker, "scores_of", lambda view, text, numbers: (asked.append(numbers.tolist()), of(view, text, numbers))[1]
    )
    monkeypatch.setattr(candidates, "CANDIDATES", 4)
    scores = scored(seeing, memory)
    assert [len(numbers) for numbers in asked] == [4]
    assert set(best(scores, 4)) == set(asked[0])


def test_what_is_forgotten_is_no_candidate(
    seeing: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 0)
    memory = seeing.new_memory(tmp_path / "m")
    seeing.read(logbook()[:6000], memory, source="kept")
    seeing.read("The weather on the gallery was fair.", memory, source="secret")
    assert seeing.search(memory, QUESTION, rerank=0)[0].source == "secret"
    fork = memory.fork()
    memory.forget("secret")
    assert {passage.source for passage in seeing.search(memory, QUESTION, top=99, rerank=0)} == {"kept"}
    assert seeing.search(fork, QUESTION, rerank=0)[0].source == "secret"


def test_attention_to_all_is_computed_in_a_small_memory_and_without_vectors(
    lm: LanguageModel, seeing: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.arange(len(memory))
    assert candidates.candidate_scores(seeing.retriever.rankers, memory.view(), QUESTION, numbers) is None
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 0)
    assert candidates.candidate_scores(seeing.retriever.rankers, memory.view(), QUESTION, numbers) is not None
    plain = lm.read(logbook()[:6000])
    assert candidates.candidate_scores(lm.retriever.rankers, plain.view(), QUESTION, np.arange(len(plain))) is None
