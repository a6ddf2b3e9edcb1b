"""Regression: a number for a text, e.g. the stars of a review."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memspan.data.columns import text_and_number
from memspan.data.corpora import Record
from memspan.data.rows import is_empty
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.tasks import metrics
from memspan.tasks.data_source import DataSource
from memspan.tasks.records import Intervals, Prediction
from memspan.tasks.samples import word_lists
from memspan.tasks.text.labelled import Labelled


class Regression(Labelled):
    """Columns: text, label; the label is a number.

    Only a classifier over features learns it, which `memspan train --task regression` fits. The metrics are the rank
    correlation of Spearman, and the mean absolute error (MAE). The baselines are ridge regression over TF-IDF of words and
    pairs of words, and the mean of the training texts.
    """

    metric = "Spearman"
    learned_by = fitted_by = "feature_regressor"
    guess = staticmethod(text_and_number)

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """The records with a text and a number."""
        return [record for record in super().usable(records) if number_of(record) is not None]

    def problems(self, source: DataSource) -> list[str]:
        found = super().problems(source)
        parts = [part for part in source.read(self.columns, self.sample, self.guess) if part is not None]
        for part in parts:
            rows = [
                number
                for number, record in enumerate(part, part.first)
                if not is_empty(record["label"]) and number_of(record) is None
            ]
            if rows:
                found.append(
                    f"{len(rows):,} rows of {part.name} are not used: they have a label that is no number, the first is row {rows[0]}."
                )
        return found

    def prepare(self, saved: str | None) -> None:
        self.extra_ids = self.classes = 1

    def target_values(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """The numbers of the records, (N,)."""
        return np.array([number_of(record) for record in records], np.float64)

    def answer_ids(self, example: Any) -> list[int]:
        raise UsageError("A number is no target of a stream: a classifier over features learns it.")

    def decoded(self, scores: Tensor) -> list[Prediction]:
        return [Prediction(f"{number:.4g}") for number in scores[:, 0].tolist()]

    def loss(self, scores: Tensor, targets: NDArray[np.float64]) -> float:
        return float(np.square(scores[:, 0].numpy() - targets).mean())

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        return _metrics(self.target_values(records), np.array(predictions, np.float64))

    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        gold, predicted = self.target_values(records), np.array(predictions, np.float64)
        draw = np.random.default_rng(0)
        drawn = [draw.integers(0, len(gold), len(gold)) for _ in range(500)]
        found = [_metrics(gold[rows], predicted[rows]) for rows in drawn]
        return {name: metrics.percentiles([values[name] for values in found]) for name in found[0]}

    def baseline_predictions(self, records: Sequence[Record]) -> dict[str, list[str]]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        texts, rest = ([str(record["text"]) for record in part] for part in (self.records, records))
        terms = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
        targets = self.target_values(self.records)
        predicted = make_pipeline(terms, Ridge()).fit(texts, targets).predict(rest)
        return {
            "TF-IDF + linear": [f"{number:.6g}" for number in predicted],
            "mean": [f"{targets.mean():.6g}"] * len(rest),
        }

    def mistakes(self, records: Sequence[Record], predictions: Sequence[Prediction]) -> list[tuple[Record, Prediction]]:
        """The largest errors first."""
        pairs = zip(records, predictions, strict=True)
        return sorted(pairs, key=lambda pair: -abs(float(pair[1].text) - (number_of(pair[0]) or 0.0)))

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Letters to a hotel; the number counts their wishes."""
        draw, lists = random.Random(0), word_lists("classification")
        wishes = [wish for options in lists["wishes"].values() for wish in options]
        records = []
        for _ in range(count):
            held = draw.sample(wishes, draw.randint(1, 4))
            records.append(
                {"text": " ".join(wish.format(draw.choice(lists["days"])) for wish in held), "label": len(held)}
            )
        return records


def number_of(record: Record) -> float | None:
    """The number of a record; None where its label is none."""
    try:
        number = float(record["label"])
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _metrics(gold: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks = rankdata(gold), rankdata(predicted)
    varies = np.ptp(gold) > 0 and np.ptp(predicted) > 0
    return {
        "Spearman": float(np.corrcoef(*ranks)[0, 1]) if varies else 0.0,
        "MAE": float(np.abs(gold - predicted).mean()),
    }
