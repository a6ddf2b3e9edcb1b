"""The ranker by attention: the model's retrieval heads point from the question at passages."""

import numpy as np

from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.head_scores import HeadQuery, head_scores
from memspan.memory.index.probe_corpus import haystack
from memspan.memory.index.rankers.base import Encoders, Scores
from memspan.memory.store.per_snapshot import PerSnapshot
from memspan.memory.store.snapshot import Snapshot
from memspan.memory.view import View

# Invented questions, which no passage answers. With 2 to 24 of them the right passage is first as often, within two
# questions of 400, see LOG.md; each costs as much as a search by heads, once for every change of a memory.
INVENTED = 6
FEW = 16  # passages, of which all count for their spread


class HeadRanker:
    """Scores by `head_scores`, as standard scores of their roots, less what a passage draws from any question.

    Attention is less evenly distributed than words or meaning: its root is taken. Some passages draw attention whatever the
    question, a table of contents for example; the mean of their scores for invented questions is subtracted.
    """

    def __init__(self, encoders: Encoders) -> None:
        self._keys = encoders.keys
        self._invented: list[HeadQuery] = []
        self._habit = PerSnapshot(self._mean_of_invented)

    def scores(self, view: View, question: str) -> Scores:
        """The standard score of each passage, (P,). Raises UsageError if the question is empty."""
        scores = head_scores(self._keys.question(question), view.blocks())
        return standard(np.sqrt(scores)) - self._habit(view.snapshot)

    def _mean_of_invented(self, snapshot: Snapshot) -> Scores:
        """What each passage draws from questions that it does not answer, (P,)."""
        if not self._invented:
            self._invented = invented_questions(self._keys)
        drawn = [standard(np.sqrt(head_scores(question, snapshot.blocks()))) for question in self._invented]
        mean: Scores = np.mean(drawn, axis=0, dtype=np.float32)
        return mean


def invented_questions(keys: KeyEncoder) -> list[HeadQuery]:
    """`INVENTED` questions about facts that no memory holds, as the retrieval heads see them."""
    _, needles = haystack(4 * INVENTED, INVENTED, seed=5)
    return [keys.question(needle.question) for needle in needles]


def standard(scores: Scores) -> Scores:
    """The scores in standard deviations from their mean, both of all passages but the few that stand out most.

    Otherwise a single passage that draws all attention would make the others look alike.
    """
    outstanding = len(scores) // 100 if len(scores) >= 200 else int(len(scores) >= FEW)
    ordinary = np.sort(scores)[: len(scores) - outstanding]
    spread = ordinary.std() if len(ordinary) > 0 else 0
    out: Scores = (scores - ordinary.mean()) / spread if spread > 0 else np.zeros_like(scores)
    return out
