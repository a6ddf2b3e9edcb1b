"""The attribution of a trained model's answer to the tokens and segments of the text it read.

Letters: T tokens read, N tokens of the answer.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from memspan.data.datasets import pad
from memspan.errors import UsageError
from memspan.evaluation.predict import reopen
from memspan.explain.explanation import AnswerToken, Explanation, SegmentShare, View
from memspan.explain.methods import METHODS, Attribution, Reading, check_method
from memspan.explain.token_spans import token_spans
from memspan.tasks import Example, TextTask, require

UNBOUNDED = 1 << 30  # tokens: room for any text


# Long, because half of it describes the methods.
def explain(checkpoint: str | Path, text: str, question: str = "", method: str = "gradients") -> Explanation:
    """The evidence in `text` for the answer of a trained model.

    Args:
        checkpoint: a folder that training wrote, of a task on texts.
        question: appended to the text, for tasks that have one.
        method: one of `METHODS`.

            gradients: integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the answer's log-probability
            by the embedded tokens, computed by captum from a text of padding, or, for a model that reads no padding, a
            text whose tokens are all the mean of its own. Up to `delta` they add up to the gain in log-probability over it.

            occlusion: spans of the text become padding, one at a time, and the log-probability falls. Needs no gradient;
            spans are single tokens as long as there are at most `methods.SPANS`.

            attention: the attention weights of each layer from the tokens of the answer, mean of the heads.

            gates: the gates of each layer at each token, such as an LSTM's or the write rate of the delta rule.

    Deviation from the usual practice: padding replaces the text alone; the tokens that introduce the answer and the earlier
    tokens of the answer stay, so that the explanation covers the contribution of the text.

    Raises:
        UsageError: an unknown method, a task without texts, an empty text, or a model without what the method needs.
    """
    check_method(method)
    model, learned, config = reopen(checkpoint)
    reason = f"{checkpoint} must be of a task on texts, got {config.task.name}."
    task = require(learned, TextTask, reason)
    if not text.strip():
        raise UsageError("There is nothing to explain: the text is empty.")
    example, room = Example(text, "", question), config.task.segments * task.segment
    prompt = task.prompt_ids(example, room)
    with torch.no_grad():
        is_read = getattr(model.config, "padding", None) is None  # then the text ends with a segment, as in training
        padded, _ = pad([prompt], task.segment if is_read else 1, task.tokenizer.pad)
        answer = task.answers(model, padded)[0]
    reading = _reading(
        model, task, prompt, padded, Example(text, answer, question), config.model.window or task.segment
    )
    attribution = METHODS[method](reading)
    before, within, share = _by_window(reading, attribution.by_answer_token)
    with torch.no_grad():
        log = reading.log_probabilities(reading.ids)[0].tolist()
        empty_log = attribution.without_text or reading.log_probabilities(reading.empty)[0].tolist()
    spans = _spans(reading, task, prompt)
    views = _views(attribution, spans)
    return Explanation(
        checkpoint=str(checkpoint),
        task=config.task.name,
        method=method,
        question=question,
        answer=answer,
        answer_tokens=_answer_tokens(reading, task, answer, log),
        probability=math.exp(sum(log)),
        log_probability=sum(log),
        log_probability_without_text=sum(empty_log),
        tokens=[span for span, _ in spans],
        segment_of=[_segment_number(reading, tokens[-1]) for _, tokens in spans],
        segments=_segments(reading, spans, views[0].values, attribution.mean),
        views=views,
        window=reading.window,
        before_window=before,
        within_window=within,
        memory_share=share,
        delta=attribution.delta,
        tokens_left_out=len(task.prompt_ids(example, UNBOUNDED)) - len(prompt),
    )


Spans = list[tuple[str, list[int]]]  # the text of each span, and the indices of its tokens in `Reading.ids`


def _reading(
    model: nn.Module, task: TextTask, prompt: list[int], padded: Tensor, example: Example, window: int
) -> Reading:
    answer = task.answer_ids(example)
    first = padded.shape[1] - len(prompt)
    introduction = task.tokenizer.answer
    ends_with_it = introduction and tuple(prompt[-len(introduction) :]) == introduction
    last = padded.shape[1] - (len(introduction) if ends_with_it else 0)
    ids = torch.cat([padded, torch.tensor([answer[:-1]], dtype=torch.int64)], 1)
    empty = ids.clone()
    empty[:, first:last] = task.tokenizer.pad
    return Reading(model, ids, empty, first, last, answer, task.segment, window)


def _decoder(task: TextTask) -> Callable[[list[int]], str]:
    return lambda ids: str(task.tokenizer.inner.decode(ids, skip_special_tokens=False))


def _spans(reading: Reading, task: TextTask, prompt: list[int]) -> Spans:
    text = prompt[: reading.last - reading.first]
    return [(span, [reading.first + token for token in tokens]) for span, tokens in token_spans(text, _decoder(task))]


def _answer_tokens(reading: Reading, task: TextTask, answer: str, log: Sequence[float]) -> list[AnswerToken]:
    texts = [_decoder(task)([token]) for token in reading.answer]
    if len(texts) == 1:  # a label is not a token of the tokenizer
        texts = [answer]
    return [AnswerToken(text, math.exp(value)) for text, value in zip(texts, log, strict=True)]


def _views(attribution: Attribution, spans: Spans) -> list[View]:
    """The views of a method over spans instead of tokens."""

    def of_span(values: Tensor, tokens: list[int]) -> float:
        return float(values[tokens].mean() if attribution.mean else values[tokens].sum())

    return [
        View(view.title, view.about, [of_span(view.values, tokens) for _, tokens in spans], view.signed)
        for view in attribution.views
    ]


def _segment_number(reading: Reading, index: int) -> int:
    """The segment of a token; the first segment with text is 1."""
    return index // reading.segment - reading.first // reading.segment + 1


def _segments(reading: Reading, spans: Spans, values: list[float], mean: bool) -> list[SegmentShare]:
    """The contribution of each segment; a span belongs to the segment of its last token."""
    window_start = reading.answer_indices[0] // reading.window * reading.window
    starts = range(reading.first // reading.segment * reading.segment, reading.last, reading.segment)
    segments = [(max(start, reading.first), min(start + reading.segment, reading.last)) for start in starts]
    shares = []
    for number, (segment, falls) in enumerate(zip(segments, reading.falls(segments), strict=True), 1):
        inside = [index for index, (_, tokens) in enumerate(spans) if _segment_number(reading, tokens[-1]) == number]
        total = sum(values[index] for index in inside)
        share = SegmentShare(
            number=number,
            text="".join(spans[index][0] for index in inside),
            before_window=segment[1] <= window_start,
            value=total / max(1, len(inside)) if mean else total,
            fall=sum(falls),
        )
        shares.append(share)
    return shares


def _by_window(reading: Reading, values: Tensor | None) -> tuple[float | None, float | None, float | None]:
    """Attributions (N, T + N - 1) summed before and within the window of each answer token, and the former's share."""
    if values is None:
        return None, None, None
    answer = torch.tensor(reading.answer_indices)[:, None]
    before = torch.arange(values.shape[1]) < answer // reading.window * reading.window
    is_text = torch.zeros_like(before)
    is_text[:, reading.first : reading.last] = True
    memory, window = values[before & is_text], values[~before & is_text]
    size = float(memory.abs().sum() + window.abs().sum())
    return float(memory.sum()), float(window.sum()), float(memory.abs().sum()) / size if size else 0.0
