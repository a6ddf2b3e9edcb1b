"""The base class of mechanisms that write whole segments: the incomplete segment waits in the state.

Letters: B batch, S tokens of the call, L length of a segment, N segments completed by the call, D model width.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism
from memspan.state import State


class Segmented(Mechanism):
    """Tokens read the memory as it was before their segment began; a segment is written when it is complete.

    The stream may be cut anywhere: an incomplete segment, at most L - 1 hidden states, waits in the state.
    The state is {"memory": the value of `initial` or `write`, "open": (B, < L, D)}.

    Args:
        segment: L.
    """

    def __init__(self, segment: int) -> None:
        super().__init__()
        if segment < 1:
            raise UsageError(f"segment must be at least 1 token, got {segment}.")
        self.segment = segment

    @abstractmethod
    def initial(self, x: Tensor) -> State:
        """The memory before the first token; x (B, *, D) gives rows, dtype and device."""

    @abstractmethod
    def read(self, x: Tensor, memory: State) -> Tensor:
        """x (B, <= L, D), the tokens of one segment so far -> y of the same shape. No token may see a later one."""

    @abstractmethod
    def write(self, code: Tensor, memory: State) -> State:
        """The memory after a segment whose code, from `encode`, is (B, *, *)."""

    def encode(self, x: Tensor) -> Tensor:
        """Complete segments (B, N, L, D), all at once -> the code of each that is written, (B, N, *, *)."""
        return x

    def read_and_write(self, x: Tensor, code: Tensor, memory: State) -> tuple[Tensor, State]:
        """y of a complete segment and the memory after it, for mechanisms where the two share their work."""
        return self.read(x, memory), self.write(code, memory)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        memory, waiting = (self.initial(x), 0) if state is None else (state["memory"], state["open"].shape[1])
        tokens = x if waiting == 0 else torch.cat([state["open"], x], 1)
        complete = tokens.shape[1] // self.segment
        end = complete * self.segment
        outputs = []
        if complete:
            segments = tokens[:, :end].reshape(len(x), complete, self.segment, -1)
            codes = self.encode(segments)
            for index in range(complete):
                y, memory = self.read_and_write(segments[:, index], codes[:, index], memory)
                outputs.append(y)
        if end < tokens.shape[1]:
            outputs.append(self.read(tokens[:, end:], memory))
        y = torch.cat(outputs, 1)[:, waiting:]
        return y, {"memory": memory, "open": tokens[:, end:].clone()}
