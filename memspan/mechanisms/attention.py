"""Scaled dot-product attention over whatever a KV mechanism recalls.

Letters: B batch, Hq query heads, H key heads, S queries, N keys, K head size.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.functional import scaled_dot_product_attention

from memspan.mechanisms.base import Recalled

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
) -> Tensor:
    """q (B, Hq, S, K) attends to `recalled`; returns (B, Hq, S, K). Hq is a multiple of the recalled heads H.

    Args:
        rotate: puts queries and keys at their re-assigned positions; None for models without rotary embedding.
        sliding_window: a query sees only keys fewer than this many re-assigned positions back (the model's own layers).
        softcap: Gemma 2's cap on the scores before the mask.
        sink_logits: gpt-oss's learned score (Hq,) of attending to nothing.
    """
    k, v = recalled.k, recalled.v
    mask = _mask(recalled, sliding_window)
    if rotate is not None:
        q, k = rotate(q, recalled.query_positions), rotate(k, recalled.key_positions)
    if softcap is not None or sink_logits is not None:
        return _attend_by_hand(q, k, v, mask, scale, dropout, softcap, sink_logits)
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
