"""The two things a pretrained transformer lets you touch: hidden states, and keys and values.

Letters: B batch, S tokens of the segment, N keys recalled, D model width, H heads, K head size.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from memspan.state import State


class Mechanism(nn.Module, ABC):
    """The rule `(x, state) -> (y, state)` over hidden states. The first argument of every constructor is the width D.

    Attributes:
        causal: no token sees a later one; only such a mechanism can model language from left to right.
        grid: a stream may be cut at multiples of it without changing what is computed.
    """

    causal: ClassVar[bool] = True
    grid: int = 1

    @abstractmethod
    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """x (B, S, D) -> y (B, S, D) and the state after the segment. `state=None` means that nothing was read yet.

        A mechanism with an objective of its own leaves its value in the state under the key "loss", (B,); the training
        loop finds it there (`memspan.state.losses`).
        """

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The same as `forward`, and what happened inside by name: gates, scores, weights, each batch first."""
        y, state = self(x, state)
        return y, state, {}


class Recalled(NamedTuple):
    """The keys and values that the queries of one piece may attend to, and where everything stands.

    Keys carry no position of their own: the attention rotates them at `key_positions`, which the mechanism assigns anew
    so that they stay inside the window the model was trained on. Where all rows stand alike, the batch size of the mask
    and of the positions may be 1.
    """

    k: Tensor  # (B, H, N, K) un-rotated
    v: Tensor  # (B, H, N, K)
    mask: (
        Tensor | None
    )  # (B, S, N) bool, true = visible; None = the last S keys are the piece, and a query sees all to its own
    key_positions: Tensor  # (B, N) int64
    query_positions: Tensor  # (B, S) int64


class KVMechanism(nn.Module, ABC):
    """The rule that turns the keys and values of a segment, and the state, into what its queries attend to."""

    @abstractmethod
    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        """q (B, Hq, S, K), k and v (B, H, S, K), all un-rotated -> what these queries see, and the state after them.

        `valid` (B, S) bool is false at padding, which is neither seen nor kept; None means that all is text.
        The segment must be one that `split_lengths` allows.
        """

    def split_lengths(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        """Lengths, summing to `length`, of the consecutive pieces in which `recall` must be given a segment."""
        return [length]

    def capacity(self) -> int | None:
        """The largest position it ever assigns, plus one; None when only the length of the stream bounds it."""
        return None
