"""GRU: its equations, gate by gate. `test_recurrent` holds it to them."""

import torch
from torch import Tensor

from memspan.mechanisms.gru import GRU
from memspan.testing import Example, random_stream
from tests.mechanisms.references import WIDTH

EXAMPLE = Example(bounded=lambda: GRU(WIDTH, hidden=6, layers=2))
CARRIED = "h"


def step(weights: list[Tensor], token: Tensor, hidden: Tensor, before: dict[str, Tensor]) -> dict[str, Tensor]:
    """`hidden` is what the gates see of h, `before` what there was before dropout."""
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = (one.chunk(3) for one in weights)
    r = torch.sigmoid(w_r @ token + b_r + u_r @ hidden + c_r)
    z = torch.sigmoid(w_z @ token + b_z + u_z @ hidden + c_z)
    n = torch.tanh(w_n @ token + b_n + r * (u_n @ hidden + c_n))
    return {"h": (1 - z) * n + z * before["h"]}


def test_what_is_gates_obeys_the_last_equation() -> None:
    mechanism = EXAMPLE.make()
    x, more = random_stream(mechanism, 3, 9)[0].split([4, 5], 1)
    _, state = mechanism(x)
    _, _, internals = mechanism.forward_with_internals(more, state)
    gates = {name: gate.value for name, gate in internals.gates.items()}
    assert list(gates) == list("rznh")
    before = torch.cat([state["h"][:, None], gates["h"][:, :-1]], 1)
    torch.testing.assert_close(gates["h"], torch.lerp(gates["n"], before, gates["z"]))
