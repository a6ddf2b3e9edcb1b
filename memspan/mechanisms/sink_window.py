"""The first tokens and the most recent ones."""

from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as blocks
from memspan.state import State


class SinkWindow(blocks.Windowed):
    """StreamingLLM (Xiao et al. 2024, arXiv 2309.17453): attention sinks and a recent window at re-assigned positions.

    Deviations from the paper: tokens leave in whole blocks of `block` rather than one by one, so that what a query sees
    and the positions it is given depend on its place in the stream alone, not on how the stream was cut; padding is
    neither a sink nor a part of the window, so every row of a ragged batch remembers what it would remember alone.

    Args:
        sinks: how many first tokens stay for ever.
        window: how many recent tokens are kept at most, a multiple of `block`; None keeps everything. May be changed
            between two segments: a smaller window forgets at the next one, a larger one fills up again.
        block: how many tokens leave together. A query sees between `window - block + 1` and `window` recent tokens.
    """

    def __init__(self, sinks: int = 4, window: int | None = 1024, block: int = 128) -> None:
        if sinks < 0 or block < 1 or (window is not None and (window < block or window % block)):
            raise UsageError(
                f"sinks={sinks}, window={window}, block={block} cannot be: sinks must be 0 or more, "
                "and the window a positive multiple of the block."
            )
        super().__init__(sinks, window, block)

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        count, state = blocks.keep(self.rule, k, v, state, valid)
        return count.recalled(state), state
