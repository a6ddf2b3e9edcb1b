"""What a trained model's answer rests on in the text that it read.

Letters: T tokens read, N tokens said, R rows, D width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memspan.data.datasets import pad
from memspan.errors import UsageError
from memspan.evaluation.predict import reopen
from memspan.explain.page import Bar, Cell, Coloured, Page, ShadedSpan, Table
from memspan.explain.token_spans import pieces
from memspan.explain.trace import calls
from memspan.tasks import Example, TextTask

STEPS = 32  # of the integral, Gauss-Legendre
AT_ONCE = 16_384  # tokens of one forward
SPANS = 256  # that are left out one by one
UNBOUNDED = 1 << 30  # tokens: room for any text

# What mechanisms call their gates, and what each says of a token; all are between 0 and 1.
GATES = {
    "i": "input gate: how much of the token enters the cell",
    "f": "forget gate: how much of the past stays in the cell",
    "o": "output gate: how much of the cell is shown",
    "r": "reset gate: how much of the past the candidate sees",
    "z": "update gate: how much of the past stays",
    "rate": "write rate: how far the token corrects the memory",
    "decay": "decay: how much of the memory stays at this token",
}


@dataclass(frozen=True)
class View:
    """One number for each piece of the text.

    Attributes:
        title, about: what the number is.
        values: as many as there are pieces.
        signed: below 0 speaks against the answer; else all are at least 0.
    """

    title: str
    about: str
    values: list[float]
    signed: bool


@dataclass(frozen=True)
class SegmentShare:
    """What a segment contributes.

    Attributes:
        number: counted from 1.
        text: its pieces.
        memory: it lies before the window, so only the memory can know of it.
        value: of the first view: the sum over its tokens, of gates the mean.
        fall: by how much the log-probability of what was said falls without it.
    """

    number: int
    text: str
    memory: bool
    value: float
    fall: float


@dataclass(frozen=True)
class Said:
    """A token that was said, and how probable the model found it after those before it."""

    token: str
    probability: float


@dataclass(frozen=True)
class Explanation:
    """What an answer rests on.

    Attributes:
        said: the answer.
        log_probability: of all its tokens, in nats; `without_text` of the same answer to an empty text.
        tokens: the pieces of what was read.
        segment_of: the segment of each piece, as in `segments`.
        views: the first one is the method's answer; others are its parts.
        window: tokens that a layer sees at once.
        memory: what the first view adds up to before the window, and `inside` within it; None for gates.
        memory_share: the part of the memory, by magnitude.
        delta: how far the attributions are from adding up to what they explain, as captum reports it; None for other
            methods.
        left_out: tokens at the end of the text for which there was no room.
    """

    checkpoint: str
    task: str
    method: str
    question: str
    said: str
    said_tokens: list[Said]
    probability: float
    log_probability: float
    without_text: float
    tokens: list[str]
    segment_of: list[int]
    segments: list[SegmentShare]
    views: list[View]
    window: int
    memory: float | None
    inside: float | None
    memory_share: float | None
    delta: float | None
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def strongest(self, count: int = 10) -> list[tuple[str, float]]:
        """The pieces with the largest numbers in the first view, with their numbers."""
        values = self.views[0].values
        order = sorted((place for place, one in enumerate(self.tokens) if one.strip()), key=lambda at: -abs(values[at]))
        return [(self.tokens[place], values[place]) for place in order[:count]]

    def page(self) -> Page:
        """The same for readers."""
        return _page(self)


@dataclass(frozen=True)
class _Reading:
    """What the model reads, and what is asked about it.

    Attributes:
        ids: (1, T + N - 1), padding, the text, what asks for the answer, and the answer but for its last token.
        empty: the same with padding in place of the text.
        first, last: the text is ids[first:last].
        said: N ids.
    """

    model: nn.Module
    ids: Tensor
    empty: Tensor
    first: int
    last: int
    said: list[int]
    segment: int
    window: int

    @property
    def asked(self) -> list[int]:
        """The places at which the answer's tokens are said."""
        return list(range(self.ids.shape[1] - len(self.said), self.ids.shape[1]))

    def log_probabilities(self, ids: Tensor) -> Tensor:
        """Rows (R, T + N - 1) -> (R, N) of each token said."""
        logits, _ = self.model(ids, None, len(self.said))
        log: Tensor = logits.float().log_softmax(2)
        return log[:, torch.arange(len(self.said)), self.said]

    def rows(self) -> int:
        """How many are read at once."""
        return max(1, AT_ONCE // self.ids.shape[1])

    @torch.no_grad()
    def falls(self, spans: Sequence[tuple[int, int]]) -> list[list[float]]:
        """By how much the log-probability of each token said falls where the text of a span is padding instead."""
        whole, found = self.log_probabilities(self.ids), []
        for start in range(0, len(spans), self.rows()):
            ids = self.ids.repeat(len(spans[start : start + self.rows()]), 1)
            for row, (first, end) in zip(ids, spans[start:], strict=False):
                row[first:end] = self.empty[0, first:end]
            found += (whole - self.log_probabilities(ids)).tolist()
        return found


@dataclass(frozen=True)
class _Found:
    """What a method found: of each token read, T + N - 1 of them, in one or several ways.

    Attributes:
        ways: title, about, values, and whether they are signed; values of pieces are sums, or means where `mean`.
        of_said: (N, T + N - 1), the first way for each token said; None where it does not tell them apart.
    """

    ways: list[tuple[str, str, Tensor, bool]]
    of_said: Tensor | None = None
    mean: bool = False
    delta: float | None = None


def explain(checkpoint: str | Path, text: str, question: str = "", method: str = "gradients") -> Explanation:
    """What the answer of a trained model to `text` rests on.

    Args:
        checkpoint: a folder that training wrote, of a task on texts.
        question: asked behind the text, for tasks that have one.
        method: one of `METHODS`.

            gradients: integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the answer's log-probability
            over the embedded tokens, by captum; the way begins at a text of padding. They add up to how much more
            probable the text makes the answer, but for `delta`.

            occlusion: spans of the text become padding, one at a time, and the log-probability falls. Needs no gradient;
            spans are single tokens as long as there are no more than `SPANS`.

            attention: the weights that each layer's attention gives from where the answer is said, mean of the heads.

            gates: what the gates of recurrent layers, and the write rates of associative ones, do at each token.

    Deviation from the usual practice: padding is replaced in the text alone; the tokens that ask for an answer and those
    of the answer that were said before stay, so what is explained is what the text contributes.

    Raises:
        UsageError: an unknown method, a model of a task without texts, an empty text, or no such thing in the model.
    """
    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'. Known: {', '.join(sorted(METHODS))}.")
    model, task, config = reopen(checkpoint)
    if not isinstance(task, TextTask):
        raise UsageError(f"{checkpoint} was trained for {config.task}, whose input is no text that could be explained.")
    if not text.strip():
        raise UsageError("There is nothing to explain: the text is empty.")
    example, room = Example(text, "", question), config.segments * task.segment
    prompt = task.prompt_ids(example, room)
    with torch.no_grad():
        padded, _ = pad([prompt], task.segment, task.tokenizer.pad)
        said = task.answers(model, padded)[0]
    reading = _reading(model, task, prompt, padded, Example(text, said, question), config.window or task.segment)
    found = METHODS[method](reading)
    with torch.no_grad():
        whole, without = (reading.log_probabilities(ids)[0].tolist() for ids in (reading.ids, reading.empty))

    shown = pieces(prompt[: reading.last - reading.first], _decoder(task))
    places = [[reading.first + one for one in each] for _, each in shown]
    views = [
        View(title, about, [_of_piece(values, each, found.mean) for each in places], signed)
        for title, about, values, signed in found.ways
    ]
    segments = _segments(reading, [one for one, _ in shown], places, views[0].values, found.mean)
    memory = inside = share = None
    if found.of_said is not None:
        memory, inside, share = _memory(reading, found.of_said)
    texts = [_decoder(task)([one]) for one in reading.said]
    if len(texts) == 1:  # a label is no token of the tokenizer's
        texts = [said]
    return Explanation(
        checkpoint=str(checkpoint),
        task=config.task,
        method=method,
        question=question,
        said=said,
        said_tokens=[Said(one, math.exp(value)) for one, value in zip(texts, whole, strict=True)],
        probability=math.exp(sum(whole)),
        log_probability=sum(whole),
        without_text=sum(without),
        tokens=[one for one, _ in shown],
        segment_of=[_number(reading, each[-1]) for each in places],
        segments=segments,
        views=views,
        window=reading.window,
        memory=memory,
        inside=inside,
        memory_share=share,
        delta=found.delta,
        left_out=len(task.prompt_ids(example, UNBOUNDED)) - len(prompt),
    )


def _reading(
    model: nn.Module, task: TextTask, prompt: list[int], padded: Tensor, answer: Example, window: int
) -> _Reading:
    said = task.answer_ids(answer)
    first = padded.shape[1] - len(prompt)
    ends = task.tokenizer.answer
    asks = len(ends) if ends and tuple(prompt[-len(ends) :]) == ends else 0
    last = padded.shape[1] - asks
    ids = torch.cat([padded, torch.tensor([said[:-1]], dtype=torch.int64)], 1)
    empty = ids.clone()
    empty[:, first:last] = task.tokenizer.pad
    return _Reading(model, ids, empty, first, last, said, task.segment, window)


def _decoder(task: TextTask) -> Callable[[list[int]], str]:
    return lambda ids: str(task.tokenizer.inner.decode(ids, skip_special_tokens=False))


# ---- the methods


def _gradients(reading: _Reading) -> _Found:
    try:
        from captum.attr import LayerIntegratedGradients
    except ImportError as error:
        raise UsageError("Integrated gradients need captum: pip install 'memspan[explain]'.") from error
    embedding = next((one for one in reading.model.modules() if isinstance(one, nn.Embedding)), None)
    if embedding is None:
        raise UsageError(
            "This model has no embedding of tokens that gradients could go back to: try --method occlusion."
        )
    of_said, deltas = [], []
    for number in range(len(reading.said)):

        def one_token(ids: Tensor, number: int = number) -> Tensor:
            return reading.log_probabilities(ids)[:, number]

        attributed, delta = LayerIntegratedGradients(one_token, embedding).attribute(
            reading.ids,
            baselines=reading.empty,
            n_steps=STEPS,
            internal_batch_size=reading.rows(),
            return_convergence_delta=True,
        )
        of_said.append(attributed[0].sum(1).detach())
        deltas.append(float(delta.sum()))
    return _by_said(
        "Integrated gradients",
        "nats of the answer's log-probability that each token is credited with",
        torch.stack(of_said),
        sum(deltas),
    )


def _occlusion(reading: _Reading) -> _Found:
    length = -(-(reading.last - reading.first) // SPANS)
    spans = [(start, min(start + length, reading.last)) for start in range(reading.first, reading.last, length)]
    values = torch.zeros(len(reading.said), reading.ids.shape[1])
    for (first, end), falls in zip(spans, reading.falls(spans), strict=True):
        values[:, first:end] = torch.tensor(falls)[:, None] / (end - first)
    what = "each token" if length == 1 else f"each span of {length} tokens (shared out evenly)"
    return _by_said("Occlusion", f"nats by which the answer's log-probability falls without {what}", values, None)


def _by_said(title: str, about: str, of_said: Tensor, delta: float | None) -> _Found:
    """The whole answer first, then each of its tokens if there are several."""
    ways = [(title, about, of_said.sum(0), True)]
    if len(of_said) > 1:
        ways += [(f"{title}: token {number} of the answer", about, one, True) for number, one in enumerate(of_said, 1)]
    return _Found(ways, of_said, delta=delta)


@torch.no_grad()
def _attention(reading: _Reading) -> _Found:
    layers: list[tuple[str, Tensor]] = []
    for title, seen in _watched(reading):
        if "weights" in seen and "places" in seen:
            weights = seen["weights"][0, reading.asked].mean(1)  # (N, keys)
            places = seen["places"][0, reading.asked]
            values = torch.zeros(len(places), reading.ids.shape[1])
            values.scatter_add_(1, places.clamp_min(0), weights.float() * (places >= 0))
            layers.append((title, values))
    if not layers:
        raise UsageError("No layer of this model attends to tokens: try --method gradients, gates or occlusion.")
    about = "weight that is given to each token from where the answer is said, mean of the heads"
    together = torch.stack([values for _, values in layers]).mean(0)
    ways = [("Attention, mean of all layers", about, together.mean(0), False)]
    ways += [(title, about, values.mean(0), False) for title, values in layers]
    return _Found(ways, together / len(together))


@torch.no_grad()
def _gates(reading: _Reading) -> _Found:
    ways = [
        (f"{title}: {name}", f"{GATES[name]}; mean of its units", value[0].float().flatten(1).mean(1), False)
        for title, seen in _watched(reading)
        for name, value in seen.items()
        if name in GATES
    ]
    if not ways:
        raise UsageError("No layer of this model has gates: try --method gradients, attention or occlusion.")
    return _Found(ways, mean=True)


def _watched(reading: _Reading) -> list[tuple[str, dict[str, Tensor]]]:
    """What each mechanism that reads the whole stream shows of itself: title, and name -> (1, T + N - 1, *)."""
    found = []
    for number, (path, mechanism, x) in enumerate(calls(reading.model, reading.ids), 1):
        if x.shape[1] == reading.ids.shape[1]:
            seen = mechanism.forward_with_internals(x)[2]
            of_steps = {name: value for name, value in seen.items() if value.shape[1:2] == x.shape[1:2]}
            found.append((f"{number}. {type(mechanism).__name__} ({path})", of_steps))
    return found


METHODS: dict[str, Callable[[_Reading], _Found]] = {
    "gradients": _gradients,
    "attention": _attention,
    "gates": _gates,
    "occlusion": _occlusion,
}


# ---- by piece, by segment, by what the memory knows


def _of_piece(values: Tensor, places: Sequence[int], mean: bool) -> float:
    found = values[list(places)]
    return float(found.mean() if mean else found.sum())


def _number(reading: _Reading, place: int) -> int:
    """The segment of a token; the first one with text is 1."""
    return place // reading.segment - reading.first // reading.segment + 1


def _segments(
    reading: _Reading, texts: list[str], places: list[list[int]], values: list[float], mean: bool
) -> list[SegmentShare]:
    window = reading.asked[0] // reading.window * reading.window
    starts = range(reading.first // reading.segment * reading.segment, reading.last, reading.segment)
    spans = [(max(start, reading.first), min(start + reading.segment, reading.last)) for start in starts]
    found = []
    for number, (span, falls) in enumerate(zip(spans, reading.falls(spans), strict=True), 1):
        inside = [place for place, each in enumerate(places) if _number(reading, each[-1]) == number]
        total = sum(values[place] for place in inside)
        found.append(
            SegmentShare(
                number=number,
                text="".join(texts[place] for place in inside),
                memory=span[1] <= window,
                value=total / max(1, len(inside)) if mean else total,
                fall=sum(falls),
            )
        )
    return found


def _memory(reading: _Reading, of_said: Tensor) -> tuple[float, float, float]:
    """What lies before the window in which each token was said, what within it, and the first one's part by magnitude."""
    asked = torch.tensor(reading.asked)[:, None]
    before = torch.arange(of_said.shape[1]) < asked // reading.window * reading.window
    read = torch.zeros_like(before)
    read[:, reading.first : reading.last] = True
    memory, inside = of_said[before & read], of_said[~before & read]
    size = float(memory.abs().sum() + inside.abs().sum())
    return float(memory.sum()), float(inside.sum()), float(memory.abs().sum()) / size if size else 0.0


# ---- for readers

UNITS = {"gradients": "nats", "occlusion": "fall, nats", "attention": "weight", "gates": "opening"}

HOW = {
    "gradients": "The stronger a token's colour, the more of the answer's log-probability is credited to it. What all tokens are "
    "credited with adds up to how much more probable the text makes the answer than an empty text does.",
    "occlusion": "The stronger a token's colour, the more the answer's log-probability falls when it is left out.",
    "attention": "The stronger a token's colour, the more weight a layer gave it where the answer was said. Attention tells where a "
    "layer looked, not what the answer needed: compare the last column of the segments.",
    "gates": "The stronger a token's colour, the more open the gate was there, between its lowest and highest opening in this text. "
    "Gates tell what a layer kept, not what the answer needed: compare the last column of the segments.",
}


def _page(found: Explanation) -> Page:
    first = found.views[0]
    facts = [
        ("Model", found.checkpoint),
        ("Task", found.task),
        ("Method", f"{found.method}: {first.about}"),
        (
            "Probability of the answer",
            f"{found.probability:.1%} (to an empty text: {math.exp(found.without_text):.1%})",
        ),
    ]
    if found.memory is not None and found.inside is not None and found.memory_share is not None:
        facts.append(
            (
                f"Before the window of {found.window} tokens",
                f"{found.memory:.3f}, within it {found.inside:.3f}: {found.memory_share:.0%} by magnitude come from memory",
            )
        )
    if found.delta is not None:
        facts.append(("Error of the integral", f"{found.delta:.4f} nats"))
    if found.left_out:
        facts.append(("Not read", f"{found.left_out:,} tokens at the end of the text, for which the model has no room"))
    rows = [
        [
            Cell(f"{one.number}"),
            Cell("memory" if one.memory else "window"),
            Cell(_begin(one.text)),
            Cell("", Bar(one.value)),
            Cell("", Bar(one.fall)),
        ]
        for one in found.segments
    ]
    how = "mean" if found.method == "gates" else "sum"
    tables = [
        Table("Segments", ["", "known from", "begins", f"{UNITS[found.method]}, {how}", "fall without it, nats"], rows)
    ]
    if len(found.said_tokens) > 1:
        said = [[Cell(one.token), Cell("", Bar(one.probability))] for one in found.said_tokens]
        tables.append(Table("What was said", ["token", "probability"], said))
    strongest = [[Cell(one), Cell("", Bar(value))] for one, value in found.strongest()]
    tables.append(Table("Strongest tokens", ["token", UNITS[found.method]], strongest))
    texts = []
    for view in found.views:
        marks = [
            "" if before == now else str(now)
            for before, now in zip([0, *found.segment_of], found.segment_of, strict=False)
        ]
        low = min(view.values, default=0.0) if found.method == "gates" else 0.0
        shown = [
            ShadedSpan(text, value, value - low, mark)
            for text, value, mark in zip(found.tokens, view.values, marks, strict=True)
        ]
        texts.append(Coloured(view.title, view.about, shown))
    return Page(
        title="What this answer rests on",
        question=found.question,
        answer=found.said,
        facts=facts,
        how=[HOW[found.method]],
        tables=tables,
        texts=texts,
        signed=first.signed,
    )


def _begin(text: str, length: int = 48) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= length else "".join(islice(plain, length)).rstrip() + " ..."
