"""What passages draw from invented questions: computed once for each shard, and the same as for the whole memory at once."""

from dataclasses import replace

import numpy as np
import pytest

from memspan import LanguageModel, Memory
from memspan.memory.index.head_scores import head_scores
from memspan.memory.index.rankers import Encoders, heads
from memspan.memory.index.rankers.heads import HeadRanker, invented_questions, standard
from memspan.memory.store.snapshot import Snapshot
from memspan.memory.union import united
from tests.tiny import logbook

QUESTION = "What was the weather on the gallery?"


@pytest.fixture
def ranker(lm: LanguageModel) -> HeadRanker:
    return HeadRanker(Encoders(lm.retriever.encoder, lm.retriever.vectors))


@pytest.fixture
def memory(lm: LanguageModel) -> Memory:
    return lm.read(logbook()[:20_000], source="early")


@pytest.fixture
def computed(ranker: HeadRanker, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of passages of which the attention to an invented question is computed."""
    ranker.scores(memory.view(), QUESTION)  # makes the questions
    passages: list[int] = []
    of = heads.log_masses
    monkeypatch.setattr(
        heads,
        "log_masses",
        lambda query, block, limits: (passages.append(len(block.ends)), of(query, block, limits))[1],
    )
    return passages


def naive(lm: LanguageModel, snapshot: Snapshot) -> np.ndarray:
    """The mean over the invented questions, each searched for in the whole memory."""
    drawn = [head_scores(query, snapshot.blocks()) for query in invented_questions(lm.retriever.encoder)]
    return np.mean([standard(np.sqrt(scores)) for scores in drawn], axis=0)


def habit(lm: LanguageModel, ranker: HeadRanker, memory: Memory) -> np.ndarray:
    view = memory.view()
    scores = head_scores(lm.retriever.encoder.question(QUESTION), view.blocks())
    return standard(np.sqrt(scores)) - ranker.scores(view, QUESTION)


def test_a_change_costs_what_its_passages_cost(
    lm: LanguageModel, ranker: HeadRanker, memory: Memory, computed: list[int]
) -> None:
    before = len(memory)
    lm.read(logbook()[20_000:21_000], memory, source="late")
    new = len(memory) - before
    assert 0 < new < before
    np.testing.assert_allclose(habit(lm, ranker, memory), naive(lm, memory.view().snapshot), atol=1e-5)
    assert computed == [new] * heads.INVENTED
    memory.forget("late")
    assert ranker.scores(memory.view(), QUESTION).shape == (before,)
    assert computed == [new] * heads.INVENTED


def test_a_union_of_the_same_memories_costs_nothing_more(
    lm: LanguageModel, ranker: HeadRanker, memory: Memory, computed: list[int]
) -> None:
    other = lm.read(logbook()[30_000:34_000], source="other")
    first = ranker.scores(united([memory, other], names_one=True), QUESTION)
    assert sum(computed) == heads.INVENTED * (len(memory) + len(other))
    computed.clear()
    lm.read("The lamp is lit.", other, source="new")
    second = ranker.scores(united([memory, other], names_one=True), QUESTION)
    assert second.shape == (len(first) + 1,)
    assert sum(computed) == heads.INVENTED


def test_keys_of_one_shard_that_are_cut_are_cut_by_the_limits_of_the_memory(
    lm: LanguageModel, ranker: HeadRanker, memory: Memory, computed: list[int]
) -> None:
    snapshot = memory.view().snapshot
    (shard,) = snapshot.shards
    scales = shard.scales.copy()
    scales[7] *= 100
    loud = replace(shard, scales=scales)
    for shards in ((loud,), (loud, shard, shard), (loud,)):
        changed = Snapshot(snapshot.generation, snapshot.lineage, shards)
        np.testing.assert_allclose(ranker._habit(changed), naive(lm, changed), atol=1e-5)
    assert computed.count(len(memory)) == 3 * heads.INVENTED  # of the shard that is cut, each time


def test_keys_of_a_quiet_shard_are_cut_by_the_limits_of_the_memory_alone(
    lm: LanguageModel, ranker: HeadRanker, memory: Memory
) -> None:
    snapshot = memory.view().snapshot
    (shard,) = snapshot.shards
    scales = shard.scales.copy() / 16
    scales[7] *= 16  # loud in this shard, usual in the memory
    ranker.scores(memory.view(), QUESTION)  # makes the questions
    changed = Snapshot(snapshot.generation, snapshot.lineage, (shard,) * 12 + (replace(shard, scales=scales),))
    np.testing.assert_allclose(ranker._habit(changed), naive(lm, changed), atol=1e-5)


def test_an_empty_memory_draws_nothing(lm: LanguageModel, ranker: HeadRanker) -> None:
    assert ranker.scores(lm.new_memory().view(), QUESTION).shape == (0,)
