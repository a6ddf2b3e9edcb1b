"""The base class of recurrent mechanisms: one state per layer, one step of the equations, and torch's kernels for speed.

Letters: B batch, S tokens, T tokens of a segment, G gates, H hidden size, D model width.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from memspan.errors import UsageError
from memspan.mechanisms.base import Gate, Internals, Meaning, Mechanism, TraceInput
from memspan.mechanisms.layers.precision import at_least_single, exact, exact_products
from memspan.mechanisms.layers.ragged import layout_of
from memspan.state import State

Carried = dict[str, Tensor]  # "h", and in an LSTM "c": each (B, layers, H)


class Recurrent(Mechanism):
    """One of torch's recurrent networks with a batch-first state, and the same equations written out in `step`.

    `step` runs instead of torch's kernels for `forward_with_internals`, and for dropout during training: the kernels
    return no gates, and drop nothing between two steps of a layer. The state is a `Carried`, with dropout also "masks".

    Attributes:
        kind: torch's network.
        meanings: name -> meaning of every quantity that `step` returns.

    Args:
        width: D; the output is projected to it if H differs from it.
        hidden: H, D by default.
        layers: number of layers; each reads the one below.
        dropout: probability of dropping a unit during training (Gal and Ghahramani 2016, arXiv 1512.05287): the input of
            a layer, and the hidden state passed to its next step, lose the same units throughout a stream. A row draws
            its masks at its first segment, and keeps them in the state.
    """

    kind: ClassVar[Callable[..., nn.RNNBase]]
    meanings: ClassVar[Mapping[str, Meaning]]
    trace_input: ClassVar[TraceInput] = TraceInput(hidden="hidden")

    def __init__(self, width: int, hidden: int | None = None, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        check_sizes(hidden, layers)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, got {dropout}.")
        self.network, self.dropout = self.kind(width, hidden, layers, batch_first=True), dropout
        self.out = nn.Identity() if hidden == width else nn.Linear(hidden, width)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"hidden": size}

    @abstractmethod
    def step(self, from_input: Tensor, from_hidden: Tensor, before: Carried) -> dict[str, Tensor]:
        """W_i x_t + b_i and W_h h_{t-1} + b_h, (B, G H), and one layer's old state, (B, H) each -> all that is computed.

        The result must hold the new state, under the same names as the old one.
        """

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        if not x.numel():
            return x, state
        if self.training and self.dropout:
            y, state, _ = self._run_steps(x, state, valid)
            return y, state
        if valid is None:
            hidden, state = run(self.network, x, state)
            return self.out(hidden), state
        layout = layout_of(valid)
        hidden, state = run(self.network, layout.take(x), state, layout.lengths)
        return layout.put_back(self.out(hidden)), state

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        """Also every gate, candidate and state that `step` returns, (B, S, layers, H)."""
        y, state, values = self._run_steps(x, state)
        gates = {
            name: Gate(value, self.meanings[name].text, "B S layers H", self.meanings[name].bounds)
            for name, value in values.items()
        }
        return y, state, Internals(gates)

    def _run_steps(
        self, x: Tensor, state: State, valid: Tensor | None = None
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The output, the state, and all that `step` returned, (B, S, layers, H) each, in single precision at least."""
        with exact_products(x):
            hidden, state, values = self._exact_steps(exact(x), state, valid)
        return self.out(hidden.to(x.dtype)), state, values

    def _exact_steps(self, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """As `_run_steps`, before the projection of the hidden states of the last layer."""
        carried = initial(self.network, x) if state is None else {name: state[name] for name in _carries(self.network)}
        masks = self._masks(x, state)
        after, computed, inputs = [], [], x
        for layer, weights in enumerate(self.network.all_weights):
            w_input, w_hidden, b_input, b_hidden = map(exact, weights)
            if masks is not None:
                inputs = inputs * masks["input"][layer][:, None]
            from_input = inputs @ w_input.T + b_input
            now, steps = {name: value[:, layer] for name, value in carried.items()}, []
            for time in range(x.shape[1]):
                hidden = now["h"] if masks is None else now["h"] * masks["hidden"][layer]
                steps.append(self.step(from_input[:, time], hidden @ w_hidden.T + b_hidden, now))
                after_step = {name: steps[-1][name] for name in carried}
                if valid is not None:
                    is_text = valid[:, time, None]
                    after_step = {name: torch.where(is_text, value, now[name]) for name, value in after_step.items()}
                now = after_step
            computed.append({name: torch.stack([step[name] for step in steps], 1) for name in steps[0]})
            after.append(now)
            inputs = computed[-1]["h"]
        state = {name: torch.stack([layer[name] for layer in after], 1) for name in carried}
        if masks is not None:
            state["masks"] = masks
        values = {name: torch.stack([layer[name] for layer in computed], 2) for name in computed[0]}
        return inputs, state, values

    def _masks(self, x: Tensor, state: State) -> dict[str, list[Tensor]] | None:
        """The masks in the state, or new ones: per layer (B, input size) and (B, H), 0 or 1 / (1 - dropout)."""
        if not (self.training and self.dropout):
            return None
        if state is not None and "masks" in state:
            masks: dict[str, list[Tensor]] = state["masks"]
            return masks
        sizes = {
            "input": [w_input.shape[1] for w_input, *_ in self.network.all_weights],
            "hidden": [self.network.hidden_size] * self.network.num_layers,
        }
        keep = 1 - self.dropout
        return {
            kind: [x.new_empty(x.shape[0], size).bernoulli_(keep) / keep for size in layer_sizes]
            for kind, layer_sizes in sizes.items()
        }


def check_sizes(hidden: int, layers: int) -> None:
    """Raises UsageError unless both are at least 1."""
    if hidden < 1 or layers < 1:
        raise UsageError(f"hidden and layers must be at least 1, got hidden={hidden}, layers={layers}.")


def run(
    network: nn.RNNBase, x: Tensor, carried: Carried | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, Carried]:
    """x (B, S, D) -> hidden states of the last layer (B, S, H) and the new state, batch first.

    It is computed, and carried, in single precision at least, also where weights are half precision, or autocast is on.
    With `lengths` (B,) int64 of at most S, each row ends after so many tokens: its state is the one after them.
    """
    if not x.shape[1]:
        return x.new_zeros(len(x), 0, network.hidden_size), initial(network, x) if carried is None else carried
    names = _carries(network)
    carried = initial(network, x) if carried is None else carried
    weights = [exact(weight) for layer in network.all_weights for weight in layer]
    kernel = getattr(
        torch, network.mode.lower()
    )  # the function behind the module, which takes weights of another dtype
    with exact_products(x):
        before = tuple(exact(carried[name]).transpose(0, 1).contiguous() for name in names)
        settings = (weights, True, network.num_layers, 0.0, network.training, False)
        if lengths is None:
            hidden, *after = kernel(exact(x), before if len(before) > 1 else before[0], *settings, network.batch_first)
        else:
            packed = pack_padded_sequence(exact(x), lengths.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
            assert packed.sorted_indices is not None
            assert packed.unsorted_indices is not None
            in_order = tuple(value.index_select(1, packed.sorted_indices) for value in before)
            state = in_order if len(before) > 1 else in_order[0]
            data, *after = kernel(packed.data, packed.batch_sizes, state, *settings)
            hidden, _ = pad_packed_sequence(packed._replace(data=data), batch_first=True, total_length=x.shape[1])
            reads = (lengths > 0)[None, :, None]
            after = [
                torch.where(reads, value.index_select(1, packed.unsorted_indices), old)
                for value, old in zip(after, before, strict=True)
            ]
    return hidden.to(x.dtype), {name: value.transpose(0, 1) for name, value in zip(names, after, strict=True)}


def initial(network: nn.RNNBase, x: Tensor) -> Carried:
    """The state before the first token; x (B, *, D) gives rows and device, and the dtype unless it is half precision."""
    shape = (x.shape[0], network.num_layers, network.hidden_size)
    return {name: x.new_zeros(shape, dtype=at_least_single(x.dtype)) for name in _carries(network)}


def _carries(network: nn.RNNBase) -> tuple[str, ...]:
    return ("h", "c") if isinstance(network, nn.LSTM) else ("h",)


def by_segment(
    function: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, segment: int, lengths: Tensor | None = None
) -> Tensor:
    """x (B, S, D) -> (B, S, *): `function`, (rows, T, D) -> (rows, T, *), of each segment; the last may be short.

    Complete segments are rows of a single call. With `lengths` (B,) int64 of at most S each row ends after so many tokens, and
    the function also gets the number of tokens in each of its rows, (rows,).
    """
    if lengths is not None:
        count = -(-x.shape[1] // segment)
        padded = nn.functional.pad(x, (0, 0, 0, count * segment - x.shape[1]))
        starts = torch.arange(count, device=x.device) * segment
        inside = (lengths[:, None] - starts).clamp(0, segment).flatten()
        y = function(padded.reshape(len(x) * count, segment, x.shape[2]), inside)
        return y.reshape(len(x), count * segment, *y.shape[2:])[:, : x.shape[1]]
    end = x.shape[1] // segment * segment
    parts = []
    if end:
        y = function(x[:, :end].reshape(-1, segment, x.shape[2]), None)
        parts.append(y.reshape(x.shape[0], end, *y.shape[2:]))
    if end < x.shape[1]:
        parts.append(function(x[:, end:], None))
    return torch.cat(parts, 1)
