"""Attention over the words of a segment, and over the segments of a document.

Letters: B batch, S words, N segments of the call, T words of a segment, M segments remembered, W size of a word vector,
H size of a segment vector, D model width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from memspan.errors import UsageError
from memspan.mechanisms.base import SHARE, AttentionWeights, Gate, Internals, Mechanism, TraceInput
from memspan.mechanisms.layers.ragged import Layout, without_padding
from memspan.mechanisms.layers.recurrent import by_segment, check_sizes, run
from memspan.state import State


class Hierarchical(Mechanism):
    """Attention over words makes segments, attention over segments the document (hierarchical attention, Yang et al. 2016).

    A bidirectional GRU reads the words of a segment; their weighted sum is the segment vector. A second GRU reads the
    segment vectors; the weighted sum of its last M states is the document vector, which is added to every word.

    Deviations from the paper ("Hierarchical Attention Networks for Document Classification"): a stream has no end, so the
    GRU over segments reads forwards only and the document is the last M segments; the document vector goes to the words
    rather than to a classifier; a segment is a number of words rather than a sentence. A segment is complete, or the last
    of its text.

    The state is {"h": (B, 1, H), "segments": (B, M, H), "filled": (B, M) bool}, the latest segment last.

    Args:
        width: D.
        segment: T.
        memory: M.
        hidden: H = W, D by default (D + 1 if D is odd); must be even.
    """

    causal: ClassVar[bool] = False
    trace_input: ClassVar[TraceInput] = TraceInput(hidden="hidden")

    def __init__(self, width: int, segment: int = 16, memory: int = 32, hidden: int | None = None) -> None:
        super().__init__()
        hidden = 2 * ((width + 1) // 2) if hidden is None else hidden
        check_sizes(hidden, layers=1)
        if hidden % 2 or segment < 1 or memory < 1:
            raise UsageError(
                "hidden must be even, and segment and memory at least 1, "
                f"got hidden={hidden}, segment={segment}, memory={memory}."
            )
        self.segment = self.grid = segment
        self.memory, self.hidden = memory, hidden
        self.read_words = nn.GRU(width, hidden // 2, batch_first=True, bidirectional=True)
        self.read_segments = nn.GRU(hidden, hidden, batch_first=True)
        self.weigh_words = Weighting(hidden)
        self.weigh_segments = Weighting(hidden)
        self.from_word = nn.Linear(hidden, width)
        self.from_document = nn.Linear(hidden, width, bias=False)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"memory": size}

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        return without_padding(lambda *text: self._read(*text)[:2], x, state, valid)

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        """Also the weights of words (B, S) and segments (B, S, M), and of the first segments both multiplied, as attention."""
        is_first = state is None
        y, state, words, segments = self._read(x, state)
        gates = {
            "words": Gate(words, "weight of the word in its segment", "B S", SHARE),
            "segments": Gate(segments, "weight of each remembered segment in the document", "B S M", SHARE),
        }
        return y, state, Internals(gates, self._attention(words, segments) if is_first else None)

    def _read(self, x: Tensor, state: State, layout: Layout | None = None) -> tuple[Tensor, State, Tensor, Tensor]:
        """The output, the state, and the weights of words (B, S) and of segments (B, S, M).

        With a layout, the text of each row comes first, and rows differ in length.
        """
        if not x.shape[1]:
            empty = x.new_zeros(len(x), 0)
            return x, state, empty, empty[..., None].expand(-1, -1, self.memory)
        lengths, present, count = None, None, None
        if layout is not None:
            lengths = layout.lengths
            present, count = layout.valid, -(-lengths // self.segment)
        words = by_segment(self._words, x, self.segment, lengths)  # (B, S, W), equations 2 to 4
        starts = range(0, x.shape[1], self.segment)
        parts = [words[:, start : start + self.segment] for start in starts]
        weights = [
            self.weigh_words(part, None if present is None else present[:, start : start + self.segment])
            for start, part in zip(starts, parts, strict=True)
        ]
        pooled = [(weight[:, :, None] * part).sum(1) for weight, part in zip(weights, parts, strict=True)]
        if state is None:
            remembered = x.new_zeros(x.shape[0], self.memory, self.hidden)
            filled = x.new_zeros(x.shape[0], self.memory, dtype=torch.bool)
        else:
            remembered, filled = state["segments"], state["filled"]
        before = None if state is None else {"h": state["h"]}
        vectors, carried = run(self.read_segments, torch.stack(pooled, 1), before, count)
        number = torch.arange(vectors.shape[1], device=x.device).expand(len(x), -1)
        remembered = torch.cat([remembered, vectors], 1)  # (B, M + N, H)
        filled = torch.cat([filled, number >= 0 if count is None else number < count[:, None]], 1)
        # for each new segment the M that end with it
        windows = remembered.unfold(1, self.memory, 1)[:, 1:].transpose(2, 3)  # (B, N, M, H)
        attention = self.weigh_segments(windows, filled.unfold(1, self.memory, 1)[:, 1:])  # (B, N, M)
        document = (attention[..., None] * windows).sum(2)  # (B, N, H)
        segment_of = torch.arange(x.shape[1], device=x.device) // self.segment  # (S,)
        y = self.from_word(words) + self.from_document(document)[:, segment_of]
        last = torch.arange(self.memory, device=x.device).expand(len(x), -1)
        last = last + (vectors.shape[1] if count is None else count[:, None])
        state = {
            **carried,
            "segments": remembered.gather(1, last[..., None].expand(-1, -1, self.hidden)),
            "filled": filled.gather(1, last),
        }
        return y, state, torch.cat(weights, 1), attention[:, segment_of]

    def _words(self, segments: Tensor, lengths: Tensor | None) -> Tensor:
        """Segments (rows, T, D), of which the rows may end after `lengths` (rows,) words -> (rows, T, W)."""
        if lengths is None:
            words: Tensor = self.read_words(segments)[0]
            return words
        packed = pack_padded_sequence(segments, lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.read_words(packed)[0], batch_first=True, total_length=segments.shape[1])[0]

    def _attention(self, words: Tensor, segments: Tensor) -> AttentionWeights:
        """(B, S, 1, S): the weight of each word in the document vector that a word received."""
        length = words.shape[1]
        segment_of = torch.arange(length, device=words.device) // self.segment
        back = segment_of[:, None] - segment_of  # (S, S), how many segments before a word another one lies
        slot = (self.memory - 1 - back).clamp(0, self.memory - 1).expand(len(words), -1, -1)
        received = segments.gather(2, slot) * ((back >= 0) & (back < self.memory))
        weights = (received * words[:, None])[:, :, None]
        return AttentionWeights(weights, torch.arange(length, device=words.device).expand_as(received))


class Weighting(nn.Module):
    """Attention weights of several vectors, equations 5 to 7: u = tanh(W x + b), weights = softmax(u . u_context)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, size)
        self.context = nn.Parameter(torch.randn(size) * size**-0.5)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """x (*, n, H) -> (*, n) of sum 1, zero where `present` (*, n) bool is false."""
        scores: Tensor = self.project(x).tanh() @ self.context
        if present is not None:
            present = present | ~present.any(-1, keepdim=True)  # a softmax over nothing is no number
            scores = scores.masked_fill(~present, -torch.inf)
        return scores.softmax(-1)
