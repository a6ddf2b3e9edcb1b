"""The protocol of every model: it reads a stream segment by segment and hands its state on.

Letters: B batch, S tokens of a segment, V vocabulary.
"""

from typing import Protocol

from torch import Tensor

from memspan.state import State


class StatefulModel(Protocol):
    """A model `(ids, state, logits_to_keep) -> (logits, state)`: a text in segments gives what the whole text gives."""

    def __call__(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V) of the last tokens, and the state after all of them.

        Args:
            state: after everything that was read before; None before the first segment.
            logits_to_keep: number of last tokens whose logits are needed, from 0; None means all S.
        """
        ...
