"""Candidates: the passages of a large memory whose attention is computed.

The scores by words come from an index and those by meaning from one vector a passage. Attention needs the keys of every
token: that is nearly all of a search, and it grows with the memory. What it can add to a score is limited, so the passages
that rank first by everything else hold those that rank first by all.

Letters: P passages of a memory, N candidates.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from memspan.memory.index.bm25 import without_question_words
from memspan.memory.index.conversations import conversation_scores
from memspan.memory.index.fusion import WEIGHTS, fuse, share_of
from memspan.memory.index.head_scores import best
from memspan.memory.index.rankers import PartRanker, Ranker, Scores, rank
from memspan.memory.view import View

# Measured on questions outside the benchmarks, see LOG.md.
EXHAUSTIVE = 20_000  # passages, up to which attention to all of them is computed: about 5 CPU seconds
CANDIDATES = 200


def candidate_scores(
    rankers: Mapping[str, Ranker], view: View, question: str, passing: NDArray[np.int64]
) -> Scores | None:
    """The score of each of the passages `passing`, (P,), of which only `CANDIDATES` are scored by all rankers; -inf for others.

    The candidates are the best of `passing` by the rankers that are no `PartRanker`. The passages behind them have what these
    rankers give them, but never more than a candidate: they are ranked, so that further conditions find passages to look at.

    Returns None where all passages must be scored: in a small memory, and where the ranker by meaning abstains, because
    words alone do not find the passages that attention finds.
    """
    if len(view) <= EXHAUSTIVE:
        return None
    parts = {name: ranker for name, ranker in rankers.items() if name in WEIGHTS and isinstance(ranker, PartRanker)}
    rankings = rank({name: ranker for name, ranker in rankers.items() if name not in parts}, view, question)
    if "meaning" not in rankings:
        return None
    spoken = conversation_scores(view, question)
    before = fuse(
        {name: scores[passing] for name, scores in rankings.items()},
        None if spoken is None else spoken[passing],
        view.full_word_score(without_question_words(question)),
    )
    chosen = np.sort(np.array(best(before, CANDIDATES), np.int64))
    found = before[chosen]
    for name, ranker in parts.items():
        found += share_of(name, *ranker.scores_of(view, question, passing[chosen]))
    scores = np.full(len(view), -np.inf, np.float32)
    scores[passing] = np.minimum(before, found.min(initial=np.inf))
    scores[passing[chosen]] = found
    return scores
