"""The ranker by meaning: the cosine of the vectors that a sentence encoder gives the question and each passage."""

import warnings

import numpy as np

from memspan.memory.index.passage_vectors import MissingEncoder
from memspan.memory.index.rankers.base import Encoders, Scores
from memspan.memory.store.snapshot import Block
from memspan.memory.view import View

ROWS_AT_ONCE = 16_384  # passages whose vectors are float32 at the same time


class MeaningRanker:
    """Scores by exact search over all vectors, a block at a time; those of a memory on disk are mapped.

    It abstains for a memory without vectors, or with those of another encoder, for an encoder that deserves no trust, and
    for a question of which the encoder does not know too many words.
    """

    def __init__(self, encoders: Encoders) -> None:
        self._vectors = encoders.vectors

    def scores(self, view: View, question: str) -> Scores | None:
        """The cosine of each passage times the encoder's `VectorEncoder.trust`, (P,).

        A passage without a vector has the mean of the others, which says nothing.
        """
        blocks = list(view.blocks())
        if all(block.vectors is None for block in blocks):
            return None
        why = self._vectors.why_not(view.fingerprint)
        if why is not None:
            warnings.warn(f"{why} The search goes on without it.", MissingEncoder, stacklevel=2)
            return None
        vector = self._vectors.question(question) if self._vectors.trust > 0 else None
        if vector is None:
            return None
        scores = np.concatenate([_cosines(block, vector) for block in blocks]) * np.float32(self._vectors.trust)
        known = np.isfinite(scores)
        if not known.any():
            return None
        return np.where(known, scores, scores[known].mean(dtype=np.float32))


def _cosines(block: Block, vector: Scores) -> Scores:
    """The cosine of `vector` (E,) and that of each passage of a block, (P,); NaN where a passage has none."""
    scores = np.full(len(block.ends), np.nan, np.float32)
    if block.vectors is None:
        return scores
    for first in range(0, len(scores), ROWS_AT_ONCE):
        rows = block.vectors[first : first + ROWS_AT_ONCE].astype(np.float32)
        lengths = np.sqrt(np.einsum("pe,pe->p", rows, rows))
        scores[first : first + ROWS_AT_ONCE] = np.divide(
            rows @ vector, lengths, out=np.full(len(rows), np.nan, np.float32), where=lengths > 0
        )
    return scores
