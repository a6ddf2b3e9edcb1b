"""A classifier of long texts: a linear model over the whole text, and a memory over the features of its segments.

Letters: N texts, M segments of all texts, S segments of a text, F features, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from memspan.data.chunking import in_chunks
from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.mechanisms import OVER_SEGMENTS
from memspan.models.saved import AtMost
from memspan.pretrained import hub
from memspan.pretrained.feature_classifier import (
    Evidence,
    FeatureClassifier,
    FeatureClassifierConfig,
    Fitted,
    Report,
)
from memspan.pretrained.features.base import DenseFeatures, Floats, Progress
from memspan.pretrained.linear import Direction, fold_indices, log_softmax, temperature_of
from memspan.pretrained.segment_memory import SegmentMemory, fit_memory

MEMORY = "memory over segments"
MEAN, FIRST = "mean over segments", "first segment alone"
SAMPLE = 200  # texts whose tokens are counted
AUTO = "auto"  # as the name of a mechanism: the one that does best in a cross-validation
LOWEST = -30.0  # log-probability
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the memory in the log-probabilities


@dataclass(frozen=True)
class SegmentClassifierConfig(FeatureClassifierConfig):
    """What a classifier of long texts is made of.

    Attributes:
        characters: of a segment at most.
        mechanism: {"name": registered name, **settings} of the memory; {"name": "auto"} for one chosen by cross-validation;
            empty without a memory.
        first_alone: nothing but the first segment of a text is read: the twin without a memory.
        seed: random seed of the memory's training.
    """

    characters: int = 512
    mechanism: Mapping[str, Any] = field(default_factory=lambda: {"name": AUTO})
    first_alone: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.characters < 1:
            raise UsageError(f"A segment must have at least one character, got {self.characters}.")


class OverSegments(DenseFeatures):
    """Dense features of a whole text: the mean vector of its segments."""

    kind = "over_segments"

    def __init__(self, inner: DenseFeatures, cut: Callable[[Sequence[str]], list[list[str]]]) -> None:
        super().__init__(inner.sources)
        self.inner, self._cut = inner, cut

    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        segments = self._cut(texts)
        vectors = self.inner.vectors([segment for text in segments for segment in text], progress)
        means: Floats = np.stack([rows.mean(0) for rows in _by_text(vectors, segments)])
        return means


class SegmentClassifier(FeatureClassifier):
    """A classifier over features that reads a long text segment by segment.

    Its log-probabilities are a weighted mean of those of a linear model (sparse features of the whole text, the mean of the
    dense features of its segments) and of a memory that reads the dense features of the segments in order. The share of the
    memory is what does best in a cross-validation on the training texts, 0 included.
    """

    kind, config_class = "segment_classifier", SegmentClassifierConfig
    config: SegmentClassifierConfig

    def __init__(self, config: SegmentClassifierConfig) -> None:
        super().__init__(config)
        dense = {name: features.dense() for name, features in self.features.items()}
        self.inner = {name: features for name, features in dense.items() if features is not None}
        if not self.inner:
            raise UsageError(
                f"A memory over segments reads features of models, states or sentences, got {', '.join(config.features)}."
            )
        self.features = {
            name: OverSegments(self.inner[name], self.segments) if name in self.inner else features
            for name, features in self.features.items()
        }
        self.memory: SegmentMemory | None = None
        self.mixture = Mixture()
        self.validated: dict[str, float] = {}  # the macro F1 of each way to read, in the cross-validation

    # ---- fitting

    def fit(
        self, texts: Sequence[str], labels: Sequence[int], balance: bool | None = None, report: Report | None = None
    ) -> Fitted:
        """As for every classifier over features; `validated` then holds what the ways to read were worth."""
        fitted = super().fit(self._seen(texts), labels, balance, report)
        segments = self.segments(texts)
        # Also where the first segment alone is read: the same components of the features as with a memory.
        every = [segment for text in segments for segment in text]
        sequences = _by_text(np.concatenate([inner.fit(every) for inner in self.inner.values()], 1), segments)
        sequences = [rows[:1] for rows in sequences] if self.config.first_alone else sequences
        numbers = np.searchsorted(fitted.classes, np.array(labels))
        self.validated = {MEAN: _f1(numbers, fitted.log_probabilities)}
        if not self.config.mechanism:
            return fitted
        chosen = self._choose(sequences, numbers, fitted, report)
        self.config = replace(self.config, mechanism=dict(chosen.mechanism))
        self.memory = fit_memory(sequences, numbers, len(fitted.classes), chosen.mechanism, self.config.seed)
        self.mixture = chosen.mixture
        return replace(fitted, log_probabilities=chosen.log_probabilities)

    def _choose(
        self, sequences: Sequence[Floats], numbers: NDArray[Any], fitted: Fitted, report: Report | None
    ) -> "_Chosen":
        """The mechanism, and the share of the memory, with the likeliest labels in the cross-validation."""
        named = self.config.mechanism
        options = [{"name": name} for name in OVER_SEGMENTS] if named.get("name") == AUTO else [dict(named)]
        classes, linear = len(fitted.classes), fitted.log_probabilities
        best: _Chosen | None = None
        for done, mechanism in enumerate(options):
            if report is not None:
                report("memory over segments", done, len(options))
            logs = np.full((len(numbers), classes), -math.log(classes), np.float32)
            for train, rest in fold_indices(numbers):
                known = np.unique(numbers[train])
                part = [sequences[row] for row in train]
                memory = fit_memory(
                    part, np.searchsorted(known, numbers[train]), len(known), mechanism, self.config.seed
                )
                outside = np.full((len(rest), classes), LOWEST, np.float32)
                outside[:, known] = memory.log_probabilities([sequences[row] for row in rest])
                logs[rest] = outside
            self.validated[str(mechanism["name"])] = _f1(numbers, logs)
            of_memory = temperature_of(logs, numbers)
            for share in SHARES:
                mixed = Mixture(share, of_memory)(linear, logs)
                mixture = Mixture(share, of_memory, temperature_of(mixed, numbers))
                found = mixture(linear, logs)
                if best is None or _loss(numbers, found) < best.loss:
                    best = _Chosen(mechanism, mixture, _loss(numbers, found), found)
        assert best is not None
        self.validated["chosen"] = _f1(numbers, best.log_probabilities)
        return best

    def known_log_probabilities(self, texts: Sequence[str]) -> Floats:
        """Those of the classes that were trained on, (N, C)."""
        texts = self._seen(texts)
        linear = super().known_log_probabilities(texts)
        if self.memory is None:
            return linear
        if not self.mixture.share:
            return self.mixture(linear, linear)
        return self.mixture(linear, self._of_memory(texts))

    def _of_memory(self, texts: Sequence[str]) -> Floats:
        """The memory's log-probabilities, (N, known classes)."""
        assert self.memory is not None, "the classifier is not fitted"
        segments = self.segments(self._seen(texts))
        every = [segment for text in segments for segment in text]
        features = np.concatenate([inner.transform(every) for inner in self.inner.values()], 1)
        return self.memory.log_probabilities(_by_text(features, segments))

    def evidence(self, text: str) -> Evidence:
        """As for every classifier over features; the memory is one more part."""
        assert self.linear is not None, "the classifier is not fitted"
        found, scale = self.linear.direction(self.known_log_probabilities([text])[0]), self.mixture.of_linear
        direction = replace(found, weights=found.weights * scale, constant=found.constant * scale)
        evidence = self.evidence_along(self._seen([text])[0], direction)
        if self.memory is None or not self.mixture.share:
            return evidence
        added = float(self._added_by_memory([text], direction)[0])
        return evidence._replace(score=evidence.score + added, parts={**evidence.parts, MEMORY: added})

    def scores(self, texts: Sequence[str], evidence: Evidence) -> Floats:
        scores = super().scores(self._seen(texts), evidence)
        return scores + self._added_by_memory(texts, evidence.direction) if MEMORY in evidence.parts else scores

    def _added_by_memory(self, texts: Sequence[str], direction: Direction) -> Floats:
        """The memory's share of the log-odds of the class of a direction over the other, (N,)."""
        assert self.linear is not None, "the classifier is not fitted"
        logs = self._of_memory(texts) * (self.mixture.share / self.mixture.of_memory / self.mixture.temperature)
        assert direction.other is not None, "a memory has two classes or more"
        best, other = np.searchsorted(self.linear.classes, [direction.best, direction.other])
        added: Floats = logs[:, best] - logs[:, other]
        return added

    def without_memory(self, texts: Sequence[str]) -> list[int]:
        """The likeliest class of each text by the linear model alone: that of the mean over its segments."""
        assert self.linear is not None, "the classifier is not fitted"
        known = super().known_log_probabilities(self._seen(texts)).argmax(1)
        numbers: list[int] = self.linear.classes[known].tolist()
        return numbers

    @property
    def memory_parameters(self) -> int:
        """The number of weights of the memory."""
        return 0 if self.memory is None else sum(weight.numel() for weight in self.memory.parameters())

    def described(self) -> dict[str, Any]:
        """How texts are read, and the macro F1 that each way had in the cross-validation, for a report."""
        return {
            "characters": self.config.characters,
            "read": FIRST
            if self.config.first_alone
            else MEAN
            if not self.mixture.share
            else self.config.mechanism["name"],
            "share of the memory": self.mixture.share,
            "validated": self.validated,
        }

    def state_bytes(self, texts: Sequence[str]) -> int:
        """Bytes of the memory's state after the longest of these texts; 0 without a memory."""
        longest = max(map(len, self.segments(self._seen(texts))))
        return 0 if self.memory is None else self.memory.state_bytes(longest)

    # ---- segments

    def _seen(self, texts: Sequence[str]) -> list[str]:
        return [self.segments([text])[0][0] for text in texts] if self.config.first_alone else list(texts)

    def segments(self, texts: Sequence[str]) -> list[list[str]]:
        """Each text in segments, cut at paragraphs, lines, sentences or words."""
        limit = self.config.characters
        return [[chunk.text for chunk in in_chunks([text], limit)] or [text] for text in texts]

    # ---- on disk

    def learned(self) -> dict[str, Tensor]:
        tensors = super().learned()
        for kind, inner in self.inner.items():
            tensors |= {f"segments.{kind}.{name}": tensor for name, tensor in inner.tensors().items()}
        if self.memory is not None:
            tensors |= {f"memory.{name}": tensor.detach() for name, tensor in self.memory.state_dict().items()}
            tensors["mixture"] = torch.tensor(self.mixture, dtype=torch.float64)
        return tensors

    def load_weights(self, path: Path) -> None:
        super().load_weights(path)
        assert self.linear is not None
        tensors = load_file(path)
        try:
            for kind, inner in self.inner.items():
                inner.restore(_of(tensors, f"segments.{kind}"))
            if not self.config.mechanism:
                return
            weights = _of(tensors, "memory")
            numbers = weights["project.weight"].shape[1]
            with AtMost(path.stat().st_size):
                self.memory = SegmentMemory(numbers, len(self.linear.classes), self.config.mechanism).eval()
            self.memory.load_state_dict(weights)
            self.mixture = Mixture(*tensors["mixture"].tolist())
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise RuntimeError(f"the weights are of another classifier: {error}") from error
        if not (0 <= self.mixture.share <= 1 and min(self.mixture[1:]) > 0):
            raise RuntimeError("the share of the memory must be between 0 and 1, and temperatures above 0")


class Mixture(NamedTuple):
    """The weighted mean of the log-probabilities of the linear model and of the memory.

    Attributes:
        share: weight of the memory.
        of_memory: temperature of the memory.
        temperature: of the mean.
    """

    share: float = 0.0
    of_memory: float = 1.0
    temperature: float = 1.0

    @property
    def of_linear(self) -> float:
        """What a log-probability of the linear model adds to that of the mixture."""
        return (1 - self.share) / self.temperature

    def __call__(self, linear: Floats, memory: Floats) -> Floats:
        """Both (N, C)."""
        logs = log_softmax(memory / self.of_memory) if self.share else memory
        mixed = (1 - self.share) * np.maximum(linear, LOWEST) + self.share * logs
        return log_softmax((mixed / self.temperature).astype(np.float32))


@dataclass(frozen=True)
class _Chosen:
    mechanism: Mapping[str, Any]
    mixture: Mixture
    loss: float
    log_probabilities: Floats


@dataclass(frozen=True)
class Reading:
    """How long texts are to be read.

    Attributes:
        segment: tokens of a segment.
        mechanism: {"name": registered name, **settings} of the memory over segments; empty where none is named.
        first_alone: nothing but the first segment is read.
        seed: random seed of the memory's training.
    """

    segment: int
    mechanism: Mapping[str, Any] = field(default_factory=dict)
    first_alone: bool = False
    seed: int = 0


def fit_suitable(
    plain: FeatureClassifier,
    texts: Sequence[str],
    labels: Sequence[int],
    reading: Reading,
    balance: bool | None = None,
    report: Report | None = None,
) -> tuple[FeatureClassifier, Fitted]:
    """`plain` fitted, or where a mechanism is named, or most texts are longer than two segments, a classifier by segments.

    Where no mechanism is named, a memory, the mean over segments and the first segment alone are compared by the likelihood
    of the labels in the cross-validation.
    """
    dense = any(features.dense() is not None for features in plain.features.values())
    named = bool(reading.mechanism) or reading.first_alone
    tokenizer = Tokenizer.of_pretrained(hub.tokenizer_of(plain.config.base))
    tokens = [len(ids) for ids in tokenizer.encode_all(texts[:SAMPLE])]
    are_long = sum(count > 2 * reading.segment for count in tokens) * 2 > len(tokens)
    if not named and not (dense and are_long):
        return plain, plain.fit(texts, labels, balance, report)
    characters = math.ceil(reading.segment * sum(map(len, texts[:SAMPLE])) / max(1, sum(tokens)))
    fields = {**asdict(plain.config), "characters": characters, "seed": reading.seed}
    mechanism = reading.mechanism or {"name": AUTO}
    whole = SegmentClassifier(SegmentClassifierConfig(**fields, mechanism=mechanism, first_alone=reading.first_alone))
    fitted = whole.fit(texts, labels, balance, report)
    if named:
        return whole, fitted
    first = SegmentClassifier(SegmentClassifierConfig(**fields, mechanism={}, first_alone=True))
    of_first = first.fit(texts, labels, balance)
    validated = {**whole.validated, FIRST: first.validated[MEAN]}
    numbers = np.searchsorted(fitted.classes, np.array(labels))
    better = _loss(numbers, of_first.log_probabilities) < _loss(numbers, fitted.log_probabilities)
    chosen = (first, of_first) if better else (whole, fitted)
    chosen[0].validated = validated
    return chosen


def _by_text(rows: Floats, segments: Sequence[Sequence[str]]) -> list[Floats]:
    """The rows (M, F) of the segments of all texts, as one array (S, F) for each text."""
    edges = accumulate((len(text) for text in segments), initial=0)
    return [rows[first:end] for first, end in pairwise(edges)]


def _loss(numbers: NDArray[Any], logs: Floats) -> float:
    """The mean negative log-probability of the right classes."""
    return float(-np.maximum(logs[np.arange(len(numbers)), numbers], LOWEST).mean())


def _f1(numbers: NDArray[Any], logs: Floats) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(numbers, logs.argmax(1), average="macro", zero_division=0.0))


def _of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}."
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
