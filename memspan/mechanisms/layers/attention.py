"""Scaled dot-product attention over recalled keys and values, and rotary and sinusoidal positions.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size, D model width.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from memspan.mechanisms.base import Recalled
from memspan.mechanisms.layers.precision import at_least_single

Rotate = Callable[[Tensor, Tensor], Tensor]  # (x (B, H, N, K), positions (B or 1, N)) -> x rotated to those positions


# The options are those of the attention layers of pretrained models.
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
    """q (B, Hq, S, K) attends to `recalled`; returns (B, Hq, S, K) with what the mechanism added. Hq is a multiple of the
    recalled heads H.

    Args:
        rotate: rotates queries and keys to their re-assigned positions; None for models without rotary embedding.
        sliding_window: a query sees only keys fewer than this many re-assigned positions back; None: all.
        softcap: Gemma 2's cap on the scores, applied before the mask.
        sink_logits: (Hq,), gpt-oss's learned score of attending to nothing.
        bias: added to the scaled scores, (B or 1, Hq, S, N).
    """
    options = (scale, dropout, sliding_window, softcap, sink_logits, bias)
    attended = _attended(q, recalled, rotate, *options)
    return attended if recalled.added is None else attended + recalled.added


# The options are those of `attend`.
def _attended(
    q: Tensor,
    recalled: Recalled,
    rotate: Rotate | None,
    scale: float | None,
    dropout: float,
    sliding_window: int | None,
    softcap: float | None,
    sink_logits: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """`attend` without what the mechanism added."""
    k, v = recalled.k, recalled.v
    mask = _mask(recalled, sliding_window)
    if rotate is not None:
        q, k = rotate(q, recalled.query_positions), rotate(k, recalled.key_positions)
    if softcap is not None or sink_logits is not None:
        return _attend_by_hand(q, k, v, mask, scale, dropout, softcap, sink_logits)
    if bias is not None:
        if mask is None:
            mask = causal_mask(q.shape[2], k.shape[2], q.device)
        mask = bias.masked_fill(~mask, -torch.inf)
    grouped = q.shape[1] != k.shape[1]
    causal = mask is None and q.shape[2] > 1
    if causal and q.shape[2] != k.shape[2]:  # `is_causal` would align the first query, not the last, with the first key
        mask, causal = causal_mask(q.shape[2], k.shape[2], q.device), False
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


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(S, N) bool: the last query sees every key, and each one before it a key less."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def _mask(recalled: Recalled, sliding_window: int | None) -> Tensor | None:
    """The keys that each query sees, (B or 1, 1, S, N) bool; None: all keys up to its own."""
    mask, key, query = recalled.mask, recalled.key_positions, recalled.query_positions
    if sliding_window is not None:
        near = query[:, :, None] - key[:, None] < sliding_window
        if mask is not None:
            mask = mask & near
        else:
            mask = near if near.shape[1] == 1 else near & causal_mask(near.shape[1], near.shape[2], near.device)
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
    """`attend` without torch's kernels, which have neither a softcap nor sink logits."""
    if mask is None and q.shape[2] > 1:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
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


def attention_weights(
    q: Tensor, recalled: Recalled, rotate: Rotate | None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The scores (-inf where unseen) and weights, (B, H, S, N) each, that `attend` does not return."""
    k, mask = recalled.k, _mask(recalled, None)
    if rotate is not None:
        q, k = rotate(q, recalled.query_positions), rotate(k, recalled.key_positions)
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    if bias is not None:
        scores = scores + bias
    if mask is None:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
    scores = scores.masked_fill(~mask, -torch.inf)
    return scores, scores.softmax(3)


def rotary(x: Tensor, positions: Tensor) -> Tensor:
    """x (B, H, N, K) rotated to `positions` (B or 1, N): pairs (i, i + K / 2) by position / 10000^(2 i / K).

    Angles are those of single precision at least: in bfloat16, positions from 257 on would be rounded to their neighbours.
    """
    half = x.shape[3] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = (positions[:, None, :, None] * rates).to(at_least_single(x.dtype))
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], 3)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """The table of Vaswani et al. 2017 at any `positions`: (*positions, width), sines then cosines, in float32."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2, device=positions.device) / width)
    angles = positions[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


def add_sinusoids(x: Tensor, positions: Tensor) -> Tensor:
    """x (B, H, N, K) plus the sinusoids of `positions` (B or 1, N)."""
    return x + sinusoids(positions, x.shape[3])[:, None].to(x.dtype)
