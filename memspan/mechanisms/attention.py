"""Scaled dot-product attention over whatever a KV mechanism recalls.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size, D model width.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.base import KVMechanism, Mechanism, Recalled
from memspan.state import State

Rotate = Callable[[Tensor, Tensor], Tensor]  # (x (B, H, N, K), positions (B or 1, N)) -> x rotated to those positions


def attend(
    q: Tensor,
    recalled: Recalled,
    rotate: Rotate | None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """q (B, Hq, S, K) attends to `recalled`; returns (B, Hq, S, K). Hq is a multiple of the recalled heads H.

    Args:
        rotate: puts queries and keys at their re-assigned positions; None for models without rotary embedding.
        sliding_window: a query sees only keys fewer than this many re-assigned positions back (the model's own layers).
        softcap: Gemma 2's cap on the scores before the mask.
        sink_logits: gpt-oss's learned score (Hq,) of attending to nothing.
        bias: added to the scaled scores, (B or 1, Hq, S, N).
    """
    k, v = recalled.k, recalled.v
    mask = _mask(recalled, sliding_window)
    if rotate is not None:
        q, k = rotate(q, recalled.query_positions), rotate(k, recalled.key_positions)
    if softcap is not None or sink_logits is not None:
        return _attend_by_hand(q, k, v, mask, scale, dropout, softcap, sink_logits)
    if bias is not None:
        if mask is None:
            mask = _causal(q.shape[2], k.shape[2], q.device)
        mask = bias.masked_fill(~mask, -torch.inf)
    grouped = q.shape[1] != k.shape[1]
    causal = mask is None and q.shape[2] > 1
    if causal and q.shape[2] != k.shape[2]:  # `is_causal` would align the first query, not the last, with the first key
        mask, causal = _causal(q.shape[2], k.shape[2], q.device), False
    if grouped and q.shape[2] == 1:  # decoding: the query heads that share a key head are so many queries of that head
        by_key_head = q.reshape(k.shape[0], k.shape[1], -1, q.shape[3])
        output = scaled_dot_product_attention(by_key_head, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
        return output.reshape(*q.shape[:3], v.shape[3])
    if grouped and mask is not None and q.is_cuda:  # no fast CUDA kernel takes both a mask and grouped heads
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        grouped = False
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def _causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """(S, N) bool: the last query sees every key, and each one before it a key less."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def _mask(recalled: Recalled, sliding_window: int | None) -> Tensor | None:
    """What the queries see, (B or 1, 1, S, N) bool; None = all keys up to their own."""
    mask, key, query = recalled.mask, recalled.key_positions, recalled.query_positions
    if sliding_window is not None:
        near = query[:, :, None] - key[:, None] < sliding_window
        if mask is not None:
            mask = mask & near
        else:
            mask = near if near.shape[1] == 1 else near & _causal(near.shape[1], near.shape[2], near.device)
    return None if mask is None else mask[:, None]


def _attend_by_hand(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float | None,
    dropout: float,
    softcap: float | None,
    sink_logits: Tensor | None,
) -> Tensor:
    """The same, step by step, for what torch's kernels leave out."""
    if mask is None and q.shape[2] > 1:
        mask = _causal(q.shape[2], k.shape[2], q.device)
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * (q.shape[3] ** -0.5 if scale is None else scale)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sink_logits is not None:
        nothing = sink_logits.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, nothing], 3)
    weights = scores.softmax(3, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)
    return drop(weights[..., : k.shape[2]], dropout) @ v


class Everything(KVMechanism):
    """Full attention: nothing is forgotten, and the state grows with the stream."""

    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        before, length = 0, k.shape[2]
        if state is not None:
            before = state["k"].shape[2]
            k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
        positions = torch.arange(before + length, device=k.device)[None]
        return Recalled(k, v, None, positions, positions[:, before:]), {"k": k, "v": v}


class Attention(Mechanism):
    """Multi-head attention (Vaswani et al. 2017) over whatever a KV mechanism recalls.

    Args:
        width: D.
        heads: Hq = H; K = D / heads.
        over: what is remembered; None is everything.
        positions: "rotary" (Su et al. 2021), "sinusoidal" (Vaswani et al. 2017; added to queries and keys in every layer
            rather than to the embedding, because a remembered key is placed anew at each use), "relative"
            (Transformer-XL, Dai et al. 2019), or "none".
        dropout: of the attention weights while training.
    """

    def __init__(
        self,
        width: int,
        heads: int = 4,
        over: KVMechanism | None = None,
        positions: str = "rotary",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads of an even size.")
        if positions not in ("rotary", "sinusoidal", "relative", "none"):
            raise UsageError(f"There are no positions '{positions}'. Known: none, relative, rotary, sinusoidal.")
        self.over = Everything() if over is None else over
        self.heads, self.size, self.positions, self.dropout = heads, width // heads, positions, dropout
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        if positions == "relative":  # equation (2) of Transformer-XL: W_kR, u and v
            self.distance = nn.Linear(width, width, bias=False)
            self.content_bias = nn.Parameter(torch.zeros(heads, 1, self.size))
            self.position_bias = nn.Parameter(torch.zeros(heads, 1, self.size))

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self._read(x, state, watched=None)

    def watch(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Also "scores" and "weights", (B, S, H, N): a key that a query did not see has weight 0, score -inf.

        N are the keys that the last query was offered; keys stand in the order of the stream. Where nothing was read
        before, "places" (B, S, N) says which token each key is, -1 being none; of pooled keys it is the middle one.
        """
        watched: list[tuple[Tensor, Tensor]] = []
        fresh = state is None
        y, state = self._read(x, state, watched)
        most = max(scores.shape[3] for scores, _ in watched)
        scores, weights = (
            torch.cat(
                [nn.functional.pad(part[kind], (most - part[kind].shape[3], 0), value=empty) for part in watched], 2
            )
            for kind, empty in ((0, -torch.inf), (1, 0.0))
        )
        seen = {"scores": scores.transpose(1, 2), "weights": weights.transpose(1, 2)}
        if fresh:
            seen["places"] = self._places(x, most)
        return y, state, seen

    def _places(self, x: Tensor, most: int) -> Tensor:
        """(B, S, most): values go wherever their keys do, so places sent in their stead come back beside the keys."""
        q, k, v = self.project(x).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        sent = torch.arange(x.shape[1], dtype=v.dtype, device=x.device)[None, None, :, None].expand_as(v)
        found: list[Tensor] = []
        state, start = None, 0
        for length in self.over.pieces(x.shape[1], state):
            piece = slice(start, start + length)
            recalled, state = self.over.recall(q[:, :, piece], k[:, :, piece], sent[:, :, piece], state)
            places = recalled.v[:, :1, :, 0].round().long().expand(-1, length, -1)
            found.append(nn.functional.pad(places, (most - places.shape[2], 0), value=-1))
            start += length
        return torch.cat(found, 1)

    def _read(self, x: Tensor, state: State, watched: list[tuple[Tensor, Tensor]] | None) -> tuple[Tensor, State]:
        q, k, v = self.project(x).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        outputs, start = [], 0
        for length in self.over.pieces(x.shape[1], state):
            piece = slice(start, start + length)
            recalled, state = self.over.recall(q[:, :, piece], k[:, :, piece], v[:, :, piece], state)
            query, bias = q[:, :, piece], None
            rotate = {"rotary": rotary, "sinusoidal": _add_sinusoids}.get(self.positions)
            if self.positions == "relative":
                bias = self._position_scores(query, recalled)
                query = query + self.content_bias
            outputs.append(attend(query, recalled, rotate, dropout=self.dropout if self.training else 0.0, bias=bias))
            if watched is not None:
                watched.append(attention_weights(query, recalled, rotate, bias))
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


def attention_weights(
    q: Tensor, recalled: Recalled, rotate: Rotate | None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The scores (-inf where unseen) and weights (B, H, S, N) that `attend` computes without showing them."""
    k, mask = recalled.k, _mask(recalled, None)
    if rotate is not None:
        q, k = rotate(q, recalled.query_positions), rotate(k, recalled.key_positions)
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    if bias is not None:
        scores = scores + bias
    if mask is None:
        mask = _causal(q.shape[2], k.shape[2], q.device)
    scores = scores.masked_fill(~mask, -torch.inf)
    return scores, scores.softmax(3)


def rotary(x: Tensor, positions: Tensor) -> Tensor:
    """x (B, H, N, K) turned to `positions` (B or 1, N): pairs (i, i + K / 2) by position / 10000^(2 i / K)."""
    half = x.shape[3] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = (positions[:, None, :, None] * rates).to(x.dtype)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], 3)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """The table of Vaswani et al. 2017 at any `positions`: (*positions, width), sines then cosines, in float32."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=positions.device) / width)
    angles = positions[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


def _add_sinusoids(x: Tensor, positions: Tensor) -> Tensor:
    return x + sinusoids(positions, x.shape[3])[:, None].to(x.dtype)
