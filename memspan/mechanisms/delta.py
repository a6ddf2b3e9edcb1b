"""An associative matrix that is corrected, not only added to.

Letters: B batch, S tokens, C tokens of a chunk, N chunks, H heads, K key size, V value size, D model width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, logsigmoid, normalize, pad, silu

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism
from memspan.state import State


class Delta(Mechanism):
    """The gated delta rule (Yang et al. 2025, arXiv 2412.06464), in chunks by the WY form (Yang et al. 2024, 2406.06484).

    For every token and head a matrix M (K, V) is read and corrected, k having length one:

        M_t = a_t (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T        y_t = M_t^T q_t

    Deviations from the papers: the decay a_t is a sigmoid with a bias of its own rather than an exponential of a softplus;
    the output is normalised per head and gated by a sigmoid; queries, keys and values share one short causal convolution.

    Args:
        width: D.
        heads: H; K = V = `size`.
        size: K, D / H if not given.
        rule: "delta", or "additive" (linear attention with decay, Katharopoulos et al. 2020) to see what correcting is worth.
        chunk: C, tokens that are worked out together; changes speed, not results.
        convolution: tokens that the convolution before the projections sees; 1 is none.
        decay: the bias of a_t before the sigmoid: 4 to 6 forgets slowly.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        size: int | None = None,
        rule: str = "delta",
        chunk: int = 32,
        convolution: int = 4,
        decay: float = 5.0,
    ) -> None:
        super().__init__()
        if rule not in ("delta", "additive"):
            raise UsageError(f"There is no rule '{rule}'. Known: additive, delta.")
        if size is None and width % heads:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads: give `size`.")
        self.heads, self.size, self.chunk, self.rule = heads, width // heads if size is None else size, chunk, rule
        inner = self.heads * self.size
        self.convolution = nn.Parameter(torch.zeros(width, 1, convolution))
        self.project = nn.Linear(width, 3 * inner, bias=False)
        self.rates = nn.Linear(width, 2 * heads)  # a and b before the sigmoid
        self.gate = nn.Linear(width, inner)
        self.norm = nn.RMSNorm(self.size, eps=1e-5)
        self.out = nn.Linear(inner, width, bias=False)
        with torch.no_grad():
            self.convolution[:, :, -1] = 1.0
            self.convolution += 0.1 * torch.randn_like(self.convolution)
            self.rates.weight.mul_(0.1)
            self.rates.bias.copy_(torch.tensor([decay] * heads + [0.0] * heads))

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        rows, length, width = x.shape
        reach = self.convolution.shape[2] - 1
        before = x.new_zeros(rows, reach, width) if state is None else state["recent"]
        memory = x.new_zeros(rows, self.heads, self.size, self.size) if state is None else state["memory"]
        tokens = torch.cat([before, x], 1)
        mixed = conv1d(tokens.transpose(1, 2), self.convolution, groups=width).transpose(1, 2)
        q, k, v = self.project(mixed).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        q, k = normalize(silu(q), dim=-1), normalize(silu(k), dim=-1)
        decay, rate = self.rates(x).unflatten(2, (2, self.heads)).permute(2, 0, 3, 1)
        read, memory = gated_delta_rule(
            q, k, v, logsigmoid(decay), rate.sigmoid(), memory, self.chunk, self.rule == "delta"
        )
        y = self.out((self.norm(read).transpose(1, 2).flatten(2)) * self.gate(x).sigmoid())
        return y, {"memory": memory, "recent": tokens[:, length:].clone()}


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
    q, k, v, log_decay, rate = (tensor.unflatten(2, (-1, chunk)) for tensor in (q, k, v, log_decay, rate))
    total = log_decay.cumsum(-1)  # log g_t, (B, H, N, C)
    below = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril()
    between = (total[..., :, None] - total[..., None, :]).masked_fill(~below, -torch.inf).exp()  # g_t / g_i for i <= t
    u = rate[..., None] * v
    w = torch.zeros_like(k)
    if correct:
        system = (rate[..., None] * between * (k @ k.transpose(-1, -2))).tril(-1)  # the unit diagonal is implied
        known = torch.cat([u, (rate * total.exp())[..., None] * k], -1)
        solved = torch.linalg.solve_triangular(system, known, upper=False, unitriangular=True)
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
