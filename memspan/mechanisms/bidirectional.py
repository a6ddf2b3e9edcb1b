"""Recurrent networks and transformer layers that read each segment in both directions.

Letters: B batch, S tokens, T tokens of a segment, P tokens of earlier segments, F feed-forward width, H hidden size,
D model width.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import Gate, Internals, Mechanism, Recalled, TraceInput
from memspan.mechanisms.layers.attention import attend, rotary
from memspan.mechanisms.layers.ragged import Layout, without_padding
from memspan.mechanisms.layers.recurrent import Carried, by_segment, check_sizes, run
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.mechanisms.layers.window import take
from memspan.state import State

NETWORKS: dict[str, Callable[..., nn.RNNBase]] = {
    network.__name__.lower(): network for network in (nn.GRU, nn.LSTM, nn.RNN)
}
TRANSFORMER = "transformer"
KINDS = (*NETWORKS, TRANSFORMER)
WHOLE = 2**40  # tokens: no text is so long, and the least common multiple with other grids is still a small number

MEANINGS: Mapping[str, str] = {
    "forward": "hidden state of the forward direction",
    "backward": "hidden state of the backward direction",
    "both": "hidden state of both directions",
}


class Bidirectional(Mechanism):
    """Both directions of each segment (bidirectional RNN, Schuster and Paliwal 1997; transformer, Devlin et al. 2019).

    Deviation from the papers: they read a whole text at once. Here the forward direction is carried from segment to
    segment by the state, and the backward direction begins anew at the end of each segment, so that a stream of any
    length is read in constant memory; a call need not end with a complete segment if the text ends there. The
    transformer sees the tokens of its own segment in both directions, and the unchanged keys of `memory` earlier segments
    (Transformer-XL, Dai et al. 2019, with rotary positions).

    At one hidden size H this has about twice the parameters of a network that only reads forwards; `hidden` and
    `backward_hidden` allow a comparison at equal size.

    Args:
        width: D.
        kind: "gru", "lstm", "rnn", or "transformer".
        segment: T; None if every call holds a whole text: the backward direction then begins at its end.
        hidden: H of the forward direction, D by default; of a transformer F, 4 D by default.
        backward_hidden: H of the backward direction, by default that of the forward one; not for a transformer.
        layers: number of layers; each reads both directions of the one below.
        heads: attention heads of the transformer.
        memory: number of earlier segments that the transformer sees.
    """

    causal: ClassVar[bool] = False
    trace_input: ClassVar[TraceInput] = TraceInput(settings={"heads": 1})

    def __init__(
        self,
        width: int,
        kind: str = next(iter(NETWORKS)),
        segment: int | None = 64,
        hidden: int | None = None,
        backward_hidden: int | None = None,
        layers: int = 1,
        heads: int = 4,
        memory: int = 4,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UsageError(f"kind must be one of {', '.join(KINDS)}, got '{kind}'.")
        if memory < 0 or (segment is not None and segment < 1):
            raise UsageError(
                f"segment must be at least 1 and memory at least 0, got segment={segment}, memory={memory}."
            )
        self.segment = segment
        self.grid = WHOLE if segment is None else segment
        if kind == TRANSFORMER:
            if backward_hidden is not None:
                raise UsageError(
                    f"backward_hidden must be left out for a transformer, which reads both directions at once, "
                    f"got {backward_hidden}."
                )
            past = 0 if segment is None else memory * segment
            hidden = 4 * width if hidden is None else hidden
            check_sizes(hidden, layers)
            self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, past) for _ in range(layers))
            self.out = nn.Linear(width, width)
        else:
            hidden = width if hidden is None else hidden
            back = hidden if backward_hidden is None else backward_hidden
            check_sizes(min(hidden, back), layers)
            inputs = [width, *[hidden + back] * (layers - 1)]
            self.layers = nn.ModuleList(RecurrentLayer(NETWORKS[kind], size, hidden, back) for size in inputs)
            self.out = nn.Linear(hidden + back, width)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"hidden": size}

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        def read(text: Tensor, before: State, layout: Layout | None) -> tuple[Tensor, State]:
            return self._read(text, before, None if layout is None else layout.lengths)[:2]

        return without_padding(read, x, state, valid)

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        """Also the hidden states of every layer, (B, S, layers, *): "forward" and "backward", or a transformer's "both"."""
        y, state, layers = self._read(x, state)
        stacked = {name: torch.stack([directions[name] for directions in layers], 2) for name in layers[0]}
        gates = {name: Gate(value, MEANINGS[name], "B S layers H") for name, value in stacked.items()}
        return y, state, Internals(gates)

    def _read(
        self, x: Tensor, state: State, lengths: Tensor | None = None
    ) -> tuple[Tensor, State, list[dict[str, Tensor]]]:
        """The output, the state, and each layer's directions by name, (B, S, *). Rows end after `lengths` (B,) tokens."""
        if not x.shape[1]:
            return x, state, []
        segment = x.shape[1] if self.segment is None else self.segment
        before = (None,) * len(self.layers) if state is None else state
        after, computed = [], []
        for layer, layer_state in zip(self.layers, before, strict=True):
            x, layer_state, directions = layer(x, layer_state, segment, lengths)
            after.append(layer_state)
            computed.append(directions)
        return self.out(x), tuple(after), computed


class RecurrentLayer(nn.Module):
    """(x (B, S, *), state, T) -> both directions (B, S, forward H + backward H), state, each direction by name.

    With `lengths` (B,) int64, each row ends after so many tokens.
    """

    def __init__(self, network: Callable[..., nn.RNNBase], inputs: int, hidden: int, backward_hidden: int) -> None:
        super().__init__()
        self.forwards = network(inputs, hidden, batch_first=True)
        self.backwards = network(inputs, backward_hidden, batch_first=True)

    def forward(
        self, x: Tensor, carried: Carried | None, segment: int, lengths: Tensor | None = None
    ) -> tuple[Tensor, Carried, dict[str, Tensor]]:
        past, carried = run(self.forwards, x, carried, lengths)
        future = by_segment(self._backwards, x, segment, lengths)
        return torch.cat([past, future], 2), carried, {"forward": past, "backward": future}

    def _backwards(self, part: Tensor, lengths: Tensor | None) -> Tensor:
        """(rows, T, *) -> (rows, T, backward H), from the last token of each row to its first."""
        index = torch.arange(part.shape[1], device=part.device).expand(len(part), -1)
        end = part.shape[1] if lengths is None else lengths[:, None]
        order = torch.where(index < end, end - 1 - index, index)[..., None]  # its own inverse
        y, _ = run(self.backwards, part.gather(1, order.expand(-1, -1, part.shape[2])))
        return y.gather(1, order.expand(-1, -1, y.shape[2]))


class EncoderLayer(nn.Module):
    """A transformer layer that also sees earlier segments: (x (B, S, D), state, T) -> y (B, S, D), state, y by name.

    The state is the keys and values of the last P tokens at most, {"k", "v"}: (B, heads, P, D / heads); of rows of different
    lengths also {"valid": (B, P) bool}, which of them are tokens, the last ones. With `lengths` (B,) int64, each row ends
    after so many tokens.
    """

    def __init__(self, width: int, heads: int, inner: int, past: int) -> None:
        super().__init__()
        self.layer, self.past = TransformerLayer(width, heads, inner), past

    def forward(
        self, x: Tensor, state: State, segment: int, lengths: Tensor | None = None
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        if lengths is not None or (state is not None and "valid" in state):
            return self._read_ragged(x, state, segment, lengths)
        q, k, v = self.layer.qkv(x)
        past = (k[:, :, :0], v[:, :, :0]) if state is None else (state["k"], state["v"])
        outputs = []
        for q_part, k_part, v_part in zip(*(torch.split(tensor, segment, 2) for tensor in (q, k, v)), strict=True):
            keys, values = torch.cat([past[0], k_part], 2), torch.cat([past[1], v_part], 2)
            length, total = q_part.shape[2], keys.shape[2]
            positions = torch.arange(total, device=x.device)[None]
            everything = torch.ones(1, length, total, dtype=torch.bool, device=x.device)
            recalled = Recalled(keys, values, everything, positions, positions[:, total - length :])
            outputs.append(attend(q_part, recalled, rotary))
            start = max(0, total - self.past)
            past = (keys[:, :, start:], values[:, :, start:])
        x = self.layer.add(x, torch.cat(outputs, 2))
        return x, {"k": past[0].clone(), "v": past[1].clone()}, {"both": x}

    def _read_ragged(
        self, x: Tensor, state: State, segment: int, lengths: Tensor | None
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        q, k, v = self.layer.qkv(x)
        keys, values = (k[:, :, :0], v[:, :, :0]) if state is None else (state["k"], state["v"])
        seen = x.new_ones(len(x), keys.shape[2], dtype=torch.bool)
        if state is not None and "valid" in state:
            seen = state["valid"]
        column = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        text = column < (x.shape[1] if lengths is None else lengths[:, None])
        outputs = []
        for part in torch.split(torch.arange(x.shape[1], device=x.device), segment):
            keys, values = torch.cat([keys, k[:, :, part]], 2), torch.cat([values, v[:, :, part]], 2)
            seen = torch.cat([seen, text[:, part]], 1)
            index = (seen.long().cumsum(1) - 1).clamp_min(0)  # positions: what is no token takes none
            mask = (seen | ~seen.any(1, keepdim=True))[:, None].expand(-1, len(part), -1)
            recalled = Recalled(keys, values, mask, index, index[:, index.shape[1] - len(part) :])
            outputs.append(attend(q[:, :, part], recalled, rotary))
            order = seen.byte().argsort(dim=1, stable=True)[:, max(0, seen.shape[1] - self.past) :]
            keys, values, seen = take(keys, order), take(values, order), seen.gather(1, order)
        x = self.layer.add(x, torch.cat(outputs, 2))
        return x, {"k": keys, "v": values, "valid": seen}, {"both": x}
