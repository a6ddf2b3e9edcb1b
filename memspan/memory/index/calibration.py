"""Calibration: the choice of a model's retrieval heads, measured once per model on an invented corpus."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from memspan.data.plain_text import plain_ids
from memspan.errors import UsageError
from memspan.memory.index.encoder import repeated_question
from memspan.memory.index.head_scores import HeadQuery, quantise, scores_by_head
from memspan.memory.index.probe_corpus import haystack
from memspan.memory.store.snapshot import Block
from memspan.pretrained.calibrations import Calibration
from memspan.pretrained.heads import Head, HeadReader, sink_of

PASSAGES, NEEDLES, SEED = 60, 30, 20  # more choose no better heads, see LOG.md
MOST_HEADS = 8  # each further head dilutes the others by more than it adds
MIN_QUALITY = 0.75  # smallest mean reciprocal rank of a chosen head, as a share of the best one's
DEPTH = 2 / 3  # of the layers, from the bottom: heads above slow down reading by more than they improve it, see LOG.md
PER_SEGMENT = 4  # passages
PER_BATCH = 10  # questions
QUESTIONS_SHARE, TEXTS_SHARE = 0.1, 0.6  # of the time, when the questions and then the texts are encoded


@dataclass(frozen=True)
class RetrievalHeads(Calibration):
    """The chosen heads, best first, and their quality on the calibration corpus.

    Attributes:
        heads: (layer, query head) pairs.
        reciprocal_rank: mean over the needles, of all heads together.
        first: share of needles ranked first, by all heads together.
    """

    kind = "heads"
    has_old_files = True

    heads: tuple[Head, ...]
    reciprocal_rank: float
    first: float

    def check(self, layers: int, query_heads: int) -> None:
        """Raises UsageError for heads that a model with so many layers and query heads does not have."""
        fault = None
        if not self.heads or len(set(self.heads)) != len(self.heads):
            fault = "be at least one, and each a different one"
        elif not all(0 <= layer < layers and 0 <= head < query_heads for layer, head in self.heads):
            fault = f"lie within the {layers} layers and {query_heads} query heads of the model"
        elif not (0 < self.reciprocal_rank <= 1 and 0 <= self.first <= 1):
            fault = "have qualities from 0 to 1"
        if fault is not None:
            raise UsageError(f"The retrieval heads must {fault}, got {self}.")

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """The heads of a file. Raises ValueError, TypeError or KeyError for anything else."""
        if not all(type(number) is int for head in record["heads"] for number in head):
            raise ValueError("a head must be two whole numbers")
        heads = tuple((layer, head) for layer, head in record["heads"])
        return cls(heads, float(record["reciprocal_rank"]), float(record["first"]))


def calibrate(
    reader: HeadReader,
    tokenizer: Any,
    progress: Callable[[float], None] | None = None,
    *,
    passages: int = PASSAGES,
    needles: int = NEEDLES,
) -> RetrievalHeads:
    """The heads of the lower layers that together best find facts hidden in invented prose.

    The head that finds most by itself comes first; then heads nearly as good are added, at each step the best addition,
    until each would make the set worse (greedy forward selection). So the set is at least as good as its best head.

    Args:
        progress: called now and then with the share of the work that is done, 0 to 1.
        passages: of the corpus.
        needles: questions, each about one passage.
    """
    texts, facts = haystack(passages, needles, SEED)
    relevant = np.array([fact.passage for fact in facts])
    scores = _scores_by_head(reader, tokenizer, texts, [fact.question for fact in facts], progress or (lambda _: None))

    def quality(*heads: Head) -> float:
        together = standing_out(np.sum([scores[head] for head in heads], axis=0))
        return float((1 / ranks(together, relevant)).mean())

    alone = {head: quality(head) for head in scores}
    ranked = sorted(alone, key=lambda head: -alone[head])
    candidates = [head for head in ranked if alone[head] >= MIN_QUALITY * alone[ranked[0]]]
    chosen, reached = candidates[:1], alone[ranked[0]]
    while len(chosen) < MOST_HEADS and len(chosen) < len(candidates):
        additions = {head: quality(*chosen, head) for head in candidates if head not in chosen}
        best = max(additions, key=lambda head: additions[head])  # of equals the better alone
        if additions[best] < reached:
            break
        chosen.append(best)
        reached = additions[best]
    first = ranks(standing_out(np.sum([scores[head] for head in chosen], axis=0)), relevant) == 1
    return RetrievalHeads(tuple(chosen), reached, float(first.mean()))


def standing_out(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Head scores (Q, P) as standard scores, less the mean of what a passage draws from the other questions.

    Some passages draw attention whatever the question, as the first passage of a text does: without the difference, heads
    would be chosen by how little they give to these.
    """
    roots = np.sqrt(scores)
    standard = (roots - roots.mean(axis=1, keepdims=True)) / np.maximum(roots.std(axis=1, keepdims=True), 1e-6)
    others = (standard.sum(axis=0) - standard) / max(1, len(scores) - 1)
    difference: NDArray[np.float32] = standard - others
    return difference


def ranks(scores: NDArray[np.float32], relevant: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank, from 1, of the relevant passage of each question; ties count against it."""
    own = scores[np.arange(len(relevant)), relevant]
    ranked: NDArray[np.int64] = (scores >= own[:, None]).sum(axis=1)
    return ranked


def _scores_by_head(
    reader: HeadReader,
    tokenizer: Any,
    texts: Sequence[str],
    questions: Sequence[str],
    progress: Callable[[float], None],
) -> dict[Head, NDArray[np.float32]]:
    """For each head of the lower layers, its scores of every passage for every question, (questions, passages)."""
    count = math.ceil(DEPTH * reader.layers)
    segments = [texts[first : first + PER_SEGMENT] for first in range(0, len(texts), PER_SEGMENT)]
    queries, encoded = [], []
    for first in range(0, len(questions), PER_BATCH):
        queries += _queries(reader, tokenizer, questions[first : first + PER_BATCH], count)
        progress(QUESTIONS_SHARE * len(queries) / len(questions))
    for number, segment in enumerate(segments, start=1):
        encoded.append(_layers(reader, tokenizer, segment, count))
        progress(QUESTIONS_SHARE + (TEXTS_SHARE - QUESTIONS_SHARE) * number / len(segments))
    groups = tuple(reader.key_head((0, head))[1] for head in range(reader.query_heads))
    scores: dict[Head, NDArray[np.float32]] = {}
    for layer in range(count):
        of_layer = [HeadQuery(by_layer[layer] * np.float32(reader.scale), groups) for by_layer in queries]
        by_head = scores_by_head(of_layer, [_block([by_layer[layer] for by_layer in encoded])])
        scores |= {(layer, head): by_head[:, head] for head in range(reader.query_heads)}
        progress(TEXTS_SHARE + (1 - TEXTS_SHARE) * (layer + 1) / count)
    return scores


@dataclass(frozen=True)
class _Layer:
    """The keys of a segment in one layer, quantised as a memory holds them, and the end token of each of its texts."""

    keys: NDArray[np.int8]  # (S, H, K)
    scales: NDArray[np.float16]  # (S, H)
    ends: list[int]


def _queries(
    reader: HeadReader, tokenizer: Any, questions: Sequence[str], count: int
) -> list[list[NDArray[np.float32]]]:
    """For each question its queries (S, Hq, K) of `count` layers, as `KeyEncoder.question` computes them for chosen heads.

    Questions are read side by side, the shorter ones with padding behind them, which no token before it sees.
    """
    sink = sink_of(tokenizer)
    encoded = [repeated_question(tokenizer, question) for question in questions]
    longest = max(len(ids) for ids, _ in encoded)
    rows = [[sink, *ids, *[sink] * (longest - len(ids))] for ids, _ in encoded]
    layers = [queries for _, queries, _ in reader.all_layers(torch.tensor(rows, device=reader.device), count)]
    return [
        [queries[row, 1 + len(ids) - tokens : 1 + len(ids)].float().cpu().numpy() for queries in layers]
        for row, (ids, tokens) in enumerate(encoded)
    ]


def _layers(reader: HeadReader, tokenizer: Any, texts: Sequence[str], count: int) -> list[_Layer]:
    """The keys of `count` layers for texts that follow one another in a segment, without the token that begins it."""
    ids, ends = [sink_of(tokenizer)], []
    for text in texts:
        ids += plain_ids(tokenizer, text + "\n\n")
        ends.append(len(ids) - 1)
    layers = reader.all_layers(torch.tensor([ids], device=reader.device), count)
    return [_Layer(*quantise(keys[0, 1:].float().cpu().numpy()), ends) for _, _, keys in layers]


def _block(segments: Sequence[_Layer]) -> Block:
    """The keys of one layer in all segments, as a memory would hold them."""
    lengths = [0, *accumulate(len(segment.keys) for segment in segments)]
    ends = [length + end for length, segment in zip(lengths, segments, strict=False) for end in segment.ends]
    keys, scales = (np.concatenate([getattr(segment, name) for segment in segments]) for name in ("keys", "scales"))
    return Block(0, keys, scales, np.array(ends, np.int64))
