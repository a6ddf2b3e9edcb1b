"""The keys of the segments before."""

from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as blocks
from memspan.state import State


class Segment(blocks.Windowed):
    """Transformer-XL (Dai et al. 2019, arXiv 1901.02860): a token sees its own segment, and the `memory` segments before.

    Deviations from the paper: the length of a segment is a setting rather than that of the call, so that a stream may be
    cut anywhere; gradients flow into the remembered keys unless the caller detaches the state, as the paper does; what
    is remembered are keys and values, not the hidden states they are made of, which is the same as long as the weights
    do not change. Its relative positions are a setting of the attention that reads this (positions="relative").

    Args:
        segment: tokens of a segment.
        memory: how many earlier segments are kept. The state never holds more than `memory + 1` of them.
    """

    def __init__(self, segment: int = 128, memory: int = 1) -> None:
        if segment < 1 or memory < 0:
            raise UsageError(
                f"segment={segment}, memory={memory} cannot be: a segment has at least one token, and memory is 0 or more."
            )
        super().__init__(sinks=0, window=(memory + 1) * segment, block=segment)

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        count, state = blocks.keep(self.rule, k, v, state, valid)
        return count.recalled(state), state
