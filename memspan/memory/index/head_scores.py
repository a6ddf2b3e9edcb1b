"""Scores of passages for a question by the attention of the model's retrieval heads.

Letters: T tokens of a block, P passages, S question tokens, H query heads, G key-value heads, K head size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspan.memory.store.snapshot import Block

Floats = NDArray[np.float32]

# Multiplies the scores before the softmax: over tens of thousands of keys the tail of irrelevant ones would outweigh the
# few relevant ones. Measured on questions outside the benchmarks, see LOG.md.
SHARPNESS = 1.5
EVEN_SHARES = 0.1  # weight of attention relative to an even share of the whole memory, within the logarithm
# In SmolLM2 on 52,000 tokens no key is longer than 3.3 times the shortest tenth: only keys that no text has are cut.
MAX_KEY_LENGTH = np.float32(4.0)
SAMPLED = 1024  # tokens of a block that tell the length of ordinary keys
TOKENS_AT_ONCE = 16_384
SCORES_AT_ONCE = 2**22  # of a key-value head: fewer tokens at once where many queries read them


@dataclass(frozen=True)
class HeadQuery:
    """The queries of a question by the retrieval heads.

    Attributes:
        queries: float32 (S, H, K), un-rotated and already multiplied by the model's attention scale.
        groups: for each of the H query heads, the index among the G kept key-value heads that it reads.
    """

    queries: Floats
    groups: tuple[int, ...]


def head_scores(question: HeadQuery, blocks: Iterable[Block]) -> Floats:
    """The attention of the heads to each passage, float32 (P,), higher is better.

    Each head attends from every question token over the keys of the whole memory at once. The score of a passage is the
    sum over heads and tokens of log(1 + `EVEN_SHARES` * its share of the attention / an even share), so that a token that
    attends everywhere (a stop word) adds little, and one that attends to a single passage adds much.
    """
    scores: Floats = _contributions(question, blocks).sum(axis=0, dtype=np.float32)
    return scores


def scores_of_masses(log_masses: Floats, counts: Floats | None = None) -> Floats:
    """The `head_scores` of the passages of a memory, (P,), or of some where the others are known by some of them.

    Args:
        log_masses: of these passages, see `log_masses`, (S * H, P).
        counts: how many passages of the memory each stands for, (P,); None for itself alone.
    """
    scores: Floats = _shares(log_masses, counts).sum(axis=0, dtype=np.float32)
    return scores


def scores_by_head(questions: Sequence[HeadQuery], blocks: Iterable[Block]) -> Floats:
    """The share of each head in the `head_scores` of several questions, which the same heads ask: float32 (Q, H, P).

    The keys are de-quantised once for all questions and for all heads that read them.
    """
    groups = np.asarray(questions[0].groups)
    queries = np.concatenate([question.queries for question in questions])
    rows = _contributions(HeadQuery(queries, questions[0].groups), blocks)
    by_head = np.empty((*queries.shape[:2], rows.shape[1]), np.float32)
    first = 0
    for group in np.unique(groups):  # the order of rows is that of `log_masses`
        heads = np.flatnonzero(groups == group)
        last = first + len(queries) * len(heads)
        by_head[:, heads] = rows[first:last].reshape(len(queries), len(heads), -1)
        first = last
    starts = np.cumsum([0, *[len(question.queries) for question in questions[:-1]]])
    scores: Floats = np.add.reduceat(by_head, starts, axis=0)
    return scores


def token_scores(question: HeadQuery, blocks: Iterable[Block], numbers: Sequence[int]) -> list[Floats]:
    """The `head_scores` of the passages `numbers`, divided among their tokens, float32 (T,) each.

    The contribution of a head and a question token to a passage is divided by the head's attention within the passage.
    """
    blocks = list(blocks)
    contributions, limits = _contributions(question, blocks), longest_scales(blocks)
    groups = np.asarray(question.groups)
    scores_by_passage = []
    for number in numbers:
        block = next(block for block in reversed(blocks) if block.first <= number)
        row = number - block.first
        begin, end = 0 if row == 0 else int(block.ends[row - 1]), int(block.ends[row])
        inside = []
        for group in np.unique(groups):  # the order of rows is that of `log_masses`
            keys = _keys(block, begin, end, group, limits)
            scores = (question.queries[:, groups == group].reshape(-1, keys.shape[1]) * SHARPNESS) @ keys.T
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            inside.append(weights / weights.sum(axis=1, keepdims=True))
        scores_by_passage.append((contributions[:, number] @ np.concatenate(inside)).astype(np.float32))
    return scores_by_passage


def _contributions(question: HeadQuery, blocks: Iterable[Block]) -> Floats:
    """The contribution of each question token and head to the score of each passage, (S * H, P)."""
    blocks = list(blocks)
    limits = longest_scales(blocks)
    by_block = [log_masses(question, block, limits) for block in blocks]
    if not by_block:
        return np.zeros((1, 0), np.float32)
    log_mass = np.concatenate(by_block, axis=1)
    return _shares(log_mass)


def _shares(log_mass: Floats, counts: Floats | None = None) -> Floats:
    """The contributions, (S * H, P), of passages that stand for `counts` of them each, (P,), or for themselves alone."""
    top = log_mass.max(axis=1, keepdims=True)
    mass = np.exp(log_mass - top)
    mass /= mass.sum(axis=1, keepdims=True) if counts is None else (mass @ counts)[:, None]
    shares = (mass.shape[1] if counts is None else float(counts.sum(dtype=np.float64))) * EVEN_SHARES
    contributions: Floats = np.log1p(mass * shares)
    return contributions


def longest_scales(blocks: Sequence[Block]) -> Floats:
    """The largest scale that counts, (G,): no token may outshout all others by the length of its key alone."""
    samples = [block.scales[:: len(block.scales) // SAMPLED + 1].astype(np.float32) for block in blocks]
    if not samples:
        return np.zeros(0, np.float32)
    limits: Floats = MAX_KEY_LENGTH * np.nanquantile(np.concatenate(samples), 0.1, axis=0).astype(np.float32)
    return limits


def _keys(block: Block, begin: int, end: int, group: int, limits: Floats) -> Floats:
    """The keys (T, K) of one key-value head for the tokens from `begin` to `end`."""
    scales = np.fmin(block.scales[begin:end, group, None].astype(np.float32), limits[group])
    keys: Floats = block.keys[begin:end, group].astype(np.float32)
    keys *= scales
    return keys


def log_masses(question: HeadQuery, block: Block, limits: Floats) -> Floats:
    """The log of the summed exp(score) of every passage for each head and question token: (S * H, P)."""
    groups = np.asarray(question.groups)
    starts = np.concatenate([[0], block.ends[:-1]])
    rows_at_once = len(question.queries) * int(np.unique(groups, return_counts=True)[1].max())
    tokens_at_once = min(TOKENS_AT_ONCE, SCORES_AT_ONCE // rows_at_once)
    out = []
    first = 0
    while first < len(starts):
        # As many whole passages as fit, at least one: bounded memory however large the block.
        last = max(first + 1, int(np.searchsorted(block.ends, starts[first] + tokens_at_once, side="right")))
        begin, end = int(starts[first]), int(block.ends[last - 1])
        inside = starts[first:last] - begin
        rows = []
        for group in np.unique(groups):
            keys = _keys(block, begin, end, group, limits)
            queries = question.queries[:, groups == group].reshape(-1, keys.shape[1])
            scores = (queries * SHARPNESS) @ keys.T
            top = scores.max(axis=1, keepdims=True)
            mass = np.add.reduceat(np.exp(scores - top), inside, axis=1)
            rows.append(np.log(np.maximum(mass, np.finfo(np.float32).tiny)) + top)
        out.append(np.concatenate(rows))
        first = last
    return np.concatenate(out, axis=1).astype(np.float32)


def gathered(blocks: Iterable[Block], numbers: Sequence[int] | NDArray[np.int64]) -> Block:
    """The passages `numbers`, ascending, without their vectors, copied from their blocks as one block from number 0."""
    keys, scales, lengths = [], [], []
    for block in blocks:
        first, last = np.searchsorted(numbers, [block.first, block.first + len(block.ends)])
        for row in (np.asarray(numbers[first:last]) - block.first).tolist():
            begin, end = 0 if row == 0 else int(block.ends[row - 1]), int(block.ends[row])
            keys.append(block.keys[begin:end])
            scales.append(block.scales[begin:end])
            lengths.append(end - begin)
    return Block(0, np.concatenate(keys), np.concatenate(scales), np.cumsum(lengths, dtype=np.int64))


def best(scores: Floats, count: int) -> list[int]:
    """The numbers of the `count` best passages, best first; of equals the earlier comes first."""
    if count < len(scores) // 8:  # the others need no order
        among = np.flatnonzero(scores >= np.partition(scores, -max(1, count))[-max(1, count)])
        return among[np.argsort(-scores[among], kind="stable")[:count]].tolist()  # type: ignore[no-any-return]
    return [int(number) for number in np.argsort(-scores, kind="stable")[:count]]


def quantise(keys: Floats) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """float keys (T, G, K) -> int8 keys and float16 scales (T, G), key = int8 * scale: one byte a number.

    Raises ValueError if a key is not finite.
    """
    if not np.isfinite(keys).all():
        raise ValueError("a key is not finite")
    scales = (np.abs(keys).max(axis=2) / 127).astype(np.float16)
    scales = np.maximum(scales, np.float16(6e-8))
    rounded = np.rint(keys / scales[..., None].astype(np.float32)).clip(-127, 127)
    return rounded.astype(np.int8), scales
