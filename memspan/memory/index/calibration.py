"""Calibration: the choice of a model's retrieval heads, measured once per model on an invented corpus."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from memspan.data.plain_text import plain_ids
from memspan.errors import UsageError
from memspan.memory.index.encoder import repeated_question, sink_of
from memspan.memory.index.head_scores import HeadQuery, head_scores, quantise
from memspan.memory.index.probe_corpus import haystack
from memspan.memory.store.snapshot import Block
from memspan.pretrained.calibrations import Calibration
from memspan.pretrained.heads import Head, HeadReader

PASSAGES, NEEDLES, SEED = 96, 36, 20
MOST_HEADS = 8  # each further head dilutes the others by more than it adds
MIN_QUALITY = 0.75  # smallest mean reciprocal rank of a chosen head, as a share of the best one's
DEPTH = 2 / 3  # of the layers, from the bottom: heads above slow down reading by more than they improve it, see LOG.md
PER_SEGMENT = 4  # passages


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
    reader: HeadReader, tokenizer: Any, *, passages: int = PASSAGES, needles: int = NEEDLES
) -> RetrievalHeads:
    """The heads of the lower layers that best find facts hidden in invented prose.

    Each head alone ranks the passages for every question; the best head and those nearly as good are chosen.

    Args:
        passages: of the corpus.
        needles: questions, each about one passage.
    """
    texts, facts = haystack(passages, needles, SEED)
    relevant = np.array([fact.passage for fact in facts])
    scores = _scores_by_head(reader, tokenizer, texts, [fact.question for fact in facts])
    quality = {head: float((1 / ranks(score, relevant)).mean()) for head, score in scores.items()}
    ranked = sorted(quality, key=lambda head: -quality[head])
    chosen = tuple(head for head in ranked[:MOST_HEADS] if quality[head] >= MIN_QUALITY * quality[ranked[0]])
    together = ranks(np.sum([scores[head] for head in chosen], axis=0), relevant)
    return RetrievalHeads(chosen, float((1 / together).mean()), float((together == 1).mean()))


def ranks(scores: NDArray[np.float32], relevant: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank, from 1, of the relevant passage of each question; ties count against it."""
    own = scores[np.arange(len(relevant)), relevant]
    ranked: NDArray[np.int64] = (scores >= own[:, None]).sum(axis=1)
    return ranked


def _scores_by_head(
    reader: HeadReader, tokenizer: Any, texts: Sequence[str], questions: Sequence[str]
) -> dict[Head, NDArray[np.float32]]:
    """For each head of the lower layers, its scores of every passage for every question, (questions, passages)."""
    queries = [_queries(reader, tokenizer, question) for question in questions]
    segments = [texts[first : first + PER_SEGMENT] for first in range(0, len(texts), PER_SEGMENT)]
    encoded = [_layers(reader, tokenizer, segment) for segment in segments]
    scores: dict[Head, NDArray[np.float32]] = {}
    for layer in range(math.ceil(DEPTH * reader.layers)):
        for key_head in range(reader.key_heads):
            block = _block([layers[layer] for layers in encoded], key_head)
            shared = reader.query_heads // reader.key_heads
            for head in range(key_head * shared, (key_head + 1) * shared):
                of_head = [layers[layer][:, head : head + 1] * np.float32(reader.scale) for layers in queries]
                scores[layer, head] = np.stack([head_scores(HeadQuery(query, (0,)), [block]) for query in of_head])
    return scores


_Layer = tuple[torch.Tensor, list[int]]  # keys (S, H, K), end token of each text


def _queries(reader: HeadReader, tokenizer: Any, question: str) -> list[NDArray[np.float32]]:
    """The queries (S, Hq, K) of every layer for a question, as `KeyEncoder.question` computes them for chosen heads."""
    ids, count = repeated_question(tokenizer, question)
    layers = reader.all_layers(torch.tensor([[sink_of(tokenizer), *ids]], device=reader.device))
    return [queries[0, -count:].float().cpu().numpy() for _, queries, _ in layers]


def _layers(reader: HeadReader, tokenizer: Any, texts: Sequence[str]) -> list[_Layer]:
    """The keys of every layer for texts that follow one another in a segment, without the token that begins it."""
    ids, ends = [sink_of(tokenizer)], []
    for text in texts:
        ids += plain_ids(tokenizer, text + "\n\n")
        ends.append(len(ids) - 1)
    layers = reader.all_layers(torch.tensor([ids], device=reader.device))
    return [(keys[0, 1:].float().cpu(), ends) for _, _, keys in layers]


def _block(segments: Sequence[_Layer], key_head: int) -> Block:
    """The keys of one key-value head in all segments, as a memory would hold them."""
    keys = torch.cat([keys[:, key_head : key_head + 1] for keys, _ in segments])
    quantised, scales = quantise(keys.numpy())
    lengths = [0, *accumulate(len(keys) for keys, _ in segments)]
    ends = [length + end for length, (_, ends) in zip(lengths, segments, strict=False) for end in ends]
    return Block(0, quantised, scales, np.array(ends, np.int64))
