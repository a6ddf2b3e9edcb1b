"""What recurrent networks have in common: a state per layer, one step of the equations, and torch's kernels for speed.

Letters: B batch, S tokens, T tokens of a segment, G gates, H hidden size, D model width.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism
from memspan.state import State

Carried = dict[str, Tensor]  # "h", and in an LSTM "c": each (B, layers, H)


class Recurrent(Mechanism):
    """One of torch's recurrent networks, its state batch first, and the same equations written out in `step`.

    The written-out way is taken where something is to be watched, and for dropout while training: torch's kernels show
    no gates and drop nothing between two steps of a layer. The state is what `Carried` says, and with dropout "masks".

    Attributes:
        kind: which of torch's networks it is.

    Args:
        width: D; what comes out is projected to it if H is another.
        hidden: H, D if not given.
        layers: how many, each reading the one below.
        dropout: Gal and Ghahramani 2016 (arXiv 1512.05287): what enters a layer, and what its last step hands to its
            next one, lose the same units throughout a stream. A row draws its masks at its first segment; they wait in
            the state. Only while training.
    """

    kind: ClassVar[Callable[..., nn.RNNBase]]

    def __init__(self, width: int, hidden: int | None = None, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        check(hidden, layers)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout={dropout} cannot be: it is the share of units that are dropped, below 1.")
        self.network, self.dropout = self.kind(width, hidden, layers, batch_first=True), dropout
        self.out = nn.Identity() if hidden == width else nn.Linear(hidden, width)

    @abstractmethod
    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        """W_i x_t + b_i and W_h h_{t-1} + b_h, (B, G H), and what one layer carried, (B, H) -> all that is computed.

        What comes back must hold what is carried on, under the same names.
        """

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if self.training and self.dropout:
            return self.forward_with_internals(x, state)[:2]
        hidden, state = run(self.network, x, state)
        return self.out(hidden), state

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Also every gate, candidate and state that `step` names, (B, S, layers, H)."""
        carried = initial(self.network, x) if state is None else {name: state[name] for name in _carries(self.network)}
        masks = self._masks(x, state)
        after, watched, inputs = [], [], x
        for layer, (w_input, w_hidden, b_input, b_hidden) in enumerate(self.network.all_weights):
            if masks is not None:
                inputs = inputs * masks["input"][layer][:, None]
            from_input = inputs @ w_input.T + b_input
            now, steps = {name: value[:, layer] for name, value in carried.items()}, []
            for place in range(x.shape[1]):
                hidden = now["h"] if masks is None else now["h"] * masks["hidden"][layer]
                steps.append(self.step(from_input[:, place], hidden @ w_hidden.T + b_hidden, now))
                now = {name: steps[-1][name] for name in carried}
            watched.append({name: torch.stack([one[name] for one in steps], 1) for name in steps[0]})
            after.append(now)
            inputs = watched[-1]["h"]
        state = {name: torch.stack([layer[name] for layer in after], 1) for name in carried}
        if masks is not None:
            state["masks"] = masks
        return self.out(inputs), state, {name: torch.stack([one[name] for one in watched], 2) for name in watched[0]}

    def _masks(self, x: Tensor, state: State) -> dict[str, list[Tensor]] | None:
        """Those in the state, else new ones: of each layer (B, what enters) and (B, H), 0 or 1 / (1 - dropout)."""
        if not (self.training and self.dropout):
            return None
        if state is not None and "masks" in state:
            masks: dict[str, list[Tensor]] = state["masks"]
            return masks
        sizes = {
            "input": [w_input.shape[1] for w_input, *_ in self.network.all_weights],
            "hidden": [self.network.hidden_size] * self.network.num_layers,
        }
        kept = 1 - self.dropout
        return {
            kind: [x.new_empty(x.shape[0], size).bernoulli_(kept) / kept for size in each]
            for kind, each in sizes.items()
        }


def check(hidden: int, layers: int) -> None:
    """Raises UsageError for a network that cannot be."""
    if hidden < 1 or layers < 1:
        raise UsageError(f"hidden={hidden}, layers={layers} cannot be: both are at least 1.")


def run(network: nn.RNNBase, x: Tensor, carried: Carried | None = None) -> tuple[Tensor, Carried]:
    """x (B, S, D) -> hidden states of the last layer (B, S, H) and what is carried on, batch first."""
    carried = initial(network, x) if carried is None else carried
    before = tuple(carried[name].transpose(0, 1).contiguous() for name in _carries(network))
    hidden, after = network(x, before if len(before) > 1 else before[0])
    after = after if len(before) > 1 else (after,)
    return hidden, {name: value.transpose(0, 1) for name, value in zip(_carries(network), after, strict=True)}


def initial(network: nn.RNNBase, x: Tensor) -> Carried:
    """Before anything was read; x (B, *, D) gives rows, dtype and device."""
    return {name: x.new_zeros(x.shape[0], network.num_layers, network.hidden_size) for name in _carries(network)}


def _carries(network: nn.RNNBase) -> tuple[str, ...]:
    return ("h", "c") if isinstance(network, nn.LSTM) else ("h",)


def by_segment(function: Callable[[Tensor], Tensor], x: Tensor, segment: int) -> Tensor:
    """x (B, S, D) -> (B, S, *): `function`, (rows, T, D) -> (rows, T, *), of each segment; the last may be short.

    Complete segments are so many rows of one call.
    """
    end = x.shape[1] // segment * segment
    parts = []
    if end:
        y = function(x[:, :end].reshape(-1, segment, x.shape[2]))
        parts.append(y.reshape(x.shape[0], end, *y.shape[2:]))
    if end < x.shape[1]:
        parts.append(function(x[:, end:]))
    return torch.cat(parts, 1)
