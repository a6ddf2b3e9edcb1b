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
    is A (v - g k M_0) with A (C, C) known before any memory. So all that has to wait for the chunk before is one product
    with M_0, for queries and keys together, and two with what the memory did not know yet, v - g k M_0.
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
    solved = torch.diag_embed(rate)
    if correct:
        system = (rate[..., None] * between * (k @ k.transpose(-1, -2))).tril(-1)  # the unit diagonal is implied
        exact = torch.promote_types(k.dtype, torch.float32)  # no solver takes half precision
        solved = torch.linalg.solve_triangular(system.to(exact), solved.to(exact), upper=False, unitriangular=True).to(
            k.dtype
        )
    within = (q @ k.transpose(-1, -2) * between) @ solved
    kept = k.transpose(-1, -2) @ ((total[..., -1:] - total).exp()[..., None] * solved)
    asked = torch.cat([q, k] if correct else [q], -2) * total.exp().repeat(1, 1, 1, 2 if correct else 1)[..., None]
    last = total[..., -1].exp()[..., None, None]
    outputs = []
    # unbind rather than an index: the gradient of an index is a whole tensor of zeros for every chunk
    for asked_c, new, within_c, kept_c, last_c in zip(
        *(tensor.unbind(2) for tensor in (asked, v, within, kept, last)), strict=True
    ):
        answer = asked_c @ memory
        if correct:
            answer, known = answer.split(chunk, -2)
            new = new - known
        outputs.append(answer + within_c @ new)
        memory = last_c * memory + kept_c @ new
    return torch.cat(outputs, 2)[:, :, :length], memory
