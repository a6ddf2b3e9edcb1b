"""Tagging: any number of labels for a text, e.g. its topics."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.data.columns import text_and_label
from memspan.data.corpora import Record
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.tasks import metrics
from memspan.tasks.data_source import GENERATED, DataSource
from memspan.tasks.records import Intervals, Prediction, damaged, load_json, save_json
from memspan.tasks.samples import word_lists
from memspan.tasks.text.labelled import Labelled

LABELS = "labels.json"
SEPARATORS = ";|,"
LIKELY = 0.5  # probability from which on a label is given


class Tagging(Labelled):
    """Columns: text, label. The labels of a text are a list, or stand in one cell with a separator between them.

    Only a classifier over features learns it, which `memspan train --task tagging` fits.

    Args:
        separator: of labels in a cell; None for the first of ; | , that occurs between labels.
        balance: whether rare labels weigh as much as texts without them; None for what has the better macro F1 in a
            cross-validation on the training texts.
        settings: of every `TextTask`.

    The baselines are linear models over TF-IDF of words and pairs of words, and the most frequent labels of a text.
    """

    metric = "macro F1"
    learned_by = fitted_by = "feature_tagger"
    guess = staticmethod(text_and_label)

    def __init__(
        self,
        source: DataSource = GENERATED,
        *,
        separator: str | None = None,
        balance: bool | None = None,
        **settings: Any,
    ) -> None:
        self.separator, self.balance = separator, balance
        super().__init__(source, **settings)

    def prepare(self, saved: str | None) -> None:
        if self.separator is None:
            cells = " ".join(str(record["label"]) for record in self.records if not isinstance(record["label"], list))
            self.separator = next((mark for mark in SEPARATORS if mark in cells), SEPARATORS[0])
        if saved is None:
            self.labels = sorted({label for record in self.records for label in self.labels_of(record)})
        else:
            self.labels = load_json(saved, LABELS, "labels")
            if not isinstance(self.labels, list) or not all(isinstance(label, str) for label in self.labels):
                raise damaged(Path(saved) / LABELS, "labels")
        if len(self.labels) < 2:
            raise UsageError(f"Records must have two labels or more, got {', '.join(self.labels) or 'none'}.")
        self.extra_ids = self.classes = len(self.labels)

    def labels_of(self, record: Record) -> list[str]:
        """The labels of a record, each once."""
        value = record["label"]
        parts = value if isinstance(value, list) else str(value).split(self.separator or SEPARATORS[0])
        return sorted({str(part).strip() for part in parts if str(part).strip()})

    def target_values(self, records: Sequence[Record]) -> NDArray[np.bool_]:
        """Whether each record has each label, (N, C)."""
        return np.array([[label in held for label in self.labels] for held in map(set, map(self.labels_of, records))])

    def answer_ids(self, example: Any) -> list[int]:
        raise UsageError("Several labels are no target of a stream: a classifier over features learns them.")

    def decoded(self, scores: Tensor) -> list[Prediction]:
        """The labels of a probability of at least a half, and the probability that these and no others are right."""
        shares = scores.exp().clamp(0, 1)
        given = shares >= LIKELY
        right = shares.where(given, 1 - shares).prod(1)
        return [
            Prediction(self._joined([self.labels[number] for number in row.nonzero().flatten().tolist()]), share)
            for row, share in zip(given, right.tolist(), strict=True)
        ]

    def _joined(self, labels: Sequence[str]) -> str:
        return f"{self.separator} ".join(labels)

    def loss(self, scores: Tensor, targets: NDArray[np.bool_]) -> float:
        shares, wanted = scores.double().exp().clamp(1e-9, 1 - 1e-9), torch.from_numpy(targets)
        return float(-torch.where(wanted, shares.log(), (1 - shares).log()).mean())

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        return {name: float(values[0]) for name, values in self._scores(records, predictions, 0).items()}

    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        return {
            name: metrics.percentiles(values[1:]) for name, values in self._scores(records, predictions, 1000).items()
        }

    def _scores(self, records: Sequence[Record], predictions: Sequence[str], draws: int) -> dict[str, NDArray[Any]]:
        """Each metric over the records, then over so many samples of them with replacement."""
        gold = [set(self.labels_of(record)) for record in records]
        predicted = [set(self.labels_of({"label": text})) for text in predictions]
        names = sorted(set().union(*gold, *predicted))
        wanted, given = (
            np.array([[name in row for name in names] for row in rows], float) for rows in (gold, predicted)
        )
        counts = np.random.default_rng(0).multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=draws)
        counts = np.concatenate([np.ones((1, len(gold))), counts])
        right, total = counts @ (wanted * given), counts @ (wanted + given)  # (draws, labels)
        f1 = np.divide(2 * right, total, out=np.zeros(total.shape), where=total > 0)
        return {
            "macro F1": f1.sum(1) / np.maximum(1, (total > 0).sum(1)),
            "micro F1": 2 * right.sum(1) / np.maximum(1, total.sum(1)),
            "all labels right": counts @ (wanted == given).all(1) / len(gold),
        }

    def baseline_predictions(self, records: Sequence[Record]) -> dict[str, list[str]]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import LinearSVC

        texts, rest = ([str(record["text"]) for record in part] for part in (self.records, records))
        terms = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
        wanted = self.target_values(self.records)
        varying = np.flatnonzero(wanted.any(0) & ~wanted.all(0))
        given = np.tile(wanted.all(0), (len(rest), 1))
        linear = OneVsRestClassifier(LinearSVC(random_state=0)).fit(terms.fit_transform(texts), wanted[:, varying])
        given[:, varying] = linear.predict(terms.transform(rest)).reshape(len(rest), -1)
        frequent = Counter(self._joined(self.labels_of(record)) for record in self.records).most_common(1)[0][0]
        return {
            "TF-IDF + linear": [self._joined([self.labels[n] for n in np.flatnonzero(row)]) for row in given],
            "most frequent labels": [frequent] * len(rest),
        }

    def class_names(self) -> Sequence[str]:
        return self.labels

    def mistakes(self, records: Sequence[Record], predictions: Sequence[Prediction]) -> list[tuple[Record, Prediction]]:
        """Of what the model is surest first."""
        wrong = [
            (record, found)
            for record, found in zip(records, predictions, strict=True)
            if self.labels_of(record) != self.labels_of({"label": found.text})
        ]
        return sorted(wrong, key=lambda pair: -(pair[1].probability or 0.0))

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_json(folder, LABELS, self.labels, "labels")

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Letters to a hotel with one wish or two, and the labels of both."""
        draw, lists = random.Random(0), word_lists("classification")
        records = []
        for _ in range(count):
            labels = draw.sample(sorted(lists["wishes"]), draw.choice((1, 2)))
            wishes = [draw.choice(lists["wishes"][label]).format(draw.choice(lists["days"])) for label in labels]
            records.append({"text": " ".join(wishes), "label": "; ".join(labels)})
        return records
