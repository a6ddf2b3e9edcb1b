"""The gated delta rule over a whole stretch of tokens, in chunks.

Letters: B batch, S tokens, C tokens of a chunk, N chunks, H heads, K key size, V value size.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad


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
        q, k: (B, H, S, K), k of length one.
        v: (B, H, S, V).
        log_decay: (B, H, S), the logarithm of a_t, at most 0.
        rate: (B, H, S), b_t.
        memory: (B, H, K, V), M_0.
        correct: write what differs from what the memory says already; else add the value.

    Returns (B, H, S, V) and M_S.

    Within a chunk M_t = g_t M_0 + sum_{i<=t} (g_t / g_i) k_i u_i^T with g_t the product of the decays so far, and
    u_t = b_t (v_t - M'_t^T k_t), M'_t being the decayed memory before t. That is a triangular system in u, whose solution
    is U - W M_0 with U and W known before any memory: only three matrix products a chunk have to wait for one another.
    """
    length = q.shape[2]
    chunk = min(chunk, length)
    missing = -length % chunk
    if missing:  # padding neither decays (log 0) nor writes (rate 0)
        q, k, v = (pad(tensor, (0, 0, 0, missing)) for tensor in (q, k, v))
        log_decay, rate = pad(log_decay, (0, missing)), pad(rate, (0, missing))
    q, k, v, log_decay, rate = (
        tensor.reshape(*tensor.shape[:2], -1, chunk, *tensor.shape[3:]) for tensor in (q, k, v, log_decay, rate)
    )
    total = log_decay.cumsum(-1)  # log g_t, (B, H, N, C)
    below = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril()
    between = (total[..., :, None] - total[..., None, :]).masked_fill(~below, -torch.inf).exp()  # g_t / g_i for i <= t
    u = rate[..., None] * v
    w = torch.zeros_like(k)
    if correct:
        system = (rate[..., None] * between * (k @ k.transpose(-1, -2))).tril(-1)  # the unit diagonal is implied
        known = torch.cat([u, (rate * total.exp())[..., None] * k], -1)
        exact = torch.promote_types(k.dtype, torch.float32)  # no solver takes half precision
        solved = torch.linalg.solve_triangular(system.to(exact), known.to(exact), upper=False, unitriangular=True)
        u, w = solved.split([v.shape[-1], k.shape[-1]], -1)
    within = q @ k.transpose(-1, -2) * between
    q = q * total.exp()[..., None]
    kept = k * (total[..., -1:] - total).exp()[..., None]
    last = total[..., -1].exp()[..., None, None]
    outputs = []
    for number in range(q.shape[2]):
        write = u[:, :, number] - w[:, :, number] @ memory if correct else u[:, :, number]
        outputs.append(q[:, :, number] @ memory + within[:, :, number] @ write)
        memory = last[:, :, number] * memory + kept[:, :, number].transpose(-1, -2) @ write
    return torch.cat(outputs, 2)[:, :, :length], memory
