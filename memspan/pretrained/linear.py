"""A linear classifier with calibrated probabilities, its settings chosen by cross-validation.

Letters: N texts, F features, C classes.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRENGTHS = (0.1, 0.3, 1.0, 3.0)  # inverse regularisation: a smaller one is a smoother model
FOLDS = 3
MANY_CLASSES = 30  # from here on the usual setting is taken unmeasured: a machine for each class takes long
USUAL = (1.0, False)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Direction:
    """A linear function of the features of a text, by which its class is ahead of another.

    Attributes:
        weights, constant: float32 (F,), and what is added.
        best, other: the numbers of the two classes; None where there is no other.
    """

    weights: Floats
    constant: float
    best: int
    other: int | None


@dataclass(frozen=True)
class Linear:
    """Margins of a linear support vector machine for each class against all others, as probabilities.

    Attributes:
        weights: float32 (F, C).
        bias: float32 (C,).
        classes: int64 (C,), the numbers of the classes.
        temperature: margins are divided by it before the softmax (Guo et al. 2017, there for networks).
        strength, balanced: the settings it was fitted with.
    """

    weights: Floats
    bias: Floats
    classes: NDArray[np.int64]
    temperature: float
    strength: float = USUAL[0]
    balanced: bool = USUAL[1]

    def margins(self, matrix: Any) -> Floats:
        """The distance of each text from the border of each class, (N, C)."""
        margins: Floats = np.asarray(matrix @ self.weights + self.bias, np.float32)
        return margins

    def log_probabilities(self, matrix: Any) -> Floats:
        return log_softmax(self.margins(matrix) / self.temperature)

    def direction(self, margins: Floats) -> "Direction":
        """The log-odds of the likeliest class over the second, of a text with these margins (C,)."""
        best, other = (int(number) for number in margins.argsort()[::-1][:2])
        weights = (self.weights[:, best] - self.weights[:, other]) / self.temperature
        constant = float(self.bias[best] - self.bias[other]) / self.temperature
        return Direction(weights, constant, int(self.classes[best]), int(self.classes[other]))

    def tensors(self) -> dict[str, Tensor]:
        return {
            "weights": torch.from_numpy(np.ascontiguousarray(self.weights)),
            "bias": torch.from_numpy(self.bias),
            "classes": torch.from_numpy(self.classes),
            "temperature": torch.tensor(self.temperature, dtype=torch.float64),
        }

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], classes: int) -> Self:
        """Raises KeyError or ValueError for tensors that `tensors` did not make, or of more classes."""
        weights, bias, numbers = (tensors[name].numpy() for name in ("weights", "bias", "classes"))
        temperature = float(tensors["temperature"])
        fits = weights.ndim == 2 and bias.shape == numbers.shape == weights.shape[1:]
        if not fits or numbers.dtype != np.int64 or len(set(numbers.tolist())) != len(numbers):
            raise ValueError("weights, bias and classes must belong together")
        if not ((numbers >= 0) & (numbers < classes)).all() or not temperature > 0:
            raise ValueError(f"classes must be below {classes}, and the temperature above 0")
        return cls(weights.astype(np.float32), bias.astype(np.float32), numbers, temperature)


def fit_linear(
    matrix: Any, labels: NDArray[Any], classes: NDArray[Any], balance: bool | None = None
) -> tuple[Linear, Floats]:
    """A linear classifier of the rows of `matrix` (N, F), and the log-probabilities (N, C) of each row by one that was
    fitted without it.

    The strength of the regularisation, and whether rare classes are weighted up, unless `balance` says it, have the best macro
    F1 in a cross-validation.
    """
    from sklearn.metrics import f1_score

    folds = fold_indices(labels)
    options = [(strength, balanced) for strength in STRENGTHS for balanced in (False, True)]
    best: tuple[float, tuple[float, bool], Floats] | None = None
    for option in options if len(classes) < MANY_CLASSES else [USUAL]:
        margins = np.full((len(labels), len(classes)), -np.inf, np.float32)
        for train, rest in folds:
            part = machine(matrix[train], labels[train], *option)
            margins[np.ix_(rest, np.searchsorted(classes, part.classes))] = part.margins(matrix[rest])
        margins[~np.isfinite(margins).any(axis=1)] = 0.0  # rows that no fold leaves out
        predicted = classes[margins.argmax(1)]
        score = float(f1_score(labels, predicted, average="macro", zero_division=0.0))
        if best is None or score > best[0]:
            best = (score, option, margins)
    assert best is not None
    _, option, margins = best
    temperature = temperature_of(margins, np.searchsorted(classes, labels))
    whole = machine(matrix, labels, *option)
    linear = Linear(whole.weights, whole.bias, whole.classes, temperature, *option)
    return linear, log_softmax(margins / temperature)


def fold_indices(labels: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """The indices to train on and the others, for each fold; none that trains on a single class."""
    from sklearn.model_selection import StratifiedKFold

    most = int(np.unique(labels, return_counts=True)[1].max())
    if most < 2:
        return []
    splitter = StratifiedKFold(max(2, min(FOLDS, most)), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer texts than folds
        folds = list(splitter.split(labels, labels))
    return [(train, rest) for train, rest in folds if len(np.unique(labels[train])) > 1]


def machine(matrix: Any, labels: NDArray[Any], strength: float, balanced: bool) -> Linear:
    """A linear support vector machine of the rows of `matrix` (N, F), with the temperature one."""
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=strength, class_weight="balanced" if balanced else None, random_state=0)
    machine.fit(matrix, labels)
    weights, bias = machine.coef_.T, machine.intercept_
    if weights.shape[1] == 1:  # of two classes, one border
        weights, bias = np.concatenate([-weights, weights], 1) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weights.astype(np.float32), bias.astype(np.float32), machine.classes_.astype(np.int64), 1.0)


def temperature_of(margins: Floats, labels: NDArray[Any]) -> float:
    """The temperature under which the right classes are likeliest.

    The right class counts as (n + 1) / (n + 2) of a text of n, as in Platt's scaling (1999): where every text is predicted
    right, probabilities would go to one, whatever a new text says.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))
    known = np.isfinite(margins[rows, labels])  # a class of a single text is in no other fold
    if not known.any():
        return 1.0
    margins, labels, rows = margins[known], labels[known], np.arange(known.sum())
    others = np.isfinite(margins)
    others[rows, labels] = False
    right = (len(labels) + 1) / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        logs = log_softmax(margins / np.exp(log_temperature))
        wrong = np.where(others, logs, 0.0).sum(1) / np.maximum(1, others.sum(1))
        return float(-(right * logs[rows, labels] + (1 - right) * wrong).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 2.0), method="bounded").x))


def log_softmax(scores: Floats) -> Floats:
    from scipy import special

    logs: Floats = special.log_softmax(scores, axis=1).astype(np.float32)
    return logs
