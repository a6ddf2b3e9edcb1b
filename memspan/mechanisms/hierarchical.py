"""Words make segments, segments make the document, and both are weighed.

Letters: B batch, S words, N segments of the call, T words of a segment, M segments remembered, W size of a word vector,
H size of a segment vector, D model width.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism
from memspan.mechanisms.layers.recurrent import by_segment, check, run
from memspan.state import State


class Hierarchical(Mechanism):
    """Hierarchical attention (Yang et al. 2016, "Hierarchical Attention Networks for Document Classification").

    A bidirectional GRU reads the words of a segment; their weighed sum is the segment. A second GRU reads the segments;
    the weighed sum of the last M of them is what is known of the document, and is given back to every word.

    Deviations from the paper: a document has no end, so the GRU over the segments reads forwards only and the document
    is that of the last M segments; it is handed to the words rather than to a classifier; a segment is a number of words
    rather than a sentence. A segment is complete, or the last of its text.

    The state is {"h": (B, 1, H), "segments": (B, M, H), "filled": (B, M) bool}, the latest segment last.

    Args:
        width: D.
        segment: T.
        memory: M.
        hidden: H, which is also W, D if not given; even.
    """

    causal: ClassVar[bool] = False

    def __init__(self, width: int, segment: int = 16, memory: int = 32, hidden: int | None = None) -> None:
        super().__init__()
        hidden = 2 * ((width + 1) // 2) if hidden is None else hidden
        check(hidden, 1)
        if hidden % 2 or segment < 1 or memory < 1:
            raise UsageError(
                f"hidden={hidden}, segment={segment}, memory={memory} cannot be: hidden must be even, "
                "and a segment and the memory hold at least one."
            )
        self.segment = self.grid = segment
        self.memory, self.hidden = memory, hidden
        self.read_words = nn.GRU(width, hidden // 2, batch_first=True, bidirectional=True)
        self.read_segments = nn.GRU(hidden, hidden, batch_first=True)
        self.weigh_words = Weighing(hidden)
        self.weigh_segments = Weighing(hidden)
        self.from_word = nn.Linear(hidden, width)
        self.from_document = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self.forward_with_internals(x, state)[:2]

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Also the weights: "words" (B, S), of a word in its segment, and "segments" (B, S, M), as the word was given.

        Where nothing was read before, also both together, as attention has them: "weights" (B, S, 1, S), of each word in
        the document that a word was given, and "places" (B, S, S), which word that is.
        """
        fresh = state is None
        words = by_segment(lambda part: self.read_words(part)[0], x, self.segment)  # (B, S, W), equations 2 to 4
        parts = [words[:, start : start + self.segment] for start in range(0, x.shape[1], self.segment)]
        weights = [self.weigh_words(part) for part in parts]
        pooled = [(weight[:, :, None] * part).sum(1) for weight, part in zip(weights, parts, strict=True)]
        if state is None:
            remembered = x.new_zeros(x.shape[0], self.memory, self.hidden)
            filled = x.new_zeros(x.shape[0], self.memory, dtype=torch.bool)
        else:
            remembered, filled = state["segments"], state["filled"]
        vectors, carried = run(self.read_segments, torch.stack(pooled, 1), None if state is None else {"h": state["h"]})
        remembered = torch.cat([remembered, vectors], 1)  # (B, M + N, H)
        filled = torch.cat([filled, filled.new_ones(vectors.shape[:2])], 1)
        # for each new segment the M that end with it
        windows = remembered.unfold(1, self.memory, 1)[:, 1:].transpose(2, 3)  # (B, N, M, H)
        attention = self.weigh_segments(windows, filled.unfold(1, self.memory, 1)[:, 1:])  # (B, N, M)
        document = (attention[..., None] * windows).sum(2)  # (B, N, H)
        segment_of = torch.arange(x.shape[1], device=x.device) // self.segment  # (S,)
        y = self.from_word(words) + self.from_document(document)[:, segment_of]
        state = {
            **carried,
            "segments": remembered[:, -self.memory :].clone(),
            "filled": filled[:, -self.memory :].clone(),
        }
        seen = {"words": torch.cat(weights, 1), "segments": attention[:, segment_of]}
        if fresh:
            back = segment_of[:, None] - segment_of  # (S, S), how many segments a word lies before another
            slot = (self.memory - 1 - back).clamp(0, self.memory - 1).expand(len(x), -1, -1)
            given = seen["segments"].gather(2, slot) * ((back >= 0) & (back < self.memory))
            seen["weights"] = (given * seen["words"][:, None])[:, :, None]
            seen["places"] = torch.arange(x.shape[1], device=x.device).expand_as(given)
        return y, state, seen


class Weighing(nn.Module):
    """How much each of several vectors matters, equations 5 to 7: u = tanh(W x + b), weights = softmax(u . u_context)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, size)
        self.context = nn.Parameter(torch.randn(size) * size**-0.5)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """x (*, n, H) -> (*, n) of sum one, zero where `present` (*, n) bool is false."""
        scores: Tensor = self.project(x).tanh() @ self.context
        if present is not None:
            scores = scores.masked_fill(~present, -torch.inf)
        return scores.softmax(-1)
