"""The first tokens and the most recent ones."""

from typing import Any

from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers import window as windows
from memspan.state import State


class SinkWindow(windows.Windowed):
    """Attention sinks and a recent window at re-assigned positions (StreamingLLM, Xiao et al. 2024, arXiv 2309.17453).

    Deviations from the paper: tokens leave in whole blocks of `block` rather than one by one, so that the keys a query sees
    and their positions depend on its index in the stream alone, not on how the stream was cut; padding is neither a sink
    nor part of the window, so every row of a ragged batch remembers what it would remember alone.

    Args:
        sinks: number of first tokens that stay for ever.
        window: largest number of recent tokens kept, a multiple of `block`; None keeps everything. May be changed between
            two segments: a smaller window forgets at the next one, a larger one fills up again.
        block: number of tokens that leave together. A query sees `window - block + 1` to `window` recent tokens.
    """

    def __init__(self, sinks: int = 4, window: int | None = 1024, block: int = 128) -> None:
        if sinks < 0 or block < 1 or (window is not None and (window < block or window % block)):
            raise UsageError(
                "sinks must be at least 0, and window a positive multiple of block, "
                f"got sinks={sinks}, window={window}, block={block} (default: sinks=4, block=128)."
            )
        super().__init__(sinks, window, block)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"window": 16 * size, "block": 16}

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        update, state = windows.store(self.rule, k, v, state, valid)
        return update.recalled(state), state
