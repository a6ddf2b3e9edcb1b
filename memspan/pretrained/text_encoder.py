"""The interface of sentence encoders, whether a model of their own or made of the language model that reads.

Letters: N texts, S tokens of a text, E numbers of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from memspan.data.plain_text import Span
from memspan.pretrained.heads import HeadReader


@dataclass(frozen=True)
class ReadText:
    """A text as a sentence encoder reads it.

    Attributes:
        vector: of the text, float32 (E,), of length one; zeros if the encoder cannot tell anything about it.
        states: the last hidden state of each of its tokens, float32 (S, E), of length one; none, (0, E), where the encoder
            cannot tell anything about the text, or about single tokens.
        spans: the first and the end character of each of these tokens.
    """

    vector: NDArray[np.float32]
    states: NDArray[np.float32]
    spans: list[Span]


class TextEncoder(Protocol):
    """Turns a text into one vector, so that texts of similar meaning get similar vectors."""

    @property
    def name(self) -> str:
        """By which it was loaded."""

    @property
    def identity(self) -> str:
        """A hash of the files that it was loaded from."""

    @property
    def size(self) -> int:
        """E, the numbers of a vector."""

    @property
    def scale(self) -> float | None:
        """By what a cosine is multiplied so that the softmax over passages is the probability of each to hold the answer.

        It is measured on held-out pairs, by temperature scaling (Guo et al. 2017); None if it is not known.
        """

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of passages, float32 (N, E), of length one; zeros for a text that it cannot tell anything about."""

    def question(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a question, float32 (E,), of length one; None if it cannot tell anything about it."""

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        """The vectors of passages, as `passages` gives them, and the states of their tokens."""

    def knows(self, word: str) -> bool:
        """Whether a word can have a meaning of its own for it, or is a string of letters, as the name of a stranger is."""


@dataclass(frozen=True)
class ReadingModel:
    """The language model beside which a sentence encoder is used.

    Attributes:
        hashes: those by which the model is known: of its files, and of a sample of its weights.
        name: shown to users.
    """

    reader: HeadReader
    tokenizer: Any
    hashes: frozenset[str]
    name: str


@runtime_checkable
class EncoderSource(Protocol):
    """What a name of an encoder stands for: an encoder once it is known which language model reads."""

    def beside(self, model: ReadingModel) -> TextEncoder:
        """The encoder for use beside `model`. Raises UsageError, with the way out, if the two do not go together."""
