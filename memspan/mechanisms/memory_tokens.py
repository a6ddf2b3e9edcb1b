"""A few vectors that a transformer reads before each segment and rewrites after it.

Letters: B batch, L tokens of a segment, M memory tokens, N tokens of the whole sequence, H heads, D model width.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import TraceInput
from memspan.mechanisms.layers.segmented import Segmented
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.state import State


class MemoryTokens(Segmented):
    """Tokens that every segment reads and rewrites (Recurrent Memory Transformer, Bulatov et al. 2022, arXiv 2207.06881).

    A transformer reads [memory; segment; write tokens]. The tokens of the segment see the memory, and one another
    causally; the write tokens see everything, and their outputs in the last layer are the memory of the next segment. As
    in the paper the write tokens begin as copies of the memory.

    Deviations from the paper: the transformer layers belong to the mechanism, so that it can be combined with others in a
    layer of a model; positions are rotary; a learned vector each distinguishes the two copies of the memory; the new
    memory is normalised.

    The training loop decides how far gradients go back: through every segment if it keeps the graph (the paper's
    back-propagation through time, or its replay segment by segment), or as far as the last call of
    `memspan.state.detach`. Nothing here detaches.

    Args:
        width: D.
        tokens: M.
        segment: L.
        depth: number of transformer layers.
        heads: H; D / H must be even.
    """

    trace_input: ClassVar[TraceInput] = TraceInput(settings={"heads": 1})

    def __init__(self, width: int, tokens: int = 8, segment: int = 32, depth: int = 1, heads: int = 4) -> None:
        super().__init__(segment)
        if tokens < 1 or depth < 1:
            raise UsageError(f"tokens and depth must be at least 1, got tokens={tokens}, depth={depth}.")
        self.tokens = tokens
        self.initial_memory = nn.Parameter(torch.randn(tokens, width))
        self.copy_marks = nn.Parameter(
            torch.randn(2, width)
        )  # added to the memory that is read, and to the write tokens
        self.layers = nn.ModuleList(TransformerLayer(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"tokens": size}

    def initial(self, x: Tensor) -> State:
        return self.initial_memory.to(x).repeat(len(x), 1, 1)

    def read(self, x: Tensor, memory: State) -> Tensor:
        return self._run(torch.cat([memory + self.copy_marks[0], x], 1))[:, self.tokens :]

    def write(self, code: Tensor, memory: State) -> State:
        return self.read_and_write(code, code, memory)[1]

    def read_and_write(self, x: Tensor, code: Tensor, memory: State) -> tuple[Tensor, State]:
        sequence = torch.cat([memory + self.copy_marks[0], x, memory + self.copy_marks[1]], 1)
        y = self._run(sequence)
        # cloned, because a view would keep the whole sequence in memory
        return y[:, self.tokens : -self.tokens], y[:, -self.tokens :].clone()

    def _run(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D). Tokens beyond the end of the segment are write tokens."""
        index = torch.arange(x.shape[1], device=x.device)
        writes = index >= self.tokens + self.segment
        mask = (index[:, None] >= index) | (index < self.tokens) | writes[:, None]  # (N, N)
        for layer in self.layers:
            x = layer(x, mask)
        y: Tensor = self.norm(x)
        return y
