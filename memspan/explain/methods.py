"""Methods that attribute a trained model's answer to the tokens it read: gradients, occlusion, attention and gates.

Letters: T tokens read, N tokens of the answer, R rows, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.explain.trace import calls
from memspan.mechanisms import Internals
from memspan.mechanisms.base import SHARE
from memspan.plugins import require_installed

STEPS = 32  # of the integral, Gauss-Legendre
TOKENS_AT_ONCE = 16_384  # of one forward pass
SPANS = 256  # largest number of spans that are occluded one by one


@dataclass(frozen=True)
class Reading:
    """A model, and the text and answer that it is run on.

    Attributes:
        model: in eval mode.
        ids: (1, T + N - 1): padding, the text, the tokens that introduce the answer, and the answer but for its last token.
        empty: `ids` with padding in place of the text.
        first, last: the text is ids[first:last].
        answer: the N ids of the answer.
        segment, window: tokens of a segment, and tokens that a layer sees at once.
    """

    model: nn.Module
    ids: Tensor
    empty: Tensor
    first: int
    last: int
    answer: list[int]
    segment: int
    window: int

    @property
    def reads_padding(self) -> bool:
        """Whether padding is text to the model, as any token is."""
        return getattr(self.model.config, "padding", None) is None

    @property
    def answer_indices(self) -> list[int]:
        """The indices of the tokens from which the tokens of the answer are predicted."""
        return list(range(self.ids.shape[1] - len(self.answer), self.ids.shape[1]))

    @property
    def rows(self) -> int:
        """The number of rows in one forward pass."""
        return max(1, TOKENS_AT_ONCE // self.ids.shape[1])

    def log_probabilities(self, ids: Tensor) -> Tensor:
        """ids (R, T + N - 1) -> (R, N), the log-probability of each token of the answer."""
        logits, _ = self.model(ids, None, len(self.answer))
        log: Tensor = logits.float().log_softmax(2)
        return log[:, torch.arange(len(self.answer)), self.answer]

    @torch.no_grad()
    def falls(self, spans: Sequence[tuple[int, int]]) -> list[list[float]]:
        """For each span, by how much the log-probability of each answer token falls if its text becomes padding."""
        whole = self.log_probabilities(self.ids)
        falls: list[list[float]] = []
        for start in range(0, len(spans), self.rows):
            ids = self.ids.repeat(len(spans[start : start + self.rows]), 1)
            for row, (first, end) in zip(ids, spans[start:], strict=False):
                row[first:end] = self.empty[0, first:end]
            falls += (whole - self.log_probabilities(ids)).tolist()
        return falls


@dataclass(frozen=True)
class TokenView:
    """One number for each token read.

    Attributes:
        title, about: the quantity, and a description of it.
        values: (T + N - 1,).
        signed: values below 0 are evidence against the answer.
    """

    title: str
    about: str
    values: Tensor
    signed: bool


@dataclass(frozen=True)
class Attribution:
    """The result of a method.

    Attributes:
        views: the result, followed by its parts.
        by_answer_token: (N, T + N - 1), the first view for each token of the answer; None if they are not separate.
        mean: tokens are combined by their mean rather than their sum.
        delta: the error of the integral, in nats; None for methods without one.
        without_text: the log-probability of each token of the answer where the integral begins; None without one.
    """

    views: list[TokenView]
    by_answer_token: Tensor | None = None
    mean: bool = False
    delta: float | None = None
    without_text: list[float] | None = None


def gradients(reading: Reading) -> Attribution:
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) by the embedded tokens, from a text of padding.

    A model that reads no padding starts from a text whose tokens are all the mean of its own.
    """
    from captum.attr import IntegratedGradients

    embedding = next((module for module in reading.model.modules() if isinstance(module, nn.Embedding)), None)
    if embedding is None:
        raise UsageError("The model must have an embedding of tokens for gradients, got none: try --method occlusion.")
    embedded, baseline = _path(reading, embedding)
    attributions, deltas, begins = [], [], []
    for number in range(len(reading.answer)):

        def log_probability(embedded: Tensor, number: int = number) -> Tensor:
            handle = embedding.register_forward_hook(lambda *_: embedded)
            try:
                return reading.log_probabilities(reading.ids.expand(len(embedded), -1))[:, number]
            finally:
                handle.remove()

        attributed, delta = IntegratedGradients(log_probability).attribute(
            embedded,
            baselines=baseline,
            n_steps=STEPS,
            internal_batch_size=reading.rows,
            return_convergence_delta=True,
        )
        attributions.append(attributed[0].sum(1).detach())
        deltas.append(float(delta.sum()))
        with torch.no_grad():
            begins.append(float(log_probability(baseline)))
    about = "share of each token in the answer's log-probability, in nats"
    attribution = _by_answer_token("Integrated gradients", about, torch.stack(attributions), sum(deltas))
    return replace(attribution, without_text=begins)


@torch.no_grad()
def _path(reading: Reading, embedding: nn.Module) -> tuple[Tensor, Tensor]:
    """The embedded tokens, and those of the text that says nothing, (1, T + N - 1, D): the ends of the integral."""
    embedded, baseline = embedding(reading.ids), embedding(reading.empty)
    if not reading.reads_padding:  # the embedding of padding was never trained
        baseline[:, reading.first : reading.last] = embedded[:, reading.first : reading.last].mean(1, keepdim=True)
    return embedded, baseline


def occlusion(reading: Reading) -> Attribution:
    """The fall of the log-probability if one span of the text at a time becomes padding."""
    length = -(-(reading.last - reading.first) // SPANS)
    spans = [(start, min(start + length, reading.last)) for start in range(reading.first, reading.last, length)]
    values = torch.zeros(len(reading.answer), reading.ids.shape[1])
    for (first, end), falls in zip(spans, reading.falls(spans), strict=True):
        values[:, first:end] = torch.tensor(falls)[:, None] / (end - first)
    span = "each token" if length == 1 else f"each span of {length} tokens (divided evenly among them)"
    return _by_answer_token("Occlusion", f"fall of the answer's log-probability without {span}, in nats", values, None)


def _by_answer_token(title: str, about: str, values: Tensor, delta: float | None) -> Attribution:
    """The whole answer first, then each of its tokens if there are several."""
    views = [TokenView(title, about, values.sum(0), True)]
    if len(values) > 1:
        views += [
            TokenView(f"{title}: token {number} of the answer", about, row, True)
            for number, row in enumerate(values, 1)
        ]
    return Attribution(views, values, delta=delta)


@torch.no_grad()
def attention(reading: Reading) -> Attribution:
    """The attention weights of every layer from the tokens of the answer, mean of the heads."""
    layers: list[tuple[str, Tensor]] = []
    for title, internals in _internals(reading):
        attention = internals.attention
        if attention is not None and attention.positions is not None:
            weights = attention.weights[0, reading.answer_indices].mean(1)  # (N, keys)
            positions = attention.positions[0, reading.answer_indices]
            values = torch.zeros(len(positions), reading.ids.shape[1])
            values.scatter_add_(1, positions.clamp_min(0), weights.float() * (positions >= 0))
            layers.append((title, values))
    if not layers:
        raise UsageError("No layer of this model attends to tokens: try --method gradients, gates or occlusion.")
    about = "attention weight of each token from the tokens of the answer, mean of the heads"
    together = torch.stack([values for _, values in layers]).mean(0)
    views = [TokenView("Attention, mean of all layers", about, together.mean(0), False)]
    views += [TokenView(title, about, values.mean(0), False) for title, values in layers]
    return Attribution(views, together / len(together))


@torch.no_grad()
def gates(reading: Reading) -> Attribution:
    """The openings of every gate of every layer at each token, mean of its units."""
    views = [
        TokenView(f"{title}: {name}", f"{gate.meaning}; mean of its units", _mean_of_units(gate.value), False)
        for title, internals in _internals(reading)
        for name, gate in internals.gates.items()
        if gate.bounds == SHARE
    ]
    if not views:
        raise UsageError("No layer of this model has gates: try --method gradients, attention or occlusion.")
    return Attribution(views, mean=True)


def _mean_of_units(value: Tensor) -> Tensor:
    """(1, S, ...) -> (S,)."""
    return value[0].float().flatten(1).mean(1) if value.dim() > 2 else value[0].float()


def _internals(reading: Reading) -> list[tuple[str, Internals]]:
    """The title and the internals of each mechanism that reads the whole stream."""
    return [
        (f"{number}. {type(mechanism).__name__} ({path})", mechanism.forward_with_internals(x)[2])
        for number, (path, mechanism, x) in enumerate(calls(reading.model, reading.ids), 1)
        if x.shape[1] == reading.ids.shape[1]
    ]


def check_method(name: str) -> None:
    """Raises UsageError for an unknown method, and for one whose library is not installed."""
    if name not in METHODS:
        raise UsageError(f"There is no method '{name}'. Known: {', '.join(sorted(METHODS))}.")
    if name == "gradients":
        require_installed("Integrated gradients need", "captum")


METHODS: dict[str, Callable[[Reading], Attribution]] = {
    "gradients": gradients,
    "attention": attention,
    "gates": gates,
    "occlusion": occlusion,
}
