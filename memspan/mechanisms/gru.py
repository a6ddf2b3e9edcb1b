"""A recurrent network whose gates mix the old hidden state with a new one.

Letters: B batch, S tokens, H hidden size, D model width.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from memspan.mechanisms.base import SHARE, SIGNED_UNIT, Meaning
from memspan.mechanisms.layers.recurrent import Carried, Recurrent


class GRU(Recurrent):
    """A hidden state that two gates keep or replace (gated recurrent unit, Cho et al. 2014, arXiv 1406.1078).

        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)            reset gate
        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)            update gate
        n_t = tanh(W_n x_t + b_n + r_t (U_n h_{t-1} + c_n))   candidate
        h_t = (1 - z_t) n_t + z_t h_{t-1}                     y_t = h_t, projected to D if H differs from it

    Deviations from the paper: r_t is applied after the product with U_n, as in cuDNN and torch, not before it.

    The settings are those of `Recurrent`.
    """

    kind = nn.GRU
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "r": Meaning("reset gate, share of the old state that the candidate sees", SHARE),
        "z": Meaning("update gate, share of the old state that is kept", SHARE),
        "n": Meaning("candidate for the new state", SIGNED_UNIT),
        "h": Meaning("hidden state", SIGNED_UNIT),
    }

    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        (r_input, z_input, n_input), (r_hidden, z_hidden, n_hidden) = from_input.chunk(3, 1), from_hidden.chunk(3, 1)
        r = (r_input + r_hidden).sigmoid()
        z = (z_input + z_hidden).sigmoid()
        n = (n_input + r * n_hidden).tanh()
        return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * before["h"]}
