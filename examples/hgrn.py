"""A memory mechanism of one's own in one file: a gated linear recurrence (HGRN, Qin et al. 2023, arXiv 2311.04823).

memspan train --plugin examples/hgrn.py --mechanism hgrn --task mqar --seconds 60 --output runs/hgrn
memspan eval runs/hgrn/best --plugin examples/hgrn.py --segments 2,8
python examples/hgrn.py    # compares it with its definition, and checks the laws of a mechanism
"""

import torch
from torch import Tensor, nn

import memspan
from memspan.mechanisms import Gate, Internals, Mechanism
from memspan.mechanisms.base import SHARE
from memspan.mechanisms.layers.precision import at_least_single
from memspan.state import State
from memspan.testing import check_laws


class HGRN(Mechanism):
    """A hidden state that a forget gate with a lower bound decays (gated linear recurrence, Qin et al. 2023, arXiv 2311.04823).

        h_t = f_t h_{t-1} + (1 - f_t) c_t        y_t = norm(h_t) g_t

    Deviation from the paper: the lower bound is a setting, rather than learned for each layer; the state is real.

    Args:
        width: D.
        lowest: lower bound of the forget gate, from 0 to below 1: close to 1 the state is kept long.
    """

    def __init__(self, width: int, lowest: float = 0.9) -> None:
        super().__init__()
        self.lowest = lowest
        self.project = nn.Linear(width, 3 * width)  # forget gate, candidate and output gate
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """x (B, S, D), valid (B, S) -> y (B, S, D) and the state {"hidden": (B, D)}."""
        precision = at_least_single(x.dtype)  # what every token is added to stays in float32
        hidden = x.new_zeros(len(x), x.shape[2], dtype=precision) if state is None else state["hidden"]
        if not x.shape[1]:
            return x, {"hidden": hidden}
        forget, candidate, gate = self._gates(x)
        decay, written = forget.to(precision), ((1 - forget) * candidate).to(precision)
        if valid is not None:  # padding neither decays nor writes
            decay = torch.where(valid[..., None], decay, 1.0)
            written = torch.where(valid[..., None], written, 0.0)
        written = torch.cat([hidden[:, None], written], 1)
        decay = torch.cat([torch.ones_like(hidden)[:, None], decay], 1)
        hidden_states = scan(decay, written)[:, 1:]
        y = self.out(self.norm(hidden_states.to(self.norm.weight.dtype)).to(x.dtype) * gate)
        return y, {"hidden": hidden_states[:, -1]}

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        y, state = self(x, state)
        gates = {"forget": Gate(self._gates(x)[0], "share of the state that is kept", "B S D", SHARE)}
        return y, state, Internals(gates)

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        forget, candidate, gate = self.project(x).chunk(3, -1)
        kept = self.lowest + (1 - self.lowest) * forget.sigmoid()
        return kept, torch.nn.functional.silu(candidate), gate.sigmoid()


def scan(decay: Tensor, written: Tensor) -> Tensor:
    """h_t = decay_t h_{t-1} + written_t for all t at once, (B, S, D), in log2(S) steps (Hillis and Steele 1986)."""
    shift = 1
    while shift < written.shape[1]:
        written = torch.cat([written[:, :shift], written[:, shift:] + decay[:, shift:] * written[:, :-shift]], 1)
        decay = torch.cat([decay[:, :shift], decay[:, shift:] * decay[:, :-shift]], 1)
        shift *= 2
    return written


def reference(mechanism: HGRN, x: Tensor) -> Tensor:
    """The definition, token by token: what `forward` has to give."""
    hidden, outputs = torch.zeros_like(x[:, 0]), []
    for token in x.unbind(1):
        forget, candidate, gate = mechanism._gates(token)
        hidden = forget * hidden + (1 - forget) * candidate
        outputs.append(mechanism.out(mechanism.norm(hidden) * gate))
    return torch.stack(outputs, 1)


memspan.register("hgrn", HGRN)

if __name__ == "__main__":
    mechanism, x = HGRN(16).double(), torch.randn(2, 50, 16, dtype=torch.float64)
    torch.testing.assert_close(mechanism(x)[0], reference(mechanism, x))
    check_laws("hgrn", lambda: HGRN(16, lowest=0.1), width=16)
    print("hgrn equals its definition and obeys all laws.")
