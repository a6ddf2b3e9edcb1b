"""The evidence for a label or a number by a classifier over features: its parts, which add up, and what each passage does.

Letters: F features.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memspan.errors import UsageError
from memspan.evaluation.predict import reopen
from memspan.explain.page import Bar, Cell, Page, ShadedSpan, ShadedText, Table
from memspan.pretrained.feature_classifier import FeatureClassifier
from memspan.tasks import Labelled, require
from memspan.tasks.metrics import sentences
from memspan.training.build import CONFIG, read_run

STRONGEST = 15  # terms that are shown
MOST_SPANS = 60  # that are left out one at a time
CONSTANT = "the constant"


@dataclass(frozen=True)
class LabelExplanation:
    """Why a classifier over features says what it says.

    Attributes:
        checkpoint, task: the model, and what it was trained for.
        answer: the prediction.
        probability: of the prediction; None of a number.
        other: the label that comes second; empty where there is none to compare with.
        score: how far the answer is ahead: log-odds in nats, or the number itself. It is the sum of `parts`.
        parts: what each kind of features adds to the score, and the constant.
        terms: of the features that are terms of the text, each with what it adds; the strongest first.
        spans: the sentences of the text, or of a single sentence the words.
        falls: how much lower the score is without each of them.
    """

    checkpoint: str
    task: str
    answer: str
    probability: float | None
    other: str
    score: float
    parts: dict[str, float]
    terms: list[tuple[str, float]]
    spans: list[str]
    falls: list[float]

    def to_dict(self) -> dict[str, Any]:
        """The explanation for JSON."""
        return asdict(self)

    def page(self) -> Page:
        """The explanation for readers."""
        facts = [("Model", self.checkpoint), ("Task", self.task)]
        if self.probability is not None:
            facts.append(("Probability", f"{self.probability:.1%}"))
        if self.other:
            facts.append(("Compared with", self.other))
        return Page(
            title="The evidence for this answer",
            question="",
            answer=self.answer,
            facts=facts,
            how=[
                "The model is linear, so that what its features add is exact: the parts add up to the score, by which the answer is "
                "ahead of the label that it is compared with.",
                "The stronger the colour of a span, the lower the score would be without it.",
            ],
            tables=[
                _table("Parts", "features", [*self.parts.items(), ("all together", self.score)]),
                _table("Strongest terms", "term", self.terms),
                _table("Without a span", "span", list(zip(self.spans, self.falls, strict=True)), "fall"),
            ],
            texts=[
                ShadedText(
                    "The text",
                    "fall of the score without the span",
                    [ShadedSpan(span, fall, fall) for span, fall in zip(self.spans, self.falls, strict=True)],
                )
            ],
            signed=True,
        )


def is_over_features(checkpoint: Path) -> bool:
    """Whether the model in a folder is a classifier over features."""
    return (checkpoint / CONFIG).is_file() and bool((read_run(checkpoint).get("model") or {}).get("features"))


def explain_label(checkpoint: str | Path, text: str) -> LabelExplanation:
    """Why the classifier over features in `checkpoint` gives this text its label, or its number.

    Raises UsageError for an empty text, and for a model of another kind.
    """
    model, learned, config = reopen(checkpoint)
    task = require(learned, Labelled, f"{checkpoint} must be a classifier over features, got {config.task.name}.")
    if not isinstance(model, FeatureClassifier):
        raise UsageError(f"{checkpoint} must be a classifier over features, got {config.task.name}.")
    if not text.strip():
        raise UsageError("There is nothing to explain: the text is empty.")
    (found,) = task.predictions(model, [text], config.task.segments)
    evidence = model.evidence(text)
    spans = _spans(text)
    without = ["".join(spans[:number] + spans[number + 1 :]) for number in range(len(spans))]
    lower = (
        [evidence.score - score for score in model.scores(without, evidence)] if len(spans) > 1 else [evidence.score]
    )
    names = task.class_names()
    return LabelExplanation(
        checkpoint=str(checkpoint),
        task=config.task.name,
        answer=found.text,
        probability=found.probability,
        other="" if evidence.other is None else names[evidence.other],
        score=evidence.score,
        parts={**evidence.parts, CONSTANT: evidence.constant},
        terms=evidence.terms[:STRONGEST],
        spans=spans,
        falls=[float(fall) for fall in lower],
    )


def _spans(text: str) -> list[str]:
    """The sentences of a text, or the words where it is one, at most MOST_SPANS; they add up to the text."""
    parts = sentences(text)
    if len(parts) < 2:
        words = text.split(" ")
        parts = [f"{word} " for word in words[:-1]] + words[-1:]
    groups = np.array_split(np.arange(len(parts)), min(MOST_SPANS, len(parts)))
    return ["".join(parts[index] for index in group) for group in groups]


def _table(title: str, noun: str, rows: Sequence[tuple[str, float]], unit: str = "adds") -> Table:
    return Table(title, [noun, unit], [[Cell(name), Cell("", Bar(value))] for name, value in rows])
