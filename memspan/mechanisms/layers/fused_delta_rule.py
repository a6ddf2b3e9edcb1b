"""The gated delta rule by the kernels of flash-linear-attention (fla), on a GPU where that package is installed.

Letters: B batch, S tokens, H heads, K key size, V value size.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

LARGEST_KEY = 256  # K that fla's kernels take
HALF = (torch.float16, torch.bfloat16)

Rule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def fused_rule(k: Tensor, v: Tensor) -> Rule | None:
    """`gated_delta_rule` with its correction, without the size of a chunk, for such k (B, H, S, K) and v (B, H, S, V).

    None on other devices, without fla, for larger keys than it takes, and for values in single precision: a GPU rounds the
    numbers that its kernels multiply in single precision to ten bits, and those of memspan are not rounded.
    """
    if not v.is_cuda or v.dtype not in HALF or k.shape[-1] > LARGEST_KEY or not v.numel():
        return None
    kernel = installed_kernel()
    return None if kernel is None else partial(_computed, kernel)


@cache
def installed_kernel() -> Callable[..., Any] | None:
    """fla's function over (B, S, H, *), or None where it is not installed."""
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    except ImportError:
        return None
    kernel: Callable[..., Any] = chunk_gated_delta_rule
    return kernel


def _computed(
    kernel: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """What `kernel` reads and the memory after it, both in single precision, as decays, rates and memory are.

    fla too forgets before it corrects, and reads after it has written. It divides queries by the root of K unless a scale is given.
    """
    half = (x.to(v.dtype) for x in (q, k, v))
    tokens = (x.transpose(1, 2).contiguous() for x in (*half, log_decay.float(), rate.float()))
    read, memory = kernel(*tokens, scale=1.0, initial_state=memory.float(), output_final_state=True)
    return read.transpose(1, 2).float(), memory
