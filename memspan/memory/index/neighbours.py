"""Neighbours: passages that follow one another in a source, and how much of their scores they share.

In a conversation or a story a passage is understood with those around it: the reply holds the answer, the words of the
question stand before it. In a file of unrelated paragraphs a neighbour says nothing. Which of the two a source is, its
vectors tell: whether those of neighbours are more alike than those of any two of its passages.

Letters: P passages, E numbers of a vector.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspan.memory.store.per_snapshot import PerSnapshot
from memspan.memory.store.snapshot import Snapshot

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# Measured on questions outside the benchmarks, see LOG.md.
LARGEST_SHARE = 0.3  # of a neighbour's score
UNRELATED, RELATED = (
    0.075,
    0.15,
)  # likeness of neighbours: nothing is shared below, the largest share from the second on
FEWEST = 20  # passages of a source whose likeness can be measured
ROWS_AT_ONCE = 16_384  # passages whose vectors are float32 at the same time


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The passages of a memory, source after source, each source in the order of its text.

    Attributes:
        order: the numbers of the passages, int64 (P,).
        shares: for each two that follow one another in `order`, the share of its score that each gives the other, float32
            (P - 1,); 0 between sources.
    """

    order: Integers
    shares: Floats

    def spread(self, scores: Floats) -> Floats:
        """The scores of the passages, (P,), each with the shares of its neighbours' scores added."""
        ordered = scores[self.order]
        spread = ordered.copy()
        spread[1:] += self.shares * ordered[:-1]
        spread[:-1] += self.shares * ordered[1:]
        out = np.empty_like(scores)
        out[self.order] = spread
        return out

    def among(self, numbers: Integers) -> "Neighbours":
        """Those among some of the passages, which are numbered anew in this order; where one is left out, nothing is shared.

        Args:
            numbers: of the passages, int64, ascending.
        """
        position = np.full(len(self.order), -1)
        position[numbers] = np.arange(len(numbers))
        kept = np.flatnonzero(position[self.order] >= 0)
        shares = np.where(np.diff(kept) == 1, self.shares[kept[:-1]], np.float32(0))
        return Neighbours(position[self.order[kept]], shares)


def find_neighbours(snapshot: Snapshot) -> Neighbours:
    """The neighbours in a memory; where there are no vectors they share nothing."""
    sources = snapshot.source_numbers
    order = np.argsort(sources, kind="stable")
    ordered = sources[order]
    shares = np.zeros(max(0, len(order) - 1), np.float32)
    blocks = list(snapshot.blocks())
    sizes = [block.vectors.shape[1] for block in blocks if block.vectors is not None]
    if sizes:
        vectors = np.concatenate(
            [
                np.zeros((len(block.ends), sizes[0]), np.int8) if block.vectors is None else block.vectors
                for block in blocks
            ]
        )
        shares[:] = shares_by_source(likeness(vectors[order], ordered))[ordered[:-1]] * (ordered[1:] == ordered[:-1])
    return Neighbours(order, shares)


neighbours = PerSnapshot(find_neighbours)


def likeness(vectors: NDArray[np.int8], sources: Integers) -> Floats:
    """How alike neighbours are, for each source number, float32 (max + 1,); 0 for sources that are too short to tell.

    The autocorrelation of the directions in a source at a distance of one, less its standard error: 0 where neighbours are
    as alike as any two passages, 1 where they are the same.

    Args:
        vectors: directions of the passages, int8 (P, E), in the order of `sources`.
        sources: the source number of each passage, int64 (P,), ascending.
    """
    counts = np.bincount(sources)
    sums = np.zeros((len(counts), vectors.shape[1]), np.float32)
    products = np.zeros(len(sources) - 1, np.float32)
    for first in range(0, len(sources), ROWS_AT_ONCE):
        rows = vectors[first : first + ROWS_AT_ONCE + 1].astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        products[first : first + len(rows) - 1] = np.einsum("pe,pe->p", rows[:-1], rows[1:])
        of_rows, starts = np.unique(sources[first : first + ROWS_AT_ONCE], return_index=True)
        sums[of_rows] += np.add.reduceat(rows[:ROWS_AT_ONCE], starts)
    pairs = np.maximum(1, counts - 1)
    inside = sources[1:] == sources[:-1]
    mean = np.bincount(sources[1:], products * inside, len(counts)) / pairs
    square = np.bincount(sources[1:], products**2 * inside, len(counts)) / pairs
    # Of any two different passages; that of a passage and itself is 1.
    any_two = (np.einsum("se,se->s", sums, sums) - counts) / np.maximum(1, counts * (counts - 1))
    error = np.sqrt(np.maximum(0, square - mean**2) / pairs)
    alike = (mean - any_two - error) / np.maximum(1e-6, 1 - any_two)
    out: Floats = np.where(counts >= FEWEST, alike, 0).astype(np.float32)
    return out


def shares_by_source(alike: Floats) -> Floats:
    """The share of their scores that neighbours give each other in sources of this `likeness`."""
    out: Floats = LARGEST_SHARE * np.clip((alike - UNRELATED) / (RELATED - UNRELATED), 0, 1)
    return out
