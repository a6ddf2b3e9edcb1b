"""A classifier over features that gives a text any number of labels.

Letters: N texts, F features, C labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.pretrained.feature_classifier import FeatureClassifier, Report
from memspan.pretrained.linear import STRENGTHS, Direction, Floats, machine

FOLDS = 3


@dataclass(frozen=True)
class LinearLabels:
    """A linear support vector machine for each label, whose margins are calibrated by Platt's scaling (1999).

    Deviation: slope and shift are the same for all labels, since rare ones have too few texts for their own.

    Attributes:
        weights, bias: float32 (F, C) and (C,).
        classes: int64 (C,), the numbers of the labels that training texts have.
        slope, shift: of the margins; their logistic function is the probability.
    """

    weights: Floats
    bias: Floats
    classes: NDArray[np.int64]
    slope: float
    shift: float

    def log_probabilities(self, matrix: Any) -> Floats:
        """That each row (N, F) has each label, (N, C)."""
        return self.of_margins(self.margins(matrix))

    def of_margins(self, margins: Floats) -> Floats:
        logs: Floats = -np.logaddexp(0.0, -(self.slope * margins + self.shift)).astype(np.float32)
        return logs

    def margins(self, matrix: Any) -> Floats:
        margins: Floats = np.asarray(matrix @ self.weights + self.bias, np.float32)
        return margins

    def direction(self, margins: Floats) -> Direction:
        """The log-odds of the likeliest label, of a text with these margins (C,)."""
        best = int(margins.argmax())
        constant = self.slope * float(self.bias[best]) + self.shift
        return Direction(self.slope * self.weights[:, best], constant, int(self.classes[best]), None)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "weights": torch.from_numpy(np.ascontiguousarray(self.weights)),
            "bias": torch.from_numpy(self.bias),
            "classes": torch.from_numpy(self.classes),
            "scale": torch.tensor([self.slope, self.shift], dtype=torch.float64),
        }

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], classes: int) -> Self:
        """Raises KeyError or ValueError for tensors that `tensors` did not make, or of more labels."""
        weights, bias, numbers = (tensors[name].numpy() for name in ("weights", "bias", "classes"))
        slope, shift = tensors["scale"].tolist()
        fits = weights.ndim == 2 and bias.shape == numbers.shape == weights.shape[1:]
        if not fits or numbers.dtype != np.int64 or not ((numbers >= 0) & (numbers < classes)).all():
            raise ValueError("weights, bias and classes must belong together")
        return cls(weights.astype(np.float32), bias.astype(np.float32), numbers, slope, shift)


class FeatureTagger(FeatureClassifier):
    """`(ids, state, logits_to_keep) -> (logits, state)`; the logits are the log-probabilities that the text has each label."""

    kind = "feature_tagger"
    linear_class = LinearLabels

    def fit_targets(
        self, texts: Sequence[str], targets: NDArray[Any], balance: bool | None = None, report: Report | None = None
    ) -> dict[str, Any]:
        """Learn which of the labels each text has, bool (N, C); the settings with the best macro F1 in a
        cross-validation."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import f1_score

        matrix = self.fit_features(texts, report)
        classes = np.flatnonzero(targets.any(0)).astype(np.int64)
        wanted = targets[:, classes]
        best: tuple[float, tuple[float, bool], Floats] | None = None
        for option in [(c, even) for c in STRENGTHS for even in ((False, True) if balance is None else (balance,))]:
            margins = np.zeros(wanted.shape, np.float32)
            for train, rest in folds(len(wanted)):
                weights, bias = _machines(matrix[train], wanted[train], *option)
                margins[rest] = matrix[rest] @ weights + bias
            score = float(f1_score(wanted, margins > 0, average="macro", zero_division=0.0))
            if best is None or score > best[0]:
                best = (score, option, margins)
        assert best is not None
        _, option, margins = best
        scale = LogisticRegression(C=1e3).fit(margins.reshape(-1, 1), wanted.reshape(-1))
        weights, bias = _machines(matrix, wanted, *option)
        self.linear = LinearLabels(weights, bias, classes, float(scale.coef_[0, 0]), float(scale.intercept_[0]))
        return {"strength": option[0], "balanced": option[1]}


def folds(count: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The rows to train on and the others, for each fold of so many rows in random order."""
    order = np.random.default_rng(0).permutation(count)
    for part in np.array_split(order, min(FOLDS, count)):
        yield np.setdiff1d(order, part), np.sort(part)


def _machines(matrix: Any, wanted: NDArray[Any], strength: float, balanced: bool) -> tuple[Floats, Floats]:
    """Weights (F, C) and bias (C,) of a machine for each label; one that all texts have, or none, is always said so."""
    weights = np.zeros((matrix.shape[1], wanted.shape[1]), np.float32)
    bias = np.where(wanted.mean(0) > 0.5, 1.0, -1.0).astype(np.float32)
    for number, column in enumerate(wanted.T):
        if 0 < column.sum() < len(column):
            found = machine(matrix, column.astype(np.int64), strength, balanced)
            weights[:, number], bias[number] = 2 * found.weights[:, 1], 2 * found.bias[1]
    return weights, bias
