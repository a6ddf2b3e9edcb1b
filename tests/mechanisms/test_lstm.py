"""LSTM: its equations, gate by gate, and the bias of one gate. `test_recurrent` holds it to them."""

import pytest
import torch
from torch import Tensor

from memspan.mechanisms.lstm import LSTM
from memspan.testing import Example, random_stream
from tests.mechanisms.references import WIDTH

EXAMPLE = Example(bounded=lambda: LSTM(WIDTH, hidden=6, layers=2))
CARRIED = "hc"


def step(weights: list[Tensor], token: Tensor, hidden: Tensor, before: dict[str, Tensor]) -> dict[str, Tensor]:
    w, u, b, b_hidden = (one.chunk(4) for one in weights)
    i, f, g, o = (w[n] @ token + u[n] @ hidden + b[n] + b_hidden[n] for n in range(4))
    c = torch.sigmoid(f) * before["c"] + torch.sigmoid(i) * torch.tanh(g)
    return {"c": c, "h": torch.sigmoid(o) * torch.tanh(c)}


def test_what_is_watched_obeys_the_equations_of_the_cell() -> None:
    mechanism = EXAMPLE.make()
    x, more = random_stream(mechanism, 3, 9)[0].split([4, 5], 1)
    _, state = mechanism(x)
    internals = mechanism.forward_with_internals(more, state)[2]
    i, f, g, o, c, h = (internals.gates[name].value for name in "ifgoch")
    before = torch.cat([state["c"][:, None], c[:, :-1]], 1)
    torch.testing.assert_close(c, f * before + i * g)
    torch.testing.assert_close(h, o * c.tanh())


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_the_bias_of_the_forget_gate(bias: float) -> None:
    """With nothing read and nothing carried the gate is the sigmoid of its bias, in every layer that hears nothing."""
    mechanism = LSTM(WIDTH, hidden=6, layers=2, forget_bias=bias)
    for _, _, b_input, b_hidden in mechanism.network.all_weights:
        assert (b_input + b_hidden)[6:12].tolist() == [bias] * 6
        assert (b_input + b_hidden)[:6].unique().numel() == 6  # the other gates' are as torch made them
    internals = mechanism.forward_with_internals(torch.zeros(1, 1, WIDTH))[2]
    torch.testing.assert_close(internals.gates["f"].value[0, 0, 0], torch.full((6,), bias).sigmoid())
