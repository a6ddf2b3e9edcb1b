"""A recurrent network without gates.

Letters: B batch, S tokens, H hidden size, D model width.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from memspan.mechanisms.base import SIGNED_UNIT, Meaning
from memspan.mechanisms.layers.recurrent import Carried, Recurrent


class RNN(Recurrent):
    """A hidden state that every token overwrites through a tanh (Elman 1990).

        h_t = tanh(W_i x_t + b_i + W_h h_{t-1} + b_h)        y_t = h_t, projected to D if H differs from it

    Deviations from the paper ("Finding structure in time"): layers may be stacked, and gradients flow through the whole
    segment instead of one step.

    The settings are those of `Recurrent`.
    """

    kind = nn.RNN
    meanings: ClassVar[Mapping[str, Meaning]] = {"h": Meaning("hidden state", SIGNED_UNIT)}

    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        return {"h": (from_input + from_hidden).tanh()}
