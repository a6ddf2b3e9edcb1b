"""Tasks whose answer is no text but one of few things that are known beforehand: a label, several, a number."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from memspan.data.corpora import Record
from memspan.pretrained.features import AUTO
from memspan.tasks.data_source import drawn
from memspan.tasks.default_runs import OF_A_MEMORY, OF_SCRATCH, DefaultRun
from memspan.tasks.records import Example, Intervals, Prediction
from memspan.tasks.text.base import LEARN_FROM, TextTask

# A classifier over features reads up to 256 segments of 128 tokens.
ON_FEATURES = DefaultRun(
    {"features": [AUTO], "segments": 256, "precision": "auto"}, {"segment": 128}, unless=OF_SCRATCH | {"lora"}
)
# Where features are named, a mechanism may read those of segments.
ON_NAMED_FEATURES = ON_FEATURES._replace(needs=frozenset({"features"}), unless=ON_FEATURES.unless - OF_A_MEMORY)


class Labelled(TextTask):
    """Columns: text, label. What is predicted stands in the logits of the ids behind those of the tokenizer, `classes` of them.

    Attributes:
        balance: whether rare labels weigh as much as frequent ones in a classifier over features; None for what does better.
    """

    columns = ("text", "label")
    packages, baseline_packages = ("sklearn",), ("sklearn",)
    default_runs: ClassVar[Sequence[DefaultRun]] = (ON_FEATURES, ON_NAMED_FEATURES)
    whole_segments = True
    balance: bool | None = None

    # ---- what such a task defines

    @abstractmethod
    def target_values(self, records: Sequence[Record]) -> Any:
        """What a classifier over features learns, in its form."""

    @abstractmethod
    def decoded(self, scores: Tensor) -> list[Prediction]:
        """The prediction by each row of logits (N, classes)."""

    @abstractmethod
    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        """The 95 % intervals of the metrics of these predictions."""

    @abstractmethod
    def baseline_predictions(self, records: Sequence[Record]) -> dict[str, list[str]]:
        """The prediction for each record by methods without a neural network, trained on the training records."""

    @abstractmethod
    def mistakes(self, records: Sequence[Record], predictions: Sequence[Prediction]) -> list[tuple[Record, Prediction]]:
        """The records with a wrong prediction, the worst first."""

    @abstractmethod
    def loss(self, scores: Tensor, targets: Any) -> float:
        """What training lowers, by logits (N, classes) and targets."""

    def class_names(self) -> Sequence[str]:
        """What the classes stand for."""
        return ("number",)

    # ---- what follows from it

    def labelled_texts(self, records: Sequence[Record]) -> tuple[list[str], Any]:
        """The texts of records, and their targets."""
        return [str(record["text"]) for record in records], self.target_values(records)

    def example(self, record: Record) -> Example:
        return Example(str(record["text"]), str(record["label"]))

    def answers(self, model: nn.Module, ids: Tensor) -> list[str]:
        """The prediction for each prompt (B, T)."""
        return [prediction.text for prediction in self._judged(model, ids)]

    def predictions(
        self, model: nn.Module, texts: Sequence[str], segments: int, question: str = ""
    ) -> list[Prediction]:
        """The prediction for each text and its probability, as `decoded` has it."""
        return self.in_batches(model, [Example(text, "", question) for text in texts], segments, self._judged)

    def outputs(self, model: nn.Module, texts: Sequence[str], segments: int) -> Tensor:
        """What a model gives for each text, (N, classes) float32: the probability of each label, or the number."""
        rows = self.in_batches(
            model,
            [Example(text, "") for text in texts],
            segments,
            lambda model, ids: list(self._logits(model, ids).cpu()),
        )
        return self.compared(torch.stack(rows)) if rows else torch.zeros(0, self.classes)

    def compared(self, scores: Tensor) -> Tensor:
        """Logits (N, classes) as what is compared between texts; by default the logits themselves."""
        return scores

    def _logits(self, model: nn.Module, ids: Tensor) -> Tensor:
        logits, _ = model(ids, None, 1)
        scores: Tensor = logits[:, -1, self.tokenizer.size :].float()
        return scores

    def _judged(self, model: nn.Module, ids: Tensor) -> list[Prediction]:
        return self.decoded(self._logits(model, ids))

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.some_held_out(limit)
        predicted = self.baseline_predictions(rest)
        return {name: self.compute_metrics(rest, labels)[self.metric] for name, labels in predicted.items()}

    def some_held_out(self, limit: int | None) -> list[Record]:
        """Drawn at random, always the same: the first ones may all have one label."""
        return list(drawn(self.held_out_records, limit))

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        return (str(record["text"]) for record in records[:LEARN_FROM])
