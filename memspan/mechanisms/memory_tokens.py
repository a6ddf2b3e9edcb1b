"""A few vectors that a small transformer reads before a segment and rewrites after it.

Letters: B batch, L tokens of a segment, M memory tokens, N tokens of the whole sequence, H heads, D model width.
"""

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.layers.segmented import Segmented
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.state import State


class MemoryTokens(Segmented):
    """The Recurrent Memory Transformer (Bulatov et al. 2022, arXiv 2207.06881): [memory; segment; write tokens].

    The tokens of the segment see the memory and one another causally; the write tokens see everything, and what the last
    layer makes of them is the memory of the next segment. As in the paper the write tokens begin as the memory does.

    Deviations: the stack is of the mechanism's own, so that it can stand in a layer beside others; rotary positions; the
    two copies of the memory are told apart by a learned vector each; the new memory is normalised.

    How far gradients go back is the training loop's matter: through every segment if it keeps the graph (the paper's
    back-propagation through time, or its replay a segment at a time), through as many as lie between two calls of
    `memspan.state.detach` if it truncates. Nothing here detaches.

    Args:
        width: D.
        tokens: M.
        segment: L.
        depth: layers of the stack.
        heads: H; D / H is even.
    """

    def __init__(self, width: int, tokens: int = 8, segment: int = 32, depth: int = 1, heads: int = 4) -> None:
        super().__init__(segment)
        if tokens < 1 or depth < 1:
            raise UsageError(f"tokens={tokens}, depth={depth} cannot be: both are 1 or more.")
        self.tokens = tokens
        self.first = nn.Parameter(torch.randn(tokens, width))
        self.marks = nn.Parameter(torch.randn(2, width))  # of the memory that is read, and of that to be written
        self.layers = nn.ModuleList(TransformerLayer(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    def initial(self, x: Tensor) -> State:
        return self.first.to(x).repeat(len(x), 1, 1)

    def read(self, x: Tensor, memory: State) -> Tensor:
        return self._run(torch.cat([memory + self.marks[0], x], 1))[:, self.tokens :]

    def write(self, code: Tensor, memory: State) -> State:
        return self.turn(code, code, memory)[1]

    def turn(self, x: Tensor, code: Tensor, memory: State) -> tuple[Tensor, State]:
        sequence = torch.cat([memory + self.marks[0], x, memory + self.marks[1]], 1)
        y = self._run(sequence)
        # cloned, because a view would keep the whole sequence in memory
        return y[:, self.tokens : -self.tokens], y[:, -self.tokens :].clone()

    def _run(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D). N tells what it is: write tokens are those beyond the end of the segment."""
        place = torch.arange(x.shape[1], device=x.device)
        writes = place >= self.tokens + self.segment
        mask = (place[:, None] >= place) | (place < self.tokens) | writes[:, None]  # (N, N)
        for layer in self.layers:
            x = layer(x, mask)
        y: Tensor = self.norm(x)
        return y
