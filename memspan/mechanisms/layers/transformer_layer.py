"""The transformer layer that mechanisms build on: attention and feed-forward, each behind a norm and added.

Letters: B batch, S tokens, H heads, K head size, D model width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.layers.attention import rotary


class TransformerLayer(nn.Module):
    """Vaswani et al. 2017, normalised before each part (Xiong et al. 2020, arXiv 2002.04745), with rotary positions.

    `forward` attends within x. A mechanism that attends to more calls `qkv`, attends by itself, and calls `add`.

    Args:
        width: D.
        heads: H; D / H is even.
        inner: width of the feed-forward part.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        if heads < 1 or width % heads or (width // heads) % 2:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads of an even size.")
        self.heads = heads
        self.norm_attention, self.norm_feedforward = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (B, S, D) -> (B, S, D). A token sees what `mask` (S, S) says, or those before it if `causal`, or all."""
        q, k, v = self.qkv(x)
        places = torch.arange(x.shape[1], device=x.device)[None]
        q, k = rotary(q, places), rotary(k, places)
        return self.add(x, scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal))

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, S, D) -> queries, keys and values, (B, H, S, K), un-rotated."""
        rows, length, _ = x.shape
        q, k, v = self.project(self.norm_attention(x)).reshape(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def add(self, x: Tensor, found: Tensor) -> Tensor:
        """What attention found, (B, H, S, K), and what the feed-forward part makes of it, added to x."""
        x = x + self.join(found.transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(gelu(self.up(self.norm_feedforward(x))))
        return y
