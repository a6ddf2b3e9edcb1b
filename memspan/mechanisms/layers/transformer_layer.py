"""A pre-norm transformer layer: attention and feed-forward, each normalised and added to the residual stream.

Letters: B batch, S tokens, H heads, K head size, D model width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.layers.attention import rotary


class TransformerLayer(nn.Module):
    """Attention and feed-forward of Vaswani et al. 2017, pre-norm (Xiong et al. 2020, arXiv 2002.04745), rotary positions.

    `forward` attends within x. A mechanism that attends to other keys as well calls `qkv`, attends, and calls `add`.

    Args:
        width: D.
        heads: H; D / H must be even.
        inner: width of the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        if heads < 1 or width % heads or (width // heads) % 2:
            raise UsageError(f"heads must divide a width of {width} into heads of an even size, got {heads}.")
        self.heads = heads
        self.norm_attention, self.norm_feedforward = nn.RMSNorm(width, eps=1e-5), nn.RMSNorm(width, eps=1e-5)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """x (B, S, D) -> (B, S, D). A query sees the keys where `mask` (S, S) bool is true, or the earlier ones if `causal`, or all."""
        q, k, v = self.qkv(x)
        positions = torch.arange(x.shape[1], device=x.device)[None]
        q, k = rotary(q, positions), rotary(k, positions)
        return self.add(x, scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal))

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, S, D) -> queries, keys and values, (B, H, S, K), un-rotated."""
        rows, length, _ = x.shape
        q, k, v = self.project(self.norm_attention(x)).reshape(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """x (B, S, D) plus the output of attention, (B, H, S, K) per head, and of the feed-forward layer."""
        x = x + self.join(attended.transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(gelu(self.up(self.norm_feedforward(x))))
        return y
