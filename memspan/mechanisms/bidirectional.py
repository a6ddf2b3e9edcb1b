"""Both sides of a token: everything before it, and what follows in its segment.

Letters: B batch, S tokens, T tokens of a segment, P tokens of earlier segments, F feed-forward width, H hidden size,
D model width.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism, Recalled
from memspan.mechanisms.layers.attention import attend, rotary
from memspan.mechanisms.layers.recurrent import Carried, by_segment, check, run
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.state import State

NETWORKS: dict[str, Callable[..., nn.RNNBase]] = {
    network.__name__.lower(): network for network in (nn.GRU, nn.LSTM, nn.RNN)
}
ATTENTIVE = "transformer"
WHOLE = 2**40  # tokens: no text is so long, and the least common multiple with other grids is still a small number


class Bidirectional(Mechanism):
    """A bidirectional recurrent network (Schuster and Paliwal 1997) or transformer encoder (Devlin et al. 2019).

    Deviation from the papers: they read a whole text at once. Here the forward direction is carried from segment to
    segment by the state, and the backward direction begins anew at the end of each segment, so that a stream of any
    length is read in constant memory; a call need not end with a complete segment if the text ends there. The
    transformer sees the tokens of its own segment in both directions and `memory` earlier segments as they were
    (Transformer-XL, Dai et al. 2019, with rotary positions).

    At one hidden size H this has about twice the parameters of a network that only reads forwards; `hidden` and
    `backward_hidden` are there to compare the two at the same number.

    Args:
        width: D.
        kind: "gru", "lstm" or "rnn", or "transformer".
        segment: T; None if every call holds a whole text: the backward direction then begins at its end.
        hidden: H of the forward direction, D if not given; of a transformer F, 4 D if not given.
        backward_hidden: H of the backward direction, as the forward one if not given. A transformer has none.
        layers: how many; each reads both directions of the one below.
        heads: of the transformer.
        memory: earlier segments that the transformer sees; 0 is none.
    """

    causal: ClassVar[bool] = False

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
        if kind not in (*NETWORKS, ATTENTIVE):
            raise UsageError(f"There is no kind '{kind}'. Known: {', '.join([*NETWORKS, ATTENTIVE])}.")
        if memory < 0 or (segment is not None and segment < 1):
            raise UsageError(f"segment={segment}, memory={memory} cannot be: a segment has at least one token.")
        self.segment = segment
        self.grid = WHOLE if segment is None else segment
        if kind == ATTENTIVE:
            if backward_hidden is not None:
                raise UsageError("A transformer reads both directions at once: leave out backward_hidden.")
            past = 0 if segment is None else memory * segment
            hidden = 4 * width if hidden is None else hidden
            check(hidden, layers)
            self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, past) for _ in range(layers))
            self.out = nn.Linear(width, width)
        else:
            hidden = width if hidden is None else hidden
            back = hidden if backward_hidden is None else backward_hidden
            check(min(hidden, back), layers)
            inputs = [width, *[hidden + back] * (layers - 1)]
            self.layers = nn.ModuleList(RecurrentLayer(NETWORKS[kind], size, hidden, back) for size in inputs)
            self.out = nn.Linear(hidden + back, width)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self.forward_with_internals(x, state)[:2]

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Also the hidden states of every layer, (B, S, layers, *): "forward" and "backward", or a transformer's "both"."""
        segment = x.shape[1] if self.segment is None else self.segment
        before = (None,) * len(self.layers) if state is None else state
        after, watched = [], []
        for layer, known in zip(self.layers, before, strict=True):
            x, known, directions = layer(x, known, segment)
            after.append(known)
            watched.append(directions)
        stacked = {name: torch.stack([one[name] for one in watched], 2) for name in watched[0]}
        return self.out(x), tuple(after), stacked


class RecurrentLayer(nn.Module):
    """(x (B, S, *), carried, T) -> both directions (B, S, forward H + backward H), carried, each direction."""

    def __init__(self, network: Callable[..., nn.RNNBase], inputs: int, hidden: int, backward_hidden: int) -> None:
        super().__init__()
        self.forwards = network(inputs, hidden, batch_first=True)
        self.backwards = network(inputs, backward_hidden, batch_first=True)

    def forward(self, x: Tensor, carried: Carried | None, segment: int) -> tuple[Tensor, Carried, dict[str, Tensor]]:
        past, carried = run(self.forwards, x, carried)
        coming = by_segment(lambda part: run(self.backwards, part.flip(1))[0].flip(1), x, segment)
        return torch.cat([past, coming], 2), carried, {"forward": past, "backward": coming}


class EncoderLayer(nn.Module):
    """A transformer layer that also sees earlier segments: (x (B, S, D), state, T) -> (B, S, D), state, the same under
    a name.

    The state is the keys and values of the last P tokens at most, {"k", "v"}: (B, heads, P, D / heads).
    """

    def __init__(self, width: int, heads: int, inner: int, past: int) -> None:
        super().__init__()
        self.layer, self.past = TransformerLayer(width, heads, inner), past

    def forward(self, x: Tensor, state: State, segment: int) -> tuple[Tensor, State, dict[str, Tensor]]:
        q, k, v = self.layer.qkv(x)
        past = (k[:, :, :0], v[:, :, :0]) if state is None else (state["k"], state["v"])
        read = []
        for q_part, k_part, v_part in zip(*(torch.split(one, segment, 2) for one in (q, k, v)), strict=True):
            keys, values = torch.cat([past[0], k_part], 2), torch.cat([past[1], v_part], 2)
            length, total = q_part.shape[2], keys.shape[2]
            positions = torch.arange(total, device=x.device)[None]
            everything = torch.ones(1, length, total, dtype=torch.bool, device=x.device)
            seen = Recalled(keys, values, everything, positions, positions[:, total - length :])
            read.append(attend(q_part, seen, rotary))
            start = max(0, total - self.past)
            past = (keys[:, :, start:], values[:, :, start:])
        x = self.layer.add(x, torch.cat(read, 2))
        return x, {"k": past[0].clone(), "v": past[1].clone()}, {"both": x}
