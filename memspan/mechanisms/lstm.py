"""A recurrent network with a cell that is added to, and gates for what enters it, stays in it and leaves it.

Letters: B batch, S tokens, H hidden size, D model width.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from memspan.mechanisms.base import SHARE, SIGNED_UNIT, Meaning
from memspan.mechanisms.layers.recurrent import Carried, Recurrent


class LSTM(Recurrent):
    """A cell written through an input, a forget and an output gate (long short-term memory, Hochreiter and Schmidhuber 1997).

    The forget gate is that of Gers et al. 2000.

        i_t = sigmoid(W_i x_t + U_i h_{t-1} + b_i)      input gate
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)      forget gate
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)         candidate
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o)      output gate
        c_t = f_t c_{t-1} + i_t g_t
        h_t = o_t tanh(c_t)                             y_t = h_t, projected to D if H differs from it

    Deviations from the papers: no peepholes; b_f starts at `forget_bias`, so that a new network remembers (Jozefowicz et
    al. 2015).

    Args:
        width, hidden, layers, dropout: as in `Recurrent`.
        forget_bias: b_f of a new network: 1 keeps about three quarters of the cell from step to step, 3 keeps 95 %.
    """

    kind = nn.LSTM
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "i": Meaning("input gate, share of the candidate that enters the cell", SHARE),
        "f": Meaning("forget gate, share of the old cell that is kept", SHARE),
        "g": Meaning("candidate for the cell", SIGNED_UNIT),
        "o": Meaning("output gate, share of the cell that is shown", SHARE),
        "c": Meaning("cell"),
        "h": Meaning("hidden state", SIGNED_UNIT),
    }

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
