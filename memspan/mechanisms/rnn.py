"""The simplest recurrent network.

Letters: B batch, S tokens, H hidden size, D model width.
"""

from torch import Tensor, nn

from memspan.mechanisms.recurrent import Carried, Recurrent, check


class RNN(Recurrent):
    """Elman 1990, "Finding structure in time": the hidden state is all that is remembered, and it is overwritten.

        h_t = tanh(W_i x_t + b_i + W_h h_{t-1} + b_h)        y_t = h_t, projected to D if H is another

    Deviations from the paper: layers may be stacked, and gradients flow through the whole segment instead of one step.

    Args:
        width: D.
        hidden: H, D if not given.
        layers: how many, each reading the one below.
        dropout: variational (Gal and Ghahramani 2016), see `Recurrent`.
    """

    def __init__(self, width: int, hidden: int | None = None, layers: int = 1, dropout: float = 0.0) -> None:
        hidden = width if hidden is None else hidden
        check(hidden, layers)
        super().__init__(nn.RNN(width, hidden, layers, batch_first=True), width, dropout)

    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        return {"h": (from_input + from_hidden).tanh()}
