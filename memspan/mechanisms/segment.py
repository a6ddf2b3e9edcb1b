"""The keys of the current segment and of the segments before it."""

from typing import Any

from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as windows
from memspan.state import State


class Segment(windows.Windowed):
    """The current segment and the `memory` segments before it (Transformer-XL, Dai et al. 2019, arXiv 1901.02860).

    Deviations from the paper: the length of a segment is a setting rather than that of the call, so that a stream may be
    cut anywhere; gradients flow into the remembered keys unless the caller detaches the state, as the paper does; keys and
    values are remembered rather than the hidden states they are computed from, which is the same as long as the weights
    do not change. The paper's relative positions are a setting of the attention (positions="relative").

    Args:
        segment: tokens of a segment.
        memory: number of earlier segments kept. The state never holds more than `memory + 1` segments.
    """

    def __init__(self, segment: int = 128, memory: int = 1) -> None:
        if segment < 1 or memory < 0:
            raise UsageError(
                f"segment must be at least 1 and memory at least 0, got segment={segment}, memory={memory}."
            )
        super().__init__(sinks=0, window=(memory + 1) * segment, block=segment)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"segment": 16, "memory": size - 1}

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        update, state = windows.store(self.rule, k, v, state, valid)
        return update.recalled(state), state
