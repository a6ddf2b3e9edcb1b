"""RNN: its equation. `test_recurrent` holds it to that."""

import torch
from torch import Tensor

from memspan.mechanisms.rnn import RNN
from memspan.testing import Example
from tests.mechanisms.references import WIDTH

EXAMPLE = Example(bounded=lambda: RNN(WIDTH, hidden=6, layers=2))
CARRIED = "h"


def step(weights: list[Tensor], token: Tensor, hidden: Tensor, before: dict[str, Tensor]) -> dict[str, Tensor]:
    w_input, w_hidden, b_input, b_hidden = weights
    return {"h": torch.tanh(w_input @ token + b_input + w_hidden @ hidden + b_hidden)}
