"""Which passages of a memory bear on a question: the model's own retrieval heads, and the words.

Letters: T tokens of a block, P passages, S question tokens, H query heads, G key-value heads, K head size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspan.memory.store.snapshot import Block

Floats = NDArray[np.float32]

# Sharper than the model's own softmax: over tens of thousands of keys the tail of irrelevant ones outweighs the few that
# matter. Measured on questions outside the benchmarks, see LOG.md.
SHARPNESS = 1.5
# A question token counts for a passage when its attention there is well above an even share of the whole memory.
EVEN_SHARES = 0.1
FAR_OUT = np.float32(6.0)  # standard deviations
TOKENS_AT_ONCE = 16_384


@dataclass(frozen=True)
class HeadQuery:
    """A question as the retrieval heads see it.

    Attributes:
        queries: float32 (S, H, K), un-rotated and already multiplied by the model's attention scale.
        groups: for each of the H query heads, the index among the G kept key-value heads that it reads.
    """

    queries: Floats
    groups: tuple[int, ...]


def head_scores(question: HeadQuery, blocks: Iterable[Block]) -> Floats:
    """How strongly the heads point at each passage, float32 (P,), higher is better.

    Each head attends from every question token over the keys of the whole memory at once. A passage gets, for every
    head and token, log(1 + its share of the attention / an even share), so that a token that attends everywhere (a stop
    word) says nothing and one that finds its place says much.
    """
    scores: Floats = _pointed(question, blocks).sum(axis=0, dtype=np.float32)
    return scores


def token_scores(question: HeadQuery, blocks: Iterable[Block], numbers: Sequence[int]) -> list[Floats]:
    """The `head_scores` of the passages `numbers`, shared out among their tokens, float32 (T,) each.

    What a head gives a passage for a question token, it gives the passage's tokens by its attention among them.
    """
    blocks = list(blocks)
    pointed = _pointed(question, blocks)
    groups, found = np.asarray(question.groups), []
    for number in numbers:
        block = next(one for one in reversed(blocks) if one.first <= number)
        row = number - block.first
        begin, end = 0 if row == 0 else int(block.ends[row - 1]), int(block.ends[row])
        inside = []
        for group in np.unique(groups):  # the order of rows is that of `_log_mass`
            keys = block.keys[begin:end, group].astype(np.float32)
            keys *= block.scales[begin:end, group, None].astype(np.float32)
            scores = (question.queries[:, groups == group].reshape(-1, keys.shape[1]) * SHARPNESS) @ keys.T
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            inside.append(weights / weights.sum(axis=1, keepdims=True))
        found.append((pointed[:, number] @ np.concatenate(inside)).astype(np.float32))
    return found


def _pointed(question: HeadQuery, blocks: Iterable[Block]) -> Floats:
    """What each head gives each passage for each question token, (S * H, P)."""
    pieces = [_log_mass(question, block) for block in blocks]
    if not pieces:
        return np.zeros((1, 0), np.float32)
    log_mass = np.concatenate(pieces, axis=1)
    top = log_mass.max(axis=1, keepdims=True)
    mass = np.exp(log_mass - top)
    mass /= mass.sum(axis=1, keepdims=True)
    shares = mass.shape[1] * EVEN_SHARES
    pointed: Floats = np.log1p(mass * shares)
    return pointed


def _log_mass(question: HeadQuery, block: Block) -> Floats:
    """The log of the summed exp(score) of every passage for each head and question token: (S * H, P)."""
    groups = np.asarray(question.groups)
    starts = np.concatenate([[0], block.ends[:-1]])
    out = []
    first = 0
    while first < len(starts):
        # As many whole passages as fit, at least one: bounded memory however large the block.
        last = max(first + 1, int(np.searchsorted(block.ends, starts[first] + TOKENS_AT_ONCE, side="right")))
        begin, end = int(starts[first]), int(block.ends[last - 1])
        inside = starts[first:last] - begin
        rows = []
        for group in np.unique(groups):
            keys = block.keys[begin:end, group].astype(np.float32)
            keys *= block.scales[begin:end, group, None].astype(np.float32)
            queries = question.queries[:, groups == group].reshape(-1, keys.shape[1])
            scores = (queries * SHARPNESS) @ keys.T
            top = scores.max(axis=1, keepdims=True)
            mass = np.add.reduceat(np.exp(scores - top), inside, axis=1)
            rows.append(np.log(np.maximum(mass, np.finfo(np.float32).tiny)) + top)
        out.append(np.concatenate(rows))
        first = last
    return np.concatenate(out, axis=1).astype(np.float32)


def fuse(heads: Floats, words: Floats) -> Floats:
    """The sum of the standard scores, (P,): each ranker counts by how far a passage stands out in it.

    Attention is spread more unevenly than words: its root is taken, and what still stands out by more than `FAR_OUT`
    counts no more than that. Some tokens draw attention whatever is asked, and no passage may win by them against the words.
    """
    return np.minimum(_standard(np.sqrt(heads)), FAR_OUT) + _standard(words)


def _standard(scores: Floats) -> Floats:
    spread = scores.std()
    standard: Floats = (scores - scores.mean()) / spread if spread > 0 else np.zeros_like(scores)
    return standard


def best(scores: Floats, count: int) -> list[int]:
    """The numbers of the `count` best passages, best first; of equals the earlier comes first."""
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


def groups_of(heads: Sequence[tuple[int, int]], key_heads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """For each head's (layer, key-value head), its index among the kept ones."""
    return tuple(list(key_heads).index(head) for head in heads)
