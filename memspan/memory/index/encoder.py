"""The encoder of texts and questions: token ids, passages, and keys and queries of the model's retrieval heads."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memspan.data.chunking import split_passages
from memspan.data.plain_text import plain_ids, plain_tokens
from memspan.errors import MemspanError, UsageError
from memspan.memory.index.head_scores import HeadQuery, quantise
from memspan.pretrained.heads import Head, HeadReader, sink_of

# Measured on SmolLM2 and two cores, see LOG.md: longer segments cost attention, shorter ones repeat more context.
SEGMENT = 512
CONTEXT = (
    64  # first tokens of a segment that only give the next ones a context; their keys are those of the segment before
)
SEGMENTS_AT_ONCE = 4
PASSAGE = 256  # tokens at most, by the average characters per token of the text
REPORT_SECONDS = 0.5  # within a batch that takes longer, progress is reported so often


@dataclass(frozen=True)
class CutText:
    """A text as a tokenizer cuts it, which needs no model: T tokens, P passages."""

    ids: NDArray[np.int32]  # (T,)
    passages: NDArray[np.int64]  # (P, 4): first token, end token, first character, end character


@dataclass(frozen=True)
class Encoding:
    """A text as a model encodes it: T tokens, P passages, G key-value heads of size K."""

    ids: NDArray[np.int32]  # (T,)
    keys: NDArray[np.int8]  # (T, G, K)
    scales: NDArray[np.float16]  # (T, G)
    passages: NDArray[np.int64]  # (P, 4): first token, end token, first character, end character


class TextCutter:
    """Cuts texts into the tokens of a fast tokenizer, and into passages of these."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises UsageError if the tokenizer is slow."""
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                f"The tokenizer must be a fast one, which knows the characters of each token, got {type(tokenizer).__name__}: "
                "load the model with its tokenizer.json."
            )
        self.tokenizer = tokenizer

    def cut(self, text: str) -> CutText:
        """The tokens and the passages of `text`."""
        tokens, spans = plain_tokens(self.tokenizer, text)
        return CutText(np.array(tokens, np.int32), _passages(text, np.array([end for _, end in spans], np.int64)))


class KeyEncoder(TextCutter):
    """Reads text with a model's retrieval heads. Device memory depends on the segment, never on the text."""

    def __init__(self, reader: HeadReader, tokenizer: Any, heads: Sequence[Head]) -> None:
        """
        Args:
            heads: (layer, query head) pairs; the keys of the key-value heads that they read are kept.

        Raises:
            UsageError: the tokenizer is slow.
        """
        super().__init__(tokenizer)
        self.reader, self.heads = reader, tuple(heads)
        self.key_heads = tuple(sorted({reader.key_head(head) for head in heads}))
        self._groups = tuple(self.key_heads.index(reader.key_head(head)) for head in self.heads)
        self.sink = sink_of(tokenizer)

    def encode(
        self,
        text: str,
        before: Sequence[int] = (),
        progress: Callable[[int, int], None] | None = None,
        cut: CutText | None = None,
    ) -> Encoding:
        """The encoding of `text`; the last of the ids `before` it are the context of its first tokens.

        `progress` is called with the tokens encoded so far and all tokens of `text`: after every batch of segments, and
        within a batch of a slow model about twice a second, by the layers that the batch has passed. `cut` is what `cut`
        gives for the text, where that is known already.

        Raises MemspanError if the model computes numbers that are not finite.
        """
        cut = self.cut(text) if cut is None else cut
        keys = self._keys(cut.ids.tolist(), list(before), progress)
        try:
            quantised, scales = quantise(keys)
        except ValueError as error:
            raise MemspanError(
                "The model computed numbers that are not finite while reading; nothing of this text was kept. "
                "Load it with --dtype float32, or check its weights."
            ) from error
        return Encoding(cut.ids, quantised, scales, cut.passages)

    def question(self, text: str) -> HeadQuery:
        """The queries of a question by the retrieval heads, see `repeated_question`. Raises UsageError if it is empty."""
        if not text.strip():
            raise UsageError("The question is empty.")
        ids, count = repeated_question(self.tokenizer, text)
        rows = torch.tensor([[self.sink, *ids]], device=self.reader.device)
        queries = self.reader.queries(rows, self.heads)[0, -count:]
        scaled = queries.float().cpu().numpy() * np.float32(self.reader.scale)
        return HeadQuery(scaled, self._groups)

    def _keys(
        self, ids: list[int], before: list[int], progress: Callable[[int, int], None] | None
    ) -> NDArray[np.float32]:
        """Keys (T, G, K), from independent overlapping segments, those of equal length in batches."""
        out = np.empty((len(ids), len(self.key_heads), self.reader.head_size), np.float32)
        stream, offset = before[-CONTEXT:] + ids, len(before[-CONTEXT:])
        fresh = SEGMENT - CONTEXT - 1
        spans = [(start, min(start + fresh, len(stream))) for start in range(offset, len(stream), fresh)]
        segments = [(stream[max(0, start - CONTEXT) : end], start, end) for start, end in spans]
        for _, group in groupby(segments, key=lambda segment: len(segment[0])):
            equally_long = list(group)
            for first in range(0, len(equally_long), SEGMENTS_AT_ONCE):
                batch = equally_long[first : first + SEGMENTS_AT_ONCE]
                rows = torch.tensor([[self.sink, *tokens] for tokens, _, _ in batch], device=self.reader.device)
                done, end_of_batch = batch[0][1] - offset, batch[-1][2] - offset
                keys_of = self.reader.keys
                if progress is not None:
                    on_layer = _share_of_batch(progress, done, end_of_batch, len(ids))
                    keys_of = partial(self.reader.keys, on_layer=on_layer)
                keys = keys_of(rows, self.key_heads).float().cpu().numpy()
                for row, (_, start, end) in zip(keys, batch, strict=True):
                    out[start - offset : end - offset] = row[len(row) - (end - start) :]
                if progress is not None:
                    progress(end_of_batch, len(ids))
        return out


def _share_of_batch(progress: Callable[[int, int], None], done: int, end: int, total: int) -> Callable[[float], None]:
    """A function of the share of a batch that is computed; it reports the tokens, each `REPORT_SECONDS` at most."""
    due = time.monotonic() + REPORT_SECONDS

    def report(share: float) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + REPORT_SECONDS
            progress(done + int(share * (end - done)), total)

    return report


def repeated_question(tokenizer: Any, question: str) -> tuple[list[int], int]:
    """The ids of the question written twice, and how many belong to the second copy; at most `SEGMENT` in all.

    In a causal model a token sees only earlier ones. Each token of the second copy sees the whole question, so the
    queries of these are used (Springer et al. 2024 repeat texts for embeddings in the same way).
    """
    first = plain_ids(tokenizer, question.strip())[-SEGMENT // 2 :]
    again = plain_ids(tokenizer, f" {question.strip()}")[-SEGMENT // 2 :]
    return [*first, *again], len(again)


def _passages(text: str, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Spans (P, 4) that tile text and tokens: first token, end token, first character, end character.

    A token belongs to the passage in which it ends; a passage in which none ends is joined to its neighbour.
    """
    per_token = len(text) / max(1, len(ends))
    spans = split_passages(text, max(16, int(PASSAGE * per_token)))
    character_ends = np.array([end for _, end in spans], np.int64)
    token_ends = np.searchsorted(ends, character_ends, side="right")
    token_ends[-1] = len(ends)
    rows: list[list[int]] = []
    for (first, end), token_end in zip(spans, token_ends.tolist(), strict=True):
        token = rows[-1][1] if rows else 0
        if rows and token_end == token:
            rows[-1][3] = end
        elif rows and rows[-1][0] == rows[-1][1]:
            rows[-1][1], rows[-1][3] = token_end, end
        else:
            rows.append([token, token_end, first, end])
    return np.array(rows, np.int64).reshape(-1, 4)
