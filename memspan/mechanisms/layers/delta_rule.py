"""The gated delta rule over a segment, in chunks.

Letters: B batch, S tokens, C tokens of a chunk, N chunks, H heads, K key size, V value size.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from memspan.mechanisms.layers.fused_delta_rule import fused_rule
from memspan.mechanisms.layers.precision import exact, exact_products


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    rate: Tensor,
    memory: Tensor,
    chunk: int,
    correct: bool = True,
) -> tuple[Tensor, Tensor]:
    """Reads and writes S tokens in chunks of C.

    Args:
        q, k: (B, H, S, K), k of length 1.
        v: (B, H, S, V).
        log_decay: (B, H, S), the logarithm of a_t, at most 0.
        rate: (B, H, S), b_t.
        memory: (B, H, K, V), M_0.
        correct: write the difference between v_t and the value stored under k_t; else v_t itself.

    Returns:
        The values read, (B, H, S, V), and M_S; both, and all that is computed, in single precision at least.

    Within a chunk M_t = g_t M_0 + sum_{i<=t} (g_t / g_i) k_i u_i^T with g_t the product of the decays so far, and
    u_t = b_t (v_t - M'_t^T k_t), where M'_t is the decayed memory before t. That is a triangular system in u, whose solution
    is A (v - g k M_0) with A (C, C) independent of the memory. Only three products have to wait for the previous chunk:
    one with M_0, for queries and keys together, and two with the errors v - g k M_0.

    On a GPU, values in half precision are written by the kernels of flash-linear-attention where it is installed.
    """
    with exact_products(q):
        fused = fused_rule(k, v) if correct else None
        if fused is not None:
            return fused(q, k, v, log_decay, rate, memory)
        return _chunks(
            exact(q), exact(k), exact(v), exact(log_decay), exact(rate), exact(memory), min(chunk, q.shape[2]), correct
        )


def _chunks(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, rate: Tensor, memory: Tensor, chunk: int, correct: bool
) -> tuple[Tensor, Tensor]:
    """`gated_delta_rule` in one precision, with chunks no longer than the segment."""
    length = q.shape[2]
    padding = -length % chunk
    if padding:  # padding neither decays (log 0) nor writes (rate 0)
        q, k, v = (pad(tensor, (0, 0, 0, padding)) for tensor in (q, k, v))
        log_decay, rate = pad(log_decay, (0, padding)), pad(rate, (0, padding))
    q, k, v, log_decay, rate = (
        tensor.reshape(*tensor.shape[:2], -1, chunk, *tensor.shape[3:]) for tensor in (q, k, v, log_decay, rate)
    )
    total = log_decay.cumsum(-1)  # log g_t, (B, H, N, C)
    below = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril()
    between = (total[..., :, None] - total[..., None, :]).masked_fill(~below, -torch.inf).exp()  # g_t / g_i for i <= t
    solved = _solved(k, rate, between) if correct else torch.diag_embed(rate)
    within = (q @ k.transpose(-1, -2) * between) @ solved
    written = k.transpose(-1, -2) @ ((total[..., -1:] - total).exp()[..., None] * solved)
    queries = torch.cat([q, k] if correct else [q], -2) * total.exp().repeat(1, 1, 1, 2 if correct else 1)[..., None]
    last = total[..., -1].exp()[..., None, None]
    outputs = []
    # unbind rather than an index: the gradient of an index is a whole tensor of zeros for every chunk
    for queries_c, error, within_c, written_c, last_c in zip(
        *(tensor.unbind(2) for tensor in (queries, v, within, written, last)), strict=True
    ):
        values = queries_c @ memory
        if correct:
            values, stored = values.split(chunk, -2)
            error = error - stored
        outputs.append(values + within_c @ error)
        memory = last_c * memory + written_c @ error
    return torch.cat(outputs, 2)[:, :, :length], memory


def _solved(k: Tensor, rate: Tensor, between: Tensor) -> Tensor:
    """The matrix A (..., C, C) with u = A (v - g k M_0); k (..., C, K), rate (..., C), between (..., C, C) = g_t / g_i."""
    system = (rate[..., None] * between * (k @ k.transpose(-1, -2))).tril(-1)  # the unit diagonal is implied
    right = torch.diag_embed(rate)
    solved: Tensor = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    return solved
