"""Two gates between the old hidden state and a new one.

Letters: B batch, S tokens, H hidden size, D model width.
"""

from torch import Tensor, nn

from memspan.mechanisms.layers.recurrent import Carried, Recurrent


class GRU(Recurrent):
    """The gated recurrent unit (Cho et al. 2014, arXiv 1406.1078).

        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)            how much of the past the candidate sees
        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)            how much of the past stays
        n_t = tanh(W_n x_t + b_n + r_t (U_n h_{t-1} + c_n))   the candidate
        h_t = (1 - z_t) n_t + z_t h_{t-1}                     y_t = h_t, projected to D if H is another

    Deviation from the paper: r_t is applied after the product with U_n, as cuDNN and torch do, not before it.

    The settings are those of `Recurrent`.
    """

    kind = nn.GRU

    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        (r_input, z_input, n_input), (r_hidden, z_hidden, n_hidden) = from_input.chunk(3, 1), from_hidden.chunk(3, 1)
        r = (r_input + r_hidden).sigmoid()
        z = (z_input + z_hidden).sigmoid()
        n = (n_input + r * n_hidden).tanh()
        return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * before["h"]}
