"""A task makes token streams and says what is asked of which token.

Letters: B batch, T tokens, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from memspan.errors import UsageError

IGNORE_INDEX = -100  # the target of a token of which nothing is asked; cross_entropy's own `ignore_index`


class Batch(NamedTuple):
    """Streams and what the logits at each of their tokens should say."""

    ids: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64, IGNORE_INDEX where nothing is asked
    fresh: bool = True  # nothing came before; false where the streams of the batch before go on


class Task(ABC):
    """Streams of `segments` segments of `segment` tokens, generated from a seed.

    Attributes:
        metric: the name of the figure that counts.
        vocabulary: V, ids in the streams and targets are below it.
        segment: tokens of a segment; training cuts a stream there.
        causal: it can be done from left to right.
        reads_words: its streams are words of a language, so that a pretrained model can read them.
        says_after: what is asked stands behind what is read, so that an encoder-decoder can say it.
        bytes_each: bytes that a token asked for stands for, on average, where bits are counted per byte; else 1.
    """

    causal: ClassVar[bool] = True
    is_text: ClassVar[bool] = False
    answer_last: ClassVar[bool] = True
    metric: ClassVar[str] = "accuracy"  # the one that counts: a figure of `evaluate.Score`, or of `score`
    lower_is_better: ClassVar[bool] = False
    vocabulary: int
    segment: int
    bytes_each: float = 1.0

    @abstractmethod
    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        """`rows` streams of `segments` segments. The same state of `generator` makes the same batch."""

    def next_batch(self, place: int, rows: int, segments: int, generator: torch.Generator) -> tuple[Batch, int]:
        """The batch at `place`, 0 being the beginning, and the place of the one after it.

        A task whose streams do not end with a batch goes on in each row where the batch before ended, and says so by
        `Batch.fresh`; whoever reads them carries the state along. By default every batch is on its own.
        """
        return self.batch(rows, segments, generator), 0

    def held_out(self) -> "Task":
        """The task on text that no other batch shows, to measure on. By default the task: its streams never repeat."""
        return self

    def augmented(self, change: Callable[..., str]) -> Self:
        """The task on texts changed by `change`, an `Augment`, wherever it is trained on. Raises UsageError for one
        without texts."""
        raise UsageError("`augment` changes texts, and this task reads none.")

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, rows: int = 32) -> dict[str, float]:
        """Metrics of the task's own on the first `limit` records held out; none by default."""
        return {}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        """The metric that counts, by ways that need no neural network, on the same records; none by default."""
        return {}

    def save(self, folder: Path) -> None:  # noqa: B027 - most tasks learn nothing
        """Writes beside a model what its task learned from the data, for those who have the model alone."""


def choose(options: int, count: int, rows: int, generator: torch.Generator) -> Tensor:
    """For each row `count` different numbers below `options`, in random order: (rows, count) int64."""
    return torch.rand(rows, options, generator=generator).argsort(1)[:, :count]
