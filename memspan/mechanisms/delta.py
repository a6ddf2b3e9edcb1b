"""An associative matrix that is corrected, not only added to.

Letters: B batch, S tokens, C tokens of a chunk, N chunks, H heads, K key size, V value size, D model width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, logsigmoid, relu, silu, softplus

from memspan.errors import UsageError
from memspan.mechanisms.base import Mechanism
from memspan.mechanisms.layers.delta_rule import gated_delta_rule
from memspan.state import State


class Delta(Mechanism):
    """The gated delta rule (Yang et al. 2025, arXiv 2412.06464), in chunks by the WY form (Yang et al. 2024, 2406.06484).

    For every token and head a matrix M (K, V) is read and corrected, k having length one:

        M_t = a_t (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T        y_t = M_t^T q_t

    Deviations from the papers: the decay a_t is a sigmoid with a bias of its own rather than an exponential of a softplus;
    the output is normalised per head and gated by a sigmoid; queries, keys and values share one short causal convolution;
    and there is the threshold.

    Args:
        width: D.
        heads: H; K = V = `size`.
        size: K, D / H if not given.
        rule: "delta", or "additive" (linear attention with decay, Katharopoulos et al. 2020) to see what correcting is worth.
        chunk: C, tokens that are worked out together; changes speed, not results.
        convolution: tokens that the convolution before the projections sees; 1 is none.
        decay: the bias of a_t before the sigmoid: 4 to 6 forgets slowly, 30 never: then M changes by corrections alone.
        threshold: a token whose b_t is not above it writes nothing at all; from there to 1 what it writes grows to the
            whole. With one, the mean of -log(1 - b_t), b_t before the threshold, is an objective of its own (state key
            "loss"): a token must be worth what it erases, and M outlasts any number of tokens that are not. 0 is none.
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
        threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if rule not in ("delta", "additive"):
            raise UsageError(f"There is no rule '{rule}'. Known: additive, delta.")
        given = [heads, chunk, convolution] if size is None else [heads, size, chunk, convolution]
        if min(given) < 1:
            raise UsageError(
                f"heads={heads}, size={size}, chunk={chunk}, convolution={convolution} cannot be: all are 1 or more."
            )
        if size is None and width % heads:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads: give `size`.")
        if not 0 <= threshold < 1:
            raise UsageError(f"threshold={threshold} cannot be: it is at least 0 and below 1.")
        self.threshold = threshold
        self.heads, self.size, self.chunk, self.rule = heads, width // heads if size is None else size, chunk, rule
        inner = self.heads * self.size
        self.convolution = nn.Parameter(torch.zeros(width, 1, convolution))
        self.project = nn.Linear(width, 3 * inner, bias=False)
        self.rates = nn.Linear(width, 2 * heads)  # a and b before the sigmoid
        self.gate = nn.Linear(width, inner)
        self.norm = nn.RMSNorm(self.size, eps=1e-5)
        self.out = nn.Linear(inner, width, bias=False)
        with torch.no_grad():
            self.convolution.normal_(std=0.1)[:, :, -1] += 1.0
            self.rates.weight.mul_(0.1)
            self.rates.bias.copy_(torch.tensor([decay] * heads + [0.0] * heads))

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Also "decay" a_t, how much of the matrix stays, and "rate" b_t, how far it is corrected: (B, S, H)."""
        decay, rate = self.rates(x).sigmoid().unflatten(2, (2, self.heads)).unbind(2)
        return *self(x, state), {"decay": decay, "rate": rate}

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        rows, length, width = x.shape
        reach = self.convolution.shape[2] - 1
        before = x.new_zeros(rows, reach, width) if state is None else state["recent"]
        memory = x.new_zeros(rows, self.heads, self.size, self.size) if state is None else state["memory"]
        tokens = torch.cat([before, x], 1)
        mixed = conv1d(tokens.transpose(1, 2), self.convolution, groups=width).transpose(1, 2)
        inner = self.heads * self.size
        qk, v = self.project(mixed).split([2 * inner, inner], 2)
        q, k = l2_normalize(silu(qk).reshape(rows, length, 2, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        v = v.unflatten(2, (self.heads, self.size)).transpose(1, 2)
        decay, rate = self.rates(x).unflatten(2, (2, self.heads)).permute(2, 0, 3, 1)
        share = rate.sigmoid()
        if self.threshold:
            share = relu(share - self.threshold) / (1 - self.threshold)
        read, memory = gated_delta_rule(q, k, v, logsigmoid(decay), share, memory, self.chunk, self.rule == "delta")
        y = self.out((self.norm(read).transpose(1, 2).flatten(2)) * self.gate(x).sigmoid())
        after = {"memory": memory, "recent": tokens[:, length:].clone()}
        if self.threshold:
            mean, count = (x.new_zeros(rows), 0) if state is None else (state["loss"], state["count"])
            after["count"] = x.new_zeros(rows) + count + length
            erased = softplus(rate).mean(1).sum(1)  # -log(1 - b_t)
            after["loss"] = mean + (erased - length * mean) / after["count"]  # the mean over all tokens
        return y, after


def l2_normalize(x: Tensor) -> Tensor:
    """x (*, K) with length one; a product with the inverse, as the gradient of a quotient takes twice as long."""
    inverse: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12).reciprocal()
    return x * inverse
