"""The interface of rankers, and the encoders that they read questions with."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.passage_vectors import VectorEncoder
from memspan.memory.view import View

Scores: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Encoders:
    """What a ranker may read a question with.

    Attributes:
        keys: the retrieval heads of the language model.
        vectors: the sentence encoder.
    """

    keys: KeyEncoder
    vectors: VectorEncoder


class Ranker(Protocol):
    """Scores the passages of a memory for a question. It is made once for a model, from its `Encoders`."""

    def scores(self, view: View, question: str) -> Scores | None:
        """The score of each passage of `view`, float32 (P,), finite, higher is better; None if it has nothing to say.

        Scores are raw: of any scale and distribution, which fusion makes comparable.
        """
