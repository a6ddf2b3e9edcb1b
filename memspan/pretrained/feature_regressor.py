"""A number for a text, by ridge regression over its features.

Letters: N texts, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.pretrained.feature_classifier import FeatureClassifier, Report
from memspan.pretrained.feature_tagger import folds
from memspan.pretrained.linear import Direction, Floats

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)  # on the squared weights of features of the length one


@dataclass(frozen=True)
class Line:
    """A linear function of the features, kept between the smallest and the largest number of the training texts.

    Attributes:
        weights: float32 (F, 1).
        bias, low, high: the constant and the two limits.
    """

    weights: Floats
    bias: float
    low: float
    high: float

    classes = np.zeros(1, np.int64)

    def log_probabilities(self, matrix: Any) -> Floats:
        """The number for each row (N, F), (N, 1)."""
        numbers: Floats = np.clip(matrix @ self.weights + self.bias, self.low, self.high).astype(np.float32)
        return numbers

    def margins(self, matrix: Any) -> Floats:
        return self.log_probabilities(matrix)

    def direction(self, margins: Floats) -> Direction:
        """The number itself, before it is kept between the limits."""
        return Direction(self.weights[:, 0], self.bias, 0, None)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "weights": torch.from_numpy(np.ascontiguousarray(self.weights)),
            "line": torch.tensor([self.bias, self.low, self.high], dtype=torch.float64),
        }

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], classes: int) -> Self:
        """Raises KeyError or ValueError for tensors that `tensors` did not make."""
        weights, (bias, low, high) = tensors["weights"].numpy(), tensors["line"].tolist()
        if weights.ndim != 2 or weights.shape[1] != 1 or not low <= high:
            raise ValueError("weights and line must belong together")
        return cls(weights.astype(np.float32), bias, low, high)


class FeatureRegressor(FeatureClassifier):
    """`(ids, state, logits_to_keep) -> (logits, state)`; the one logit behind those of the tokenizer is the number."""

    kind = "feature_regressor"
    linear_class = Line

    def fit_targets(
        self, texts: Sequence[str], targets: NDArray[Any], balance: bool | None = None, report: Report | None = None
    ) -> dict[str, Any]:
        """Learn the numbers of texts, float (N,); the penalty with the least squared error in a cross-validation."""
        matrix = self.fit_features(texts, report)
        limits = float(targets.min()), float(targets.max())
        errors = {}
        for penalty in PENALTIES:
            found = np.full(len(targets), targets.mean(), np.float64)
            for train, rest in folds(len(targets)):
                if len(train):
                    line = Line(*_ridge(matrix[train], targets[train], penalty), *limits)
                    found[rest] = line.log_probabilities(matrix[rest])[:, 0]
            errors[penalty] = float(np.square(found - targets).mean())
        penalty = min(errors, key=lambda value: errors[value])
        self.linear = Line(*_ridge(matrix, targets, penalty), *limits)
        return {"penalty": penalty}


def _ridge(matrix: Any, targets: NDArray[Any], penalty: float) -> tuple[Floats, float]:
    from sklearn.linear_model import Ridge

    line = Ridge(alpha=penalty, solver="sparse_cg").fit(matrix, targets)
    return line.coef_.astype(np.float32)[:, None], float(line.intercept_)
