"""The interface of rankers, and the encoders that they read questions with."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.passage_vectors import VectorEncoder
from memspan.memory.view import View

Scores: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Encoders:
    """What a ranker may read a question with. A ranker that needs neither ignores it.

    Attributes:
        keys: the retrieval heads of the language model; `keys.question(text)` are their queries.
        vectors: the sentence encoder; `vectors.question(text)` is the unit vector of a question, float32 (E,), or None.
    """

    keys: KeyEncoder
    vectors: VectorEncoder


@runtime_checkable
class Ranker(Protocol):
    """Scores the passages of a memory for a question: a class of one method, made once for a model from its `Encoders`.

    See `ranker_classes` for how a package adds its own.
    """

    def scores(self, view: View, question: str) -> Scores | None:
        """The score of each passage of `view`, float32 (P,), finite, higher is better; None if it has nothing to say.

        Scores are raw: of any scale and distribution, which fusion makes comparable. `view` holds at least one passage;
        `len(view)` is their number, and `view.passage(number)` has the text and the provenance of one.
        """


@runtime_checkable
class PartRanker(Ranker, Protocol):
    """A ranker that can score some passages of a memory without all others, see `memspan.memory.index.candidates`."""

    def scores_of(self, view: View, question: str, numbers: NDArray[np.int64]) -> tuple[Scores, float]:
        """What `scores` gives to the passages `numbers`, ascending, float32 (N,), and its mean over all passages."""
