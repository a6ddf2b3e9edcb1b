"""The simplest recurrent network.

Letters: B batch, S tokens, H hidden size, D model width.
"""

from torch import Tensor, nn

from memspan.mechanisms.layers.recurrent import Carried, Recurrent


class RNN(Recurrent):
    """Elman 1990, "Finding structure in time": the hidden state is all that is remembered, and it is overwritten.

        h_t = tanh(W_i x_t + b_i + W_h h_{t-1} + b_h)        y_t = h_t, projected to D if H is another

    Deviations from the paper: layers may be stacked, and gradients flow through the whole segment instead of one step.

    The settings are those of `Recurrent`.
    """

    kind = nn.RNN

    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        return {"h": (from_input + from_hidden).tanh()}
