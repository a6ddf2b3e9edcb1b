"""Multi-head attention over the keys and values that a KV mechanism recalls.

Letters: B batch, H heads, S queries, N keys, K head size, D model width.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.base import AttentionWeights, Internals, KVMechanism, Mechanism, Recalled, TraceInput
from memspan.mechanisms.layers.attention import add_sinusoids, attend, attention_weights, rotary, sinusoids
from memspan.mechanisms.layers.ragged import layout_of
from memspan.mechanisms.layers.window import visible
from memspan.state import State

POSITIONS = ("none", "relative", "rotary", "sinusoidal")


class Everything(KVMechanism):
    """Full attention: nothing is forgotten, and the state grows with the stream."""

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        before, length = 0, k.shape[2]
        filled = None if state is None else state.get("valid")
        if state is not None:
            before = state["k"].shape[2]
            k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
        if valid is None and filled is None:
            positions = torch.arange(before + length, device=k.device)[None]
            return Recalled(k, v, None, positions, positions[:, before:]), {"k": k, "v": v}
        parts = ((filled, before), (valid, length))
        filled = torch.cat([k.new_ones(len(k), n, dtype=torch.bool) if part is None else part for part, n in parts], 1)
        index = torch.where(filled, filled.long().cumsum(1) - 1, -1)
        positions, mask = index.clamp_min(0), visible(index, index[:, before:])
        return Recalled(k, v, mask, positions, positions[:, before:]), {"k": k, "v": v, "valid": filled}


class Attention(Mechanism):
    """Causal multi-head attention over the keys that a KV mechanism recalls, by default all (Vaswani et al. 2017).

    Deviations from the paper: positions are rotary (Su et al. 2021) by default; sinusoids are added to the queries and keys
    of every layer rather than once to the embedding, because a remembered key gets a new position at each use; no
    projection has a bias; dropout applies to the attention weights alone.

    Args:
        width: D.
        heads: H; K = D / heads must be even.
        over: the KV mechanism that selects the keys; None keeps all of them.
        positions: "rotary", "sinusoidal", "relative" (Transformer-XL, Dai et al. 2019), or "none".
        dropout: probability of dropping an attention weight during training.
    """

    trace_input: ClassVar[TraceInput] = TraceInput(settings={"heads": 1})

    def __init__(
        self,
        width: int,
        heads: int = 4,
        over: KVMechanism | None = None,
        positions: str = "rotary",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads or (width // heads) % 2:
            raise UsageError(f"heads must divide a width of {width} into heads of an even size, got {heads}.")
        if positions not in POSITIONS:
            raise UsageError(f"positions must be one of {', '.join(POSITIONS)}, got '{positions}'.")
        self.over = Everything() if over is None else over
        self.heads, self.size, self.positions, self.dropout = heads, width // heads, positions, dropout
        self.over.make_weights(heads, self.size)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        if positions == "relative":  # equation (2) of Transformer-XL: W_kR, u and v
            self.distance = nn.Linear(width, width, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(heads, 1, self.size))
            self.position_bias = nn.Parameter(torch.zeros(heads, 1, self.size))

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        before = self.over.columns_before(x.shape[1], state)
        if valid is None and before is None:
            return self._read(x, state)
        layout = layout_of(x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid, before)
        y, state = self._read(layout.take(x), state, layout.valid)
        return layout.put_back(y), state

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        """Also the attention weights; N is the number of keys of the last query, in the order of the stream."""
        recorded: list[tuple[Tensor, Tensor]] = []
        is_first = state is None
        y, state = self._read(x, state, recorded=recorded)
        count = max(scores.shape[3] for scores, _ in recorded)
        scores, weights = (
            torch.cat(
                [nn.functional.pad(pair[kind], (count - pair[kind].shape[3], 0), value=empty) for pair in recorded], 2
            ).transpose(1, 2)
            for kind, empty in ((0, -torch.inf), (1, 0.0))
        )
        positions = self._token_of_each_key(x, count) if is_first else None
        return y, state, Internals(attention=AttentionWeights(weights, positions, scores))

    def _token_of_each_key(self, x: Tensor, count: int) -> Tensor:
        """(B, S, count): values stay beside their keys, so token indices passed as values come back beside the keys."""
        q, k, v = self._qkv(x)
        indices = torch.arange(x.shape[1], dtype=v.dtype, device=x.device)[None, None, :, None].expand_as(v)
        parts: list[Tensor] = []
        state, start = None, 0
        for length in self.over.split_lengths(x.shape[1], state):
            part = slice(start, start + length)
            recalled, state = self.over.recall(q[:, :, part], k[:, :, part], indices[:, :, part], state)
            tokens = recalled.v[:, :1, :, 0].round().long().expand(-1, length, -1)
            parts.append(nn.functional.pad(tokens, (count - tokens.shape[2], 0), value=-1))
            start += length
        return torch.cat(parts, 1)

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.project(x).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _read(
        self,
        x: Tensor,
        state: State,
        valid: Tensor | None = None,
        recorded: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, State]:
        if not x.numel():
            return x, state
        q, k, v = self._qkv(x)
        outputs, start = [], 0
        for length in self.over.split_lengths(x.shape[1], state, valid):
            part = slice(start, start + length)
            text = None if valid is None else valid[:, part]
            recalled, state = self.over.recall(q[:, :, part], k[:, :, part], v[:, :, part], state, text)
            query, bias = q[:, :, part], None
            rotate = {"rotary": rotary, "sinusoidal": add_sinusoids}.get(self.positions)
            if self.positions == "relative":
                bias = self._position_scores(query, recalled)
                query = query + self.content_bias
            outputs.append(attend(query, recalled, rotate, dropout=self.dropout if self.training else 0.0, bias=bias))
            if recorded is not None:
                recorded.append(attention_weights(query, recalled, rotate, bias))
            start += length
        return self.out(torch.cat(outputs, 2).transpose(1, 2).flatten(2)), state

    def _position_scores(self, q: Tensor, recalled: Recalled) -> Tensor:
        """(q + v) . W_kR R_{i-j}, scaled: (B, H, S, N)."""
        distances = (recalled.query_positions[:, :, None] - recalled.key_positions[:, None]).clamp_min(0)  # (B, S, N)
        steps = torch.arange(int(distances.max()) + 1, device=q.device)
        table = self.distance(sinusoids(steps, self.heads * self.size).to(q.dtype)).unflatten(
            1, (self.heads, self.size)
        )
        scores: Tensor = torch.einsum("bhsk,mhk->bhsm", q + self.position_bias, table) * self.size**-0.5
        return scores.gather(3, distances[:, None].expand(q.shape[0], self.heads, -1, -1))
