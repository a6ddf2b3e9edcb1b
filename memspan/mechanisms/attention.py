"""Scaled dot-product attention over whatever a KV mechanism recalls."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from memspan.mechanisms.base import Recalled

Rotate = Callable[[Tensor, Tensor], Tensor]  # (x (B, H, N, K), positions (B, N)) -> x rotated to those positions


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
    k, v, mask, key_positions, query_positions = recalled
    if sliding_window is not None:
        near = query_positions[:, :, None] - key_positions[:, None] < sliding_window
        mask = near if mask is None else mask & near
    if rotate is not None:
        q, k = rotate(q, query_positions), rotate(k, key_positions)
    if mask is not None:
        mask = mask[:, None]
    if softcap is None and sink_logits is None:
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
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
    weights = scores.softmax(3, dtype=torch.float32).to(q.dtype)[..., : k.shape[2]]
    return functional.dropout(weights, dropout) @ v
