"""Pieces of text with arrays that no model made, and what a memory holds as a plain value to compare."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memspan.memory import EncodedText, Fingerprint, Memory
from memspan.memory.index.bm25 import WordIndex

FINGERPRINT = Fingerprint("a" * 64, "b" * 64, "float32", ((1, 0), (3, 2)), 4, "tiny")


def term_of(word: str) -> int:
    """The id that stands for a word in these tests."""
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big")


def encoded(text: str, source: str = "a", start: int = 0, words_per_passage: int = 3, **fields: Any) -> EncodedText:
    """A text with one token per space-ended word; its keys and scales follow from its ids."""
    words = text.split(" ")
    words = [word + " " for word in words[:-1]] + ([words[-1]] if words[-1] else [])
    ids = np.array([term_of(word.strip()) for word in words], np.int32)
    heads, size = len(FINGERPRINT.heads), FINGERPRINT.head_size
    keys = ((ids[:, None, None] * 7 + np.arange(heads * size).reshape(heads, size) * 31) % 255 - 127).astype(np.int8)
    scales = ((ids[:, None] + np.arange(heads)) % 64 / 64).astype(np.float16)
    token_edges = sorted({*range(0, len(ids), words_per_passage), len(ids)})
    character_ends = np.cumsum([0, *map(len, words)])
    edges = np.array([(token, character_ends[token]) for token in token_edges], np.int64)
    passages = np.column_stack([edges[:-1, 0], edges[1:, 0], edges[:-1, 1], edges[1:, 1]])
    return EncodedText(source, start, text, ids, keys, scales, passages, **fields)


def contents_of(memory: Memory) -> dict[str, Any]:
    """Everything a memory says about itself that does not depend on where it lies or how it is cut into parts."""
    blocks = list(memory.blocks())
    return {
        "fingerprint": memory.fingerprint,
        "sources": dict(memory.sources),
        "passages": [memory.passage(number) for number in range(len(memory))],
        "ids": [memory.ids(number).tolist() for number in range(len(memory))],
        "keys": b"".join(block.keys.tobytes() for block in blocks),
        "scales": b"".join(block.scales.tobytes() for block in blocks),
        "vectors": b"".join(block.vectors.tobytes() for block in blocks if block.vectors is not None),
        "latents": [
            None if (latents := memory.latents(number)) is None else latents.tolist() for number in range(len(memory))
        ],
        "lengths": [length for block in blocks for length in np.diff(block.ends, prepend=0).tolist()],
        "tokens": memory.tokens,
        "neighbours": [memory.neighbours(number, 1, 2) for number in range(len(memory))],
    }


def word_scores(memory: Memory, words: Sequence[str]) -> list[float]:
    """The scores of a word search."""
    return memory.word_scores(" ".join(words)).tolist()


def scores_of_new_index(memory: Memory, words: Sequence[str]) -> list[float]:
    """The same, without any index that was made before."""
    index = WordIndex()
    index.extend(memory.passage(number).text for number in range(len(memory)))
    return index.scores(" ".join(words)).tolist()
