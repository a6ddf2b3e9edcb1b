"""A classifier that is fitted at once: a linear model over features of a text, some of them of frozen pretrained models.

Letters: B batch, S tokens, N texts, F features, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memspan.data.tokenizer import Tokenizer
from memspan.models.saved import SavedModel
from memspan.pretrained import hub
from memspan.pretrained.features import DEFAULT, Features, Sources, feature_class
from memspan.pretrained.features.base import Matrix
from memspan.pretrained.linear import Direction, Linear, fit_linear
from memspan.state import State

Report = Callable[[str, int, int], None]  # what is computed, how many texts are done, and all of them


@dataclass(frozen=True)
class FeatureClassifierConfig:
    """What a feature classifier is made of.

    Attributes:
        base: name of the model whose tokenizer the ids are of, and whose hidden states may be features.
        tokenizer_size: number of ids of its tokenizer; the classes are the ids behind them.
        classes: C.
        features: kinds of features, names of `memspan.pretrained.features.FEATURES`.
        encoder: name of the sentence encoder.
        dtype: of the base, see `memspan.pretrained.hub.load`.
        outside: number of the class of what belongs to no other; None without one. Nothing is trained on it: a text belongs
            to it whose likeliest class has a probability below `threshold`.
        threshold: see `outside`, 0 to 1.
    """

    base: str
    tokenizer_size: int
    classes: int
    features: Sequence[str] = field(default_factory=lambda: list(DEFAULT))
    encoder: str = "minilm"
    dtype: str = "auto"
    outside: int | None = None
    threshold: float = 0.0

    @property
    def vocabulary(self) -> int:
        """The number of ids, those of the classes included."""
        return self.tokenizer_size + self.classes


class FeatureClassifier(SavedModel):
    """`(ids, state, logits_to_keep) -> (logits, state)`; the logits of the classes are log-probabilities, all others -inf.

    The features are those of the whole text, so the state is the text so far, (B, S) int64.
    """

    kind, config_class = "feature_classifier", FeatureClassifierConfig
    linear_class: ClassVar[Any] = Linear

    def __init__(self, config: FeatureClassifierConfig) -> None:
        super().__init__(config)
        sources = Sources(config.base, config.dtype, config.encoder)
        self.features: dict[str, Features] = {name: feature_class(name)(sources) for name in config.features}
        self.linear: Any = None  # of `linear_class`, once it is fitted
        self.position = nn.Parameter(torch.zeros(()), requires_grad=False)  # where the ids have to be
        self._tokenizer: Tokenizer | None = None

    # ---- fitting

    def fit(
        self, texts: Sequence[str], labels: Sequence[int], balance: bool | None = None, report: Report | None = None
    ) -> "Fitted":
        """Learn the classes `labels` of texts.

        Args:
            balance: whether rare classes weigh as much as frequent ones; None for what does better.

        Returns what cross-validation on them has shown.
        """
        matrix, numbers = self.fit_features(texts, report), np.array(labels)
        present = np.unique(numbers)
        linear, validated = fit_linear(matrix, numbers, present, balance)
        self.linear = linear
        return Fitted(linear.strength, linear.balanced, validated, present)

    def fit_features(self, texts: Sequence[str], report: Report | None = None) -> Matrix:
        """Learn what the features need; those of the texts (N, F)."""
        parts = []
        for name, features in self.features.items():
            progress = None if report is None else lambda done, total, name=name: report(name, done, total)
            parts.append(features.fit(texts, progress))
        if report is not None:
            report("linear model", 0, 1)
        return _joined(parts)

    def log_probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The log-probability of each class for each text, (N, C)."""
        assert self.linear is not None, "the classifier is not fitted"
        full = np.full((len(texts), self.config.classes), -np.inf, np.float32)
        full[:, self.linear.classes] = self.known_log_probabilities(texts)
        if self.config.outside is not None:
            full[:, self.config.outside] = np.log(max(self.config.threshold, 1e-9))
        return full

    def known_log_probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Those of the classes that were trained on, (N, known classes)."""
        assert self.linear is not None, "the classifier is not fitted"
        known: NDArray[np.float32] = self.linear.log_probabilities(
            _joined([features.transform(texts) for features in self.features.values()])
        )
        return known

    # ---- evidence

    def evidence(self, text: str) -> "Evidence":
        """What the features of a text add to the score by which its class is ahead."""
        assert self.linear is not None, "the classifier is not fitted"
        matrix = _joined([features.transform([text]) for features in self.features.values()])
        return self.evidence_along(text, self.linear.direction(self.linear.margins(matrix)[0]))

    def evidence_along(self, text: str, direction: Direction) -> "Evidence":
        """What the features of a text add to the value of a linear function of them."""
        matrices = {name: _joined([features.transform([text])]) for name, features in self.features.items()}
        first, parts, terms = 0, {}, list[tuple[str, float]]()
        for name, matrix in matrices.items():
            added = matrix.multiply(direction.weights[first : first + matrix.shape[1]]).tocsr()
            first += matrix.shape[1]
            parts[name] = float(added.sum())
            names = self.features[name].names()
            terms += [
                (names[index], float(value)) for index, value in zip(added.indices, added.data, strict=True) if names
            ]
        terms.sort(key=lambda term: -abs(term[1]))
        score = sum(parts.values()) + direction.constant
        return Evidence(score, parts, direction.constant, terms, direction.other, direction)

    def scores(self, texts: Sequence[str], evidence: "Evidence") -> NDArray[np.float32]:
        """The score of `evidence` for other texts, (N,)."""
        matrix = _joined([features.transform(texts) for features in self.features.values()])
        scores: NDArray[np.float32] = matrix @ evidence.direction.weights + evidence.constant
        return scores

    # ---- as a model

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V), the same at each of these tokens, and the text so far."""
        keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        text = ids if state is None else torch.cat([state, ids], 1)
        if not keep:
            return torch.zeros(len(ids), 0, self.config.vocabulary, device=ids.device), text
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.of_pretrained(hub.tokenizer_of(self.config.base))
        texts = [self._tokenizer.prompt_text(row) for row in text.tolist()]
        classes = torch.from_numpy(self.log_probabilities(texts)).to(ids.device)
        others = classes.new_full((len(ids), self.config.tokenizer_size), -torch.inf)
        return torch.cat([others, classes], 1)[:, None].expand(-1, keep, -1), text

    # ---- on disk

    def learned(self) -> dict[str, Tensor]:
        tensors = {} if self.linear is None else {f"linear.{name}": t for name, t in self.linear.tensors().items()}
        for kind, features in self.features.items():
            tensors |= {f"{kind}.{name}": tensor for name, tensor in features.tensors().items()}
        return tensors

    def save_weights(self, path: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.learned().items()}, path)

    def load_weights(self, path: Path) -> None:
        tensors = load_file(path)
        try:
            for kind, features in self.features.items():
                features.restore(_of(tensors, kind))
            self.linear = self.linear_class.restored(_of(tensors, "linear"), self.config.classes)
        except (KeyError, ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise RuntimeError(f"the weights are of another classifier: {error}") from error


class Evidence(NamedTuple):
    """Why a text has its class.

    Attributes:
        score: by which it is ahead: the sum of `parts` and `constant`.
        parts: what each kind of features adds.
        terms: what each feature with a name adds, the strongest first.
        other: number of the class that comes second; None without one.
        direction: the linear function that `score` is the value of.
    """

    score: float
    parts: dict[str, float]
    constant: float
    terms: list[tuple[str, float]]
    other: int | None
    direction: Direction


@dataclass(frozen=True)
class Fitted:
    """What cross-validation on the training texts showed.

    Attributes:
        strength: the chosen inverse of the regularisation, C of the support vector machine.
        balanced: whether rare classes weigh as much as frequent ones.
        log_probabilities: float32 (N, known classes), of each training text by a model that had not seen it.
        classes: the known classes, the columns of `log_probabilities`.
    """

    strength: float
    balanced: bool
    log_probabilities: NDArray[np.float32]
    classes: NDArray[Any]

    def threshold(self, rejected: float) -> float:
        """The probability that the likeliest class of this share of the training texts does not reach."""
        return float(np.exp(np.quantile(self.log_probabilities.max(1), rejected)))


def _joined(parts: Sequence[Matrix]) -> Matrix:
    from scipy import sparse

    return sparse.hstack([sparse.csr_matrix(part) for part in parts], format="csr")


def _of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}."
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
