"""The ranker by attention: the model's retrieval heads point from the question at passages.

Letters: P passages of a memory, N of them that are scored, M that stand for the others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.head_scores import (
    Floats,
    HeadQuery,
    gathered,
    head_scores,
    log_masses,
    longest_scales,
    scores_of_masses,
)
from memspan.memory.index.probe_corpus import haystack
from memspan.memory.index.rankers.base import Encoders, Scores
from memspan.memory.store.per_snapshot import PerShard, PerSnapshot
from memspan.memory.store.shard import Shard
from memspan.memory.store.snapshot import Block, Snapshot, block_of
from memspan.memory.view import View

# Invented questions, which no passage answers. With 2 to 24 of them the right passage is first as often, within two
# questions of 400, see LOG.md; each costs as much as a search by heads, once for every shard of a memory.
INVENTED = 6
FEW = 16  # passages, of which all count for their spread
SAMPLED = 4096  # passages that stand for a large memory where only some are scored, see LOG.md


@dataclass(frozen=True)
class _Sample:
    """Passages at equal distances that stand for all of a memory.

    Attributes:
        numbers: which, ascending, (M,).
        block: their keys.
        limits: the largest scales that count, those of the whole memory, (G,).
        invented: their `log_masses` for each of the invented questions, (S * H, M).
    """

    numbers: NDArray[np.int64]
    block: Block
    limits: Floats
    invented: list[Floats]


class HeadRanker:
    """Scores by `head_scores`, as standard scores of their roots, less what a passage draws from any question.

    Attention is less evenly distributed than words or meaning: its root is taken. Some passages draw attention whatever the
    question, a table of contents for example; the mean of their scores for invented questions is subtracted.
    """

    def __init__(self, encoders: Encoders) -> None:
        self._keys = encoders.keys
        self._invented: list[HeadQuery] = []
        self._habit = PerSnapshot(self._mean_of_invented)
        self._largest = PerShard(lambda shard: shard.scales.max(axis=0))
        self._uncut = PerShard(
            lambda shard: self._invented_masses(block_of(shard), np.full(shard.scales.shape[1], np.inf, np.float32))
        )
        self._sample = PerSnapshot(self._sample_of)

    def scores(self, view: View, question: str) -> Scores:
        """The standard score of each passage, (P,). Raises UsageError if the question is empty."""
        scores = head_scores(self._keys.question(question), view.blocks())
        return standard(np.sqrt(scores)) - self._habit(view.snapshot)

    def scores_of(self, view: View, question: str, numbers: NDArray[np.int64]) -> tuple[Scores, float]:
        """What `scores` gives to the passages `numbers`, ascending, (N,), and its mean over all; both are estimates.

        `SAMPLED` passages stand for all others: for the attention that they draw from a question, and for its spread.
        """
        sample, snapshot = self._sample(view.snapshot), view.snapshot
        block = gathered(snapshot.blocks(), numbers)
        # Of the sample, what is scored itself stands for nothing else: one passage that draws much would count many times.
        is_other = ~np.isin(sample.numbers, numbers)
        others = int(np.count_nonzero(is_other))
        counts = np.ones(len(numbers) + others, np.float32)
        counts[len(numbers) :] = (len(view) - len(numbers)) / max(1, others)

        def standing(query: HeadQuery, sampled: Floats) -> Scores:
            masses = np.concatenate([log_masses(query, block, sample.limits), sampled[:, is_other]], axis=1)
            return standard(np.sqrt(scores_of_masses(masses, counts)), counts)

        query = self._keys.question(question)
        drawn = standing(query, log_masses(query, sample.block, sample.limits))
        habits = [standing(query, known) for query, known in zip(self._invented, sample.invented, strict=True)]
        scores = drawn - np.mean(habits, axis=0, dtype=np.float32)
        return scores[: len(numbers)], float(np.average(scores, weights=counts))

    def _sample_of(self, snapshot: Snapshot) -> _Sample:
        self._make_invented()
        numbers = np.unique(np.linspace(0, snapshot.passages - 1, SAMPLED).astype(np.int64))
        block, limits = gathered(snapshot.blocks(), numbers), longest_scales(list(snapshot.blocks()))
        return _Sample(numbers, block, limits, self._invented_masses(block, limits))

    def _mean_of_invented(self, snapshot: Snapshot) -> Scores:
        """What each passage draws from questions that it does not answer, (P,)."""
        self._make_invented()
        limits = longest_scales(list(snapshot.blocks()))
        masses = [self._masses(shard, limits) for shard in snapshot.shards if len(shard.passages) > 0]
        if not masses:
            return np.zeros(0, np.float32)
        drawn = [
            standard(np.sqrt(scores_of_masses(np.concatenate(of_question, axis=1))))
            for of_question in zip(*masses, strict=True)
        ]
        mean: Scores = np.mean(drawn, axis=0, dtype=np.float32)
        return mean

    def _masses(self, shard: Shard, limits: Floats) -> list[Floats]:
        """The `log_masses` of a shard for each of the invented questions, (S * H, P).

        The limits depend on the other shards. Where they cut no key, which is usual, the masses are computed once.
        """
        if (self._largest(shard) <= limits).all():
            return self._uncut(shard)
        return self._invented_masses(block_of(shard), limits)

    def _invented_masses(self, block: Block, limits: Floats) -> list[Floats]:
        return [log_masses(query, block, limits) for query in self._invented]

    def _make_invented(self) -> None:
        if not self._invented:
            self._invented = invented_questions(self._keys)


def invented_questions(keys: KeyEncoder) -> list[HeadQuery]:
    """`INVENTED` questions about facts that no memory holds, as the retrieval heads see them."""
    _, needles = haystack(4 * INVENTED, INVENTED, seed=5)
    return [keys.question(needle.question) for needle in needles]


def standard(scores: Scores, counts: Floats | None = None) -> Scores:
    """The scores in standard deviations from their mean, both of all passages but the few that stand out most.

    Otherwise a single passage that draws all attention would make the others look alike.

    Args:
        counts: how many passages each score stands for, (P,); one each by default.
    """
    if counts is not None:
        order = np.argsort(scores)
        passages = round(float(counts.sum(dtype=np.float64)))
        kept = order[np.cumsum(counts[order], dtype=np.float64) <= passages - _outstanding(passages) + 0.5]
        mean = np.average(scores[kept], weights=counts[kept])
        spread = np.sqrt(np.average((scores[kept] - mean) ** 2, weights=counts[kept]))
        return ((scores - mean) / spread).astype(np.float32) if spread > 0 else np.zeros_like(scores)
    ordinary = np.sort(scores)[: len(scores) - _outstanding(len(scores))]
    spread = ordinary.std() if len(ordinary) > 0 else 0
    out: Scores = (scores - ordinary.mean()) / spread if spread > 0 else np.zeros_like(scores)
    return out


def _outstanding(passages: int) -> int:
    """How many of so many passages do not count for their spread."""
    return passages // 100 if passages >= 200 else int(passages >= FEW)
