"""The base class of mechanisms that write whole segments: the incomplete segment waits in the state.

Letters: B batch, S tokens of the call, L length of a segment, N segments completed by the call, D model width.
"""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import pad

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism
from memspan.mechanisms.layers.ragged import layout_of
from memspan.state import State, reset


class Segmented(Mechanism):
    """Tokens read the memory as it was before their segment began; a segment is written when it is complete.

    The stream may be cut anywhere: an incomplete segment, at most L - 1 hidden states, waits in the state.
    The state is {"memory": the value of `initial` or `write`, "open": (B, < L, D)}; of rows that have read different numbers
    of tokens also {"waiting": (B,) int64}, how many of "open" are tokens.

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

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        if not x.numel():
            return x, state
        if valid is not None or (state is not None and "waiting" in state):
            return self._read_ragged(x, state, x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid)
        before = x[:, :0] if state is None else state["open"]
        memory, waiting = self.initial(x) if state is None else state["memory"], before.shape[1]
        tokens = x if waiting == 0 else torch.cat([before, x], 1)
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

    def _read_ragged(self, x: Tensor, state: State, valid: Tensor) -> tuple[Tensor, State]:
        """As `forward`: a row writes those of its segments that it completes, and only these."""
        memory = self.initial(x) if state is None else state["memory"]
        before = x[:, :0] if state is None else state["open"]
        waits = torch.ones(before.shape[:2], dtype=torch.bool, device=x.device)
        if state is not None and "waiting" in state:
            waits = torch.arange(before.shape[1], device=x.device) < state["waiting"][:, None]
        layout = layout_of(torch.cat([waits, valid], 1))
        tokens, complete = layout.take(torch.cat([before, x], 1)), layout.lengths // self.segment
        length = tokens.shape[1]
        count, most = -(-length // self.segment), int(complete.max())
        if not count:
            return torch.zeros_like(x), state
        segments = pad(tokens, (0, 0, 0, count * self.segment - length)).reshape(len(x), count, self.segment, -1)
        codes = self.encode(segments[:, :most]) if most else segments
        outputs = []
        for index in range(count):
            if index < most:
                y, after = self.read_and_write(segments[:, index], codes[:, index], memory)
                memory = reset(memory, after, complete > index)
            else:
                y = self.read(segments[:, index], memory)
            outputs.append(y)
        y = layout.put_back(torch.cat(outputs, 1)[:, :length])[:, before.shape[1] :]
        waiting, column = layout.lengths % self.segment, torch.arange(self.segment - 1, device=x.device)
        columns = ((complete * self.segment)[:, None] + column).clamp_max(length - 1)
        rest = tokens.gather(1, columns[..., None].expand(-1, -1, x.shape[2]))
        rest = torch.where((column < waiting[:, None])[..., None], rest, 0.0)
        return y, {"memory": memory, "open": rest, "waiting": waiting}
