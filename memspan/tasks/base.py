"""The interface of a task: streams of token ids with targets, and what is measured on them.

Letters: B batch, T tokens, V vocabulary.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.tasks.default_runs import DefaultRun

IGNORE_INDEX = -100  # the target of a token that has none; cross_entropy's own `ignore_index`


class Batch(NamedTuple):
    """Streams and the targets of the logits at each of their tokens."""

    ids: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64, IGNORE_INDEX where a token has no target
    fresh: bool = True  # the streams begin here; false where they continue those of the batch before


PLUGIN_GROUP = "memspan.tasks"  # the entry points under which other packages register theirs


class Guide(NamedTuple):
    """What the documentation shows of a task: docs/tasks.md is generated from it."""

    columns: str  # of the records
    metrics: str  # those reported besides `Task.metric`
    on_sample: str  # options of `memspan compare` that teach the generated sample to a small model within a minute
    on_files: str  # the same for a public corpus
    note: str = ""  # on the metric


class Task(ABC):
    """Streams of `segments` segments of `segment` tokens, generated from a seed.

    Attributes:
        plugin_group: where `memspan.register` puts a class of this kind.
        causal: the task can be solved from left to right.
        is_text: the streams are tokens of a language, so that a pretrained model can read them.
        learned_by: the kind of pretrained model that alone can be trained on it; None for any model.
        working_memory: the mechanism, under "name", and its settings that a pretrained causal model is given for the task
            where none is chosen; None for the default.
        fitted_by: the kind of model that is fitted on `features` of its texts; None where there is none.
        default_runs: how it is learned where nobody says how: the first that suits what a user gives.
        answer_last: the answer stands behind the input, so that an encoder-decoder can write it.
        metric: name of the metric that counts: a figure of `training.measure.Score`, or one that `score` returns.
        lower_is_better: whether a lower value of `metric` is better.
        guide: what the documentation shows of the task; None for a task that only tests models.
        packages, baseline_packages: modules of `memspan.plugins.OPTIONAL` that its metrics and its baselines import.
        classes: how many classes a text belongs to one of, the last ids of the vocabulary; 0 where answers are no classes.
        vocabulary: V; all ids in streams and targets are below it.
        segment: tokens of a segment; training cuts streams there.
        padding: id of the tokens that only fill rows up, if there is one that has no other meaning.
        bytes_per_token: mean bytes of a target token, where bits are counted per byte; otherwise 1.
    """

    plugin_group: ClassVar[str] = PLUGIN_GROUP
    causal: ClassVar[bool] = True
    is_text: ClassVar[bool] = False
    learned_by: ClassVar[str | None] = None
    working_memory: Mapping[str, Any] | None = None
    fitted_by: ClassVar[str | None] = None
    default_runs: ClassVar[Sequence[DefaultRun]] = ()
    answer_last: ClassVar[bool] = True
    metric: str = "accuracy"
    lower_is_better: ClassVar[bool] = False
    guide: ClassVar[Guide | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    baseline_packages: ClassVar[tuple[str, ...]] = ()
    vocabulary: int
    segment: int
    classes: int = 0
    padding: int | None = None
    bytes_per_token: float = 1.0

    @classmethod
    def default_run(cls, given: Collection[str]) -> DefaultRun | None:
        """The default run that suits these options and settings; None where they choose the model, or there is no default."""
        return next((run for run in cls.default_runs if run.suits(given)), None)

    @abstractmethod
    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        """`batch_size` streams of `segments` segments. The same state of `generator` makes the same batch."""

    def next_batch(
        self, position: int, batch_size: int, segments: int, generator: torch.Generator
    ) -> tuple[Batch, int]:
        """The batch at `position` of the streams, 0 at their beginning, and the position of the next batch.

        Where streams are longer than a batch, each row continues where that of the batch before ended, and `Batch.fresh`
        is false: the reader carries its state along. By default every batch is independent.
        """
        return self.batch(batch_size, segments, generator), 0

    def held_out(self) -> "Task":
        """The task on held-out text, to measure on. By default the task itself: its streams never repeat."""
        return self

    def augmented(self, change: Callable[..., str]) -> Self:
        """The task whose training texts are changed by `change`, an `Augment`. Raises UsageError for a task without texts."""
        raise UsageError("`augment` changes texts, and this task has none: choose a task on texts, or leave it out.")

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, batch_size: int = 32) -> dict[str, float]:
        """The task's own metrics on at most `limit` held-out records; none by default."""
        return {}

    def extract_of(self) -> tuple[str, int]:
        """The kind of extract that answers this task, and its usual length in words. Raises UsageError for a task without.

        Kinds are those of `memspan.assistant.extracts`.
        """
        raise UsageError("`extract` answers with words of a text: it is for question_answering and summarisation.")

    def calibrate(self, model: nn.Module) -> None:  # noqa: B027 - most models keep nothing of how they do
        """Sets what a model keeps of how it does on held-out records, before it is saved."""

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        """The metric that counts, reached without a neural network on the same records; none by default."""
        return {}

    def save(self, folder: Path) -> None:  # noqa: B027 - most tasks learn nothing
        """Writes beside a model what its task learned from the data, so that the model can be used without them."""

    def copy_with(self, **changes: Any) -> Self:
        """A shallow copy whose attributes named in `changes` are replaced."""
        twin = copy.copy(self)
        vars(twin).update(changes)
        return twin


def draw_distinct(options: int, count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """For each row `count` different numbers below `options`, in random order: (B, count) int64."""
    return torch.rand(batch_size, options, generator=generator).argsort(1)[:, :count]
