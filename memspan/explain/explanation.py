"""The explanation of a trained model's answer, as a value and as a page."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from memspan.explain.page import Bar, Cell, Page, ShadedSpan, ShadedText, Table

BEGINNING = 48  # characters of a segment that the page shows


@dataclass(frozen=True)
class View:
    """One number for each token span of the text.

    Attributes:
        title, about: the quantity, and a description of it.
        values: as many as there are spans.
        signed: values below 0 are evidence against the answer; otherwise all are at least 0.
    """

    title: str
    about: str
    values: list[float]
    signed: bool


@dataclass(frozen=True)
class SegmentShare:
    """The contribution of a segment.

    Attributes:
        number: counted from 1.
        text: the text of its spans.
        before_window: it lies before the last window, so that only the memory can hold it.
        value: the first view, summed over its spans, or averaged for gates.
        fall: the decrease in nats of the answer's log-probability if the segment is replaced by padding.
    """

    number: int
    text: str
    before_window: bool
    value: float
    fall: float


@dataclass(frozen=True)
class AnswerToken:
    """A token of the answer, and its probability after the ones before it."""

    token: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """The evidence for an answer.

    Attributes:
        checkpoint, task, method, question: the arguments of `explain`, and the task of the checkpoint.
        answer: the model's answer.
        answer_tokens: its tokens with their probabilities.
        probability: of the answer.
        log_probability: of the answer, in nats.
        log_probability_without_text: of the same answer to an empty text.
        tokens: the token spans of the text.
        segment_of: the number of each span's segment, as in `segments`.
        segments: the contribution of each segment.
        views: the first one is the result of the method; the others are its parts.
        window: tokens that a layer sees at once.
        before_window, within_window: attribution summed over the tokens before and within the last window; None for
            gates.
        memory_share: the share of `before_window` in the sum of magnitudes; None for gates.
        delta: the difference between the sum of the attributions and the quantity they explain, as captum reports it; None
            for other methods.
        tokens_left_out: number of tokens at the end of the text that the model had no room for.
    """

    checkpoint: str
    task: str
    method: str
    question: str
    answer: str
    answer_tokens: list[AnswerToken]
    probability: float
    log_probability: float
    log_probability_without_text: float
    tokens: list[str]
    segment_of: list[int]
    segments: list[SegmentShare]
    views: list[View]
    window: int
    before_window: float | None
    within_window: float | None
    memory_share: float | None
    delta: float | None
    tokens_left_out: int

    def to_dict(self) -> dict[str, Any]:
        """The explanation for JSON."""
        return asdict(self)

    def strongest(self, count: int = 10) -> list[tuple[str, float]]:
        """The spans with the largest magnitudes in the first view, with their values."""
        values = self.views[0].values
        indices = [index for index, token in enumerate(self.tokens) if token.strip()]
        indices.sort(key=lambda index: -abs(values[index]))
        return [(self.tokens[index], values[index]) for index in indices[:count]]

    def page(self) -> Page:
        """The explanation for readers."""
        return Page(
            title="The evidence for this answer",
            question=self.question,
            answer=self.answer,
            facts=_facts(self),
            how=[HOW[self.method]],
            tables=_tables(self),
            texts=[_shaded(self, view) for view in self.views],
            signed=self.views[0].signed,
        )


UNITS = {"gradients": "nats", "occlusion": "fall, nats", "attention": "weight", "gates": "opening"}

HOW = {
    "gradients": "The stronger the colour of a token, the larger its share of the answer's log-probability. The shares of all "
    "tokens add up to the difference between the log-probabilities of the answer to this text and to an empty one.",
    "occlusion": "The stronger the colour of a token, the more the answer's log-probability falls without it.",
    "attention": "The stronger the colour of a token, the more weight a layer's attention gave it from the tokens of the "
    "answer. Attention shows which tokens a layer read, not which ones the answer needed: compare the last column of the "
    "segments.",
    "gates": "The stronger the colour of a token, the more open the gate was there, between its lowest and highest opening in "
    "this text. Gates show what a layer kept, not what the answer needed: compare the last column of the segments.",
}


def _facts(explanation: Explanation) -> list[tuple[str, str]]:
    empty = math.exp(explanation.log_probability_without_text)
    facts = [
        ("Model", explanation.checkpoint),
        ("Task", explanation.task),
        ("Method", f"{explanation.method}: {explanation.views[0].about}"),
        ("Probability of the answer", f"{explanation.probability:.1%} (to an empty text: {empty:.1%})"),
    ]
    if (
        explanation.before_window is not None
        and explanation.within_window is not None
        and explanation.memory_share is not None
    ):
        facts.append(
            (
                f"Before the window of {explanation.window} tokens",
                f"{explanation.before_window:.3f}, within it {explanation.within_window:.3f}: "
                f"{explanation.memory_share:.0%} by magnitude come from memory",
            )
        )
    if explanation.delta is not None:
        facts.append(("Error of the integral", f"{explanation.delta:.4f} nats"))
    if explanation.tokens_left_out:
        reason = f"{explanation.tokens_left_out:,} tokens at the end of the text, for which the model has no room"
        facts.append(("Not read", reason))
    return facts


def _tables(explanation: Explanation) -> list[Table]:
    unit = UNITS[explanation.method]
    sum_or_mean = "mean" if explanation.method == "gates" else "sum"
    segments = [
        [
            Cell(f"{segment.number}"),
            Cell("memory" if segment.before_window else "window"),
            Cell(_beginning(segment.text)),
            Cell("", Bar(segment.value)),
            Cell("", Bar(segment.fall)),
        ]
        for segment in explanation.segments
    ]
    columns = ["", "held by", "beginning", f"{unit}, {sum_or_mean}", "fall without it, nats"]
    tables = [Table("Segments", columns, segments)]
    if len(explanation.answer_tokens) > 1:
        answer = [[Cell(part.token), Cell("", Bar(part.probability))] for part in explanation.answer_tokens]
        tables.append(Table("Tokens of the answer", ["token", "probability"], answer))
    strongest = [[Cell(token), Cell("", Bar(value))] for token, value in explanation.strongest()]
    return [*tables, Table("Strongest tokens", ["token", unit], strongest)]


def _shaded(explanation: Explanation, view: View) -> ShadedText:
    """The text shaded by a view, with a mark at the beginning of each segment."""
    numbers = explanation.segment_of
    marks = ["" if before == now else str(now) for before, now in zip([0, *numbers], numbers, strict=False)]
    low = min(view.values, default=0.0) if explanation.method == "gates" else 0.0
    spans = [
        ShadedSpan(text, value, value - low, mark)
        for text, value, mark in zip(explanation.tokens, view.values, marks, strict=True)
    ]
    return ShadedText(view.title, view.about, spans)


def _beginning(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= BEGINNING else plain[:BEGINNING].rstrip() + " ..."
