"""Tasks on records: some are trained on, others held out, and a tokenizer turns their texts into ids."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from torch import nn

from memspan.data.corpora import Record
from memspan.data.tokenizer import Tokenizer
from memspan.errors import MemspanError, UsageError
from memspan.models.folders import CHECKSUMS, beside_weights, find, read_json, verify
from memspan.pretrained import hub
from memspan.tasks.base import Task
from memspan.tasks.data_source import DataSource


class Example(NamedTuple):
    """The input, the target that the model should write, and a question behind the input, if any."""

    source: str
    target: str
    question: str = ""


class Prediction(NamedTuple):
    """What a model predicts for a text, and the probability that it gives to it, if it gives one."""

    text: str
    probability: float | None = None


Intervals = Mapping[str, tuple[float, float]]


class Measured(NamedTuple):
    """What a model does on records.

    Attributes:
        records: how many answers were measured.
        metrics: by name.
        intervals: the 95 % intervals of those that have one.
        confused: a right label, the predicted one and how often, most frequent first, where answers are single labels.
    """

    records: int
    metrics: Mapping[str, float]
    intervals: Intervals
    confused: Sequence[tuple[str, str, int]] = ()


class RecordTask(Task):
    """A task on records with a tokenizer, whose trained models predict on new texts.

    Args:
        source: where the records come from.
        segment: tokens of a segment.
        vocabulary: size of the byte-pair encoding that is learned from the records.
        tokenizer: name of a pretrained model whose tokenizer is used instead.
        saved: folder that `save` wrote: tokenizer and labels or items come from there.

    Attributes:
        columns: that every record must have.
        records: those trained on.
        held_out_records: those measured on.
        left_out: sentences that count and name the records that are not used.
        extra_ids: ids behind those of the tokenizer, e.g. one for each label.

    Raises:
        UsageError: a value out of range, data that cannot be read, or too few usable records.
        DamagedFolder: a file of `saved` is not as it was written.
    """

    columns: ClassVar[tuple[str, ...]]
    metric: str
    extra_ids: int = 0

    def __init__(
        self, source: DataSource, segment: int, vocabulary: int, tokenizer: str | None, saved: str | None
    ) -> None:
        if segment < 1:
            raise UsageError(f"segment must be at least 1, got segment={segment}.")
        self.segment = segment
        if saved is not None:
            folder = find(Path(saved)) or Path(saved)
            saved = str(folder)
            if (folder / CHECKSUMS).is_file():  # of a model; what a task alone has saved has none
                verify(folder, beside_weights)
            self.tokenizer = Tokenizer.open(saved)
        self.left_out: list[str] = []
        self.records: list[Record] = []
        self.held_out_records: list[Record] = []
        if source.data is not None:
            self._read(source)
        if saved is None:
            self.tokenizer = (
                Tokenizer.learn(self.texts(self.records), vocabulary)
                if tokenizer is None
                else Tokenizer.of_pretrained(hub.tokenizer_of(tokenizer))
            )
        self.prepare(saved)
        self.vocabulary = self.tokenizer.size + self.extra_ids
        self.padding = self.tokenizer.pad if self.tokenizer.pad != self.tokenizer.end else None

    def _read(self, source: DataSource) -> None:
        train, rest = self.split(source)
        self.records, self.held_out_records = self.usable(train), self.usable(rest)
        if len(self.records) + len(self.held_out_records) < len(train) + len(rest):
            self.left_out = self.problems(source)
        if not self.records or not self.held_out_records:
            raise UsageError(
                f"The data hold too few records that can be used: {len(self.records)} of {len(train)} to train on, and "
                f"{len(self.held_out_records)} of {len(rest)} held out. Those whose {' or '.join(self.columns)} is empty "
                "are left out."
            )

    # ---- what a task defines

    @staticmethod
    @abstractmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Generated records, the same at every call, so that every command runs without data."""

    @abstractmethod
    def split(self, source: DataSource) -> tuple[Sequence[Record], Sequence[Record]]:
        """The records of `source` to train on, and the held-out ones."""

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """The records that make examples; all by default."""
        return list(records)

    def problems(self, source: DataSource) -> list[str]:
        """A sentence for each part of the data that counts the records that are not usable and names some; none by default."""
        return []

    @abstractmethod
    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        """The texts that the vocabulary is learned from."""

    def prepare(self, saved: str | None) -> None:
        """Learns from the records, or reads from the folder `saved`, what else the task needs; sets `extra_ids`."""

    @abstractmethod
    def example(self, record: Record) -> Example:
        """Input and target of a record."""

    @abstractmethod
    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, batch_size: int = 32) -> list[str]:
        """The model's prediction for each example, whose target it does not see."""

    @abstractmethod
    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        """The metrics of these predictions for these records."""

    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        """The 95 % intervals of the metrics of these predictions; of none by default."""
        return {}

    # ---- what follows from it

    def measured(self, model: nn.Module, segments: int) -> Measured:
        """What the model does on all held-out records, read as for a prediction."""
        records = self.held_out_records
        predictions = self.generate(model, [self.example(record) for record in records], segments)
        found, intervals = self.compute_metrics(records, predictions), self.intervals(records, predictions)
        return Measured(len(records), found, intervals, self.confused(records, predictions))

    def confused(self, records: Sequence[Record], predictions: Sequence[str]) -> list[tuple[str, str, int]]:
        """A right label, the predicted one and how often, most frequent first; none where answers are no single labels."""
        return []

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, batch_size: int = 32) -> dict[str, float]:
        """The metrics of the model's predictions for `limit` held-out records, see `some_held_out`."""
        records = self.some_held_out(limit)
        was_training = model.training
        model.eval()
        try:
            predictions = self.generate(model, [self.example(record) for record in records], segments, batch_size)
        finally:
            model.train(was_training)
        return self.compute_metrics(records, predictions)

    def predict(self, model: nn.Module, texts: Sequence[str], segments: int, question: str = "") -> list[str]:
        """The model's predictions for new texts, each followed by the question, if the task has one."""
        return self.generate(model, [Example(text, "", question) for text in texts], segments)

    def predictions(
        self, model: nn.Module, texts: Sequence[str], segments: int, question: str = ""
    ) -> list[Prediction]:
        """As `predict`, with probabilities where the task has them."""
        return [Prediction(text) for text in self.predict(model, texts, segments, question)]

    def some_held_out(self, limit: int | None) -> list[Record]:
        """The held-out records that are measured on where there are more than `limit`: by default the first ones."""
        return self.held_out_records[:limit]

    def held_out(self) -> Self:
        return self.copy_with(records=self.held_out_records)

    def with_records(self, records: Sequence[Record] | None = None, held_out: Sequence[Record] | None = None) -> Self:
        """The task with other records to train on, other held-out records, or both; what it learned stays."""
        return self.copy_with(
            records=self.records if records is None else list(records),
            held_out_records=self.held_out_records if held_out is None else list(held_out),
        )

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)


def save_json(folder: Path, name: str, content: Any, noun: str) -> None:
    """Writes what a task learned, the `noun`, into the file `name`. Raises MemspanError where the file cannot be written."""
    try:
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    except OSError as error:
        raise MemspanError(f"The {noun} cannot be written to {folder}: {error.strerror}.") from error


def load_json(folder: str, name: str, noun: str) -> Any:
    """What `save_json` wrote. Raises UsageError where the file is missing or damaged."""
    path = Path(folder) / name
    try:
        return read_json(path)
    except OSError as error:
        raise UsageError(f"{path}, which holds the {noun}, cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise damaged(path, noun) from error


def damaged(path: Path, noun: str) -> UsageError:
    """The error for a file of learned content that is not what `save_json` wrote."""
    return UsageError(f"{path}, which holds the {noun}, is damaged: copy it anew, or train the model again.")
