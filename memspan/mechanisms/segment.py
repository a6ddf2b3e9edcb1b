"""The keys of the segments before."""

from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms import blocks
from memspan.mechanisms.base import KVMechanism, Recalled
from memspan.state import State


class Segment(KVMechanism):
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
        super().__init__()
        if segment < 1 or memory < 0:
            raise UsageError(
                f"segment={segment}, memory={memory} cannot be: a segment has at least one token, and memory is 0 or more."
            )
        self.rule: blocks.Rule = (0, (memory + 1) * segment, segment)

    def capacity(self) -> int | None:
        return self.rule[1]

    def pieces(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        return blocks.pieces(self.rule, length, state, valid)

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        count, keys, values = blocks.keep(self.rule, k, v, state, valid)
        recalled = Recalled(keys, values, count.mask(), count.key_positions, count.query_positions)
        return recalled, {"k": keys, "v": values, "place": count.place, "seen": count.seen}
