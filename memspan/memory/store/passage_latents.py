"""The latents of passages: what a trained memory of the language model keeps of each, one vector for several tokens.

Letters: P passages, C latents, Z numbers of a latent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Latents: TypeAlias = NDArray[np.int8]
Counts: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class PassageLatents:
    """The latents of consecutive passages, one passage after another.

    Attributes:
        counts: int32 (P,), how many latents each passage has; 0 where it has none.
        latents: int8 (C, Z).
    """

    counts: Counts
    latents: Latents

    @cached_property
    def _edges(self) -> NDArray[np.int64]:
        """The first latent of each passage, followed by the number of all latents."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])

    @property
    def size(self) -> int:
        """Z."""
        return int(self.latents.shape[1])

    @property
    def nbytes(self) -> int:
        """The bytes of both arrays."""
        return self.counts.nbytes + self.latents.nbytes

    def at(self, row: int) -> Latents:
        """The latents of one passage, int8 (n, Z)."""
        return self.latents[self._edges[row] : self._edges[row + 1]]

    def part(self, first: int, end: int) -> "PassageLatents | None":
        """Those of passages `first` to `end`; None if none of them has any."""
        part = PassageLatents(self.counts[first:end], self.latents[self._edges[first] : self._edges[end]])
        return part if len(part.latents) > 0 else None

    @staticmethod
    def columns(parts: Iterable[tuple["PassageLatents | None", int]]) -> dict[str, list[NDArray[Any]]]:
        """The arrays `chunks` and `latents` of several shards, one after another, given the latents and the number of passages
        of each; nothing if no passage has any."""
        parts = list(parts)
        if all(part is None for part, _ in parts):
            return {}
        return {
            "chunks": [np.zeros(count, np.int32) if part is None else part.counts for part, count in parts],
            "latents": [part.latents for part, _ in parts if part is not None],
        }

    def check(self, passages: int) -> None:
        """Raises ValueError unless these are the latents of so many passages."""
        counts, latents = self.counts, self.latents
        if counts.shape != (passages,) or latents.ndim != 2 or latents.shape[1] == 0:
            raise ValueError("the latents of its passages have the wrong shape")
        if (counts < 0).any() or int(counts.sum(dtype=np.int64)) != len(latents):
            raise ValueError("the latents of its passages do not belong to them")

    def are_of(self, tokens: Sequence[int] | NDArray[np.int64], rate: int) -> bool:
        """Whether each passage, given its tokens, has a latent for every `rate` of them, or none at all."""
        whole = -(-np.asarray(tokens) // rate)
        return bool(((self.counts == 0) | (self.counts == whole)).all())
