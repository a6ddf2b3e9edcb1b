"""The interface of an extract: words of a text, word for word, that stand for an answer or a summary.

What an extract is made of is in one file for each kind. All are linear models over features of the candidates, fitted by
examples with right answers or summaries; none writes a word of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from memspan.assistant.language_model import LanguageModel
from memspan.memory import Memory


class Source:
    """A text and the language model that reads it.

    Attributes:
        lm: the language model.
        text: the whole text.
    """

    def __init__(self, lm: LanguageModel, text: str) -> None:
        self.lm, self.text = lm, text

    @cached_property
    def memory(self) -> Memory:
        """The text in a memory of its own; it is read when it is needed first."""
        return self.lm.read(self.text)


@dataclass(frozen=True)
class Case:
    """A text, and what is to be extracted from it.

    Attributes:
        source: the text.
        question: that the extract answers; empty for a summary of everything.
        targets: right answers or summaries; empty where they are not known.
    """

    source: Source
    question: str = ""
    targets: tuple[str, ...] = ()


class Extract(ABC):
    """Chooses words of a text.

    Args:
        length: words that the extract should have, on average; characters of scripts without spaces count as words.

    Attributes:
        kind: the name in the registry.
        is_ready: it comes with weights of its own, and need not be fitted.
        reads: it reads the text into a memory.
    """

    kind: ClassVar[str]
    is_ready: ClassVar[bool] = False
    reads: ClassVar[bool] = False

    def __init__(self, length: int) -> None:
        self.length = length

    @abstractmethod
    def fit(self, cases: Sequence[Case]) -> None:
        """Learns the weights of the features from cases with targets."""

    @abstractmethod
    def extract(self, cases: Sequence[Case]) -> list[str]:
        """The words of the text of each case; empty if it holds none that can be chosen."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The weights, by name."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes up what `tensors` returned. Raises KeyError or ValueError for anything else."""
