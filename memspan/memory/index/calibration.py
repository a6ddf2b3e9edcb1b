"""Which attention heads of a model find passages: measured once per model, on invented needles."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memspan.memory.index.encoder import asked_twice, sink_of
from memspan.memory.index.head_scores import HeadQuery, head_scores, quantise
from memspan.memory.index.probe_corpus import haystack
from memspan.memory.store.snapshot import Block
from memspan.pretrained.heads import Head, HeadReader

PASSAGES, NEEDLES, SEED = 96, 36, 20
MOST_HEADS = 8  # more blur: each further head adds less than it dilutes
AS_GOOD = 0.75  # a head is considered if its mean reciprocal rank is at least this share of the best one's
DEPTH = 2 / 3  # of the layers, from the bottom: what lies above costs reading more than it finds, see LOG.md
PER_SEGMENT = 4  # passages


@dataclass(frozen=True)
class RetrievalHeads:
    """The chosen heads, best first, and how often they put the right needle first."""

    heads: tuple[Head, ...]
    reciprocal_rank: float  # mean over the needles, of all heads together
    first: float  # share of needles ranked first

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2), "utf-8")

    @classmethod
    def load(cls, path: Path) -> "RetrievalHeads":
        """Raises OSError, ValueError, KeyError or TypeError if the file is not one of ours."""
        record = json.loads(path.read_text("utf-8"))
        heads = tuple((int(layer), int(head)) for layer, head in record["heads"])
        return cls(heads, float(record["reciprocal_rank"]), float(record["first"]))


def calibrate(
    reader: HeadReader, tokenizer: Any, *, passages: int = PASSAGES, needles: int = NEEDLES
) -> RetrievalHeads:
    """Reads invented prose, asks after the facts hidden in it, and keeps the heads that find them.

    Every head of the lower layers alone ranks the passages for every question; those near the best one are chosen.
    """
    texts, facts = haystack(passages, needles, SEED)
    right = np.array([fact.passage for fact in facts])
    scores = _scores_by_head(reader, tokenizer, texts, [fact.question for fact in facts])
    alone = {head: float((1 / _ranks(score, right)).mean()) for head, score in scores.items()}
    ranked = sorted(alone, key=lambda head: -alone[head])
    chosen = tuple(head for head in ranked[:MOST_HEADS] if alone[head] >= AS_GOOD * alone[ranked[0]])
    ranks = _ranks(np.sum([scores[head] for head in chosen], axis=0), right)
    return RetrievalHeads(chosen, float((1 / ranks).mean()), float((ranks == 1).mean()))


def _ranks(scores: NDArray[np.float32], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank, from 1, of the right passage of each question; ties count against it."""
    own = scores[np.arange(len(right)), right]
    ranks: NDArray[np.int64] = (scores >= own[:, None]).sum(axis=1)
    return ranks


def _scores_by_head(
    reader: HeadReader, tokenizer: Any, texts: Sequence[str], questions: Sequence[str]
) -> dict[Head, NDArray[np.float32]]:
    """The score of every passage for every question by every head of the lower layers alone, (questions, passages)."""
    asked = [_queries(reader, tokenizer, question) for question in questions]
    grouped = [texts[first : first + PER_SEGMENT] for first in range(0, len(texts), PER_SEGMENT)]
    read = [_layers(reader, tokenizer, group) for group in grouped]
    scores: dict[Head, NDArray[np.float32]] = {}
    for layer in range(math.ceil(DEPTH * reader.layers)):
        for key_head in range(reader.key_heads):
            block = _block([segment[layer] for segment in read], key_head)
            shared = reader.query_heads // reader.key_heads
            for head in range(key_head * shared, (key_head + 1) * shared):
                rows = []
                for question in asked:
                    queries = question[layer][:, head : head + 1] * np.float32(reader.scale)
                    rows.append(head_scores(HeadQuery(queries, (0,)), [block]))
                scores[layer, head] = np.stack(rows)
    return scores


_Layer = tuple[torch.Tensor, list[int]]  # keys (S, H, K), end token of each text


def _queries(reader: HeadReader, tokenizer: Any, question: str) -> list[NDArray[np.float32]]:
    """All layers' queries (S, Hq, K) for the question, as `KeyEncoder.question` has them for some heads."""
    ids, count = asked_twice(tokenizer, question)
    layers = reader.all_layers(torch.tensor([[sink_of(tokenizer), *ids]], device=reader.device))
    return [queries[0, -count:].float().cpu().numpy() for _, queries, _ in layers]


def _layers(reader: HeadReader, tokenizer: Any, texts: Sequence[str]) -> list[_Layer]:
    """All layers' keys for the texts read one after the other, without the token that begins the segment."""
    ids, ends = [sink_of(tokenizer)], []
    for text in texts:
        ids += tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"]
        ends.append(len(ids) - 1)
    layers = reader.all_layers(torch.tensor([ids], device=reader.device))
    return [(keys[0, 1:].float().cpu(), ends) for _, _, keys in layers]


def _block(segments: Sequence[_Layer], key_head: int) -> Block:
    """One key-value head's keys of all the segments, as a memory would hold them."""
    keys = torch.cat([keys[:, key_head : key_head + 1] for keys, _ in segments])
    whole, scales = quantise(keys.numpy())
    lengths = [0, *accumulate(len(keys) for keys, _ in segments)]
    ends = [length + end for length, (_, ends) in zip(lengths, segments, strict=False) for end in ends]
    return Block(0, whole, scales, np.array(ends, np.int64))
