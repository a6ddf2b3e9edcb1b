"""A cell that is added to, and gates that decide what enters, stays and leaves.

Letters: B batch, S tokens, H hidden size, D model width.
"""

import torch
from torch import Tensor, nn

from memspan.mechanisms.layers.recurrent import Carried, Recurrent


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with the forget gate of Gers et al. 2000.

        i_t = sigmoid(W_i x_t + U_i h_{t-1} + b_i)      what enters the cell
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)      what stays in it
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)         what could enter
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o)      what is shown of it
        c_t = f_t c_{t-1} + i_t g_t
        h_t = o_t tanh(c_t)                             y_t = h_t, projected to D if H is another

    Deviations from the papers: no peepholes; b_f starts at `forget_bias`, so that a new network remembers (Jozefowicz et
    al. 2015).

    Args:
        width, hidden, layers, dropout: as in `Recurrent`.
        forget_bias: b_f of a new network: 1 keeps about three quarters from step to step, 3 keeps 95 %.
    """

    kind = nn.LSTM

    def __init__(
        self,
        width: int,
        hidden: int | None = None,
        layers: int = 1,
        dropout: float = 0.0,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(width, hidden, layers, dropout)
        size = self.network.hidden_size
        with torch.no_grad():
            for _, _, b_input, b_hidden in self.network.all_weights:
                b_input[size : 2 * size] = forget_bias
                b_hidden[size : 2 * size] = 0.0  # torch adds the two

    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        i, f, g, o = (from_input + from_hidden).chunk(4, 1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * before["c"] + i * g
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * c.tanh()}
