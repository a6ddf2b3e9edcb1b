"""An associative matrix that is corrected before it is added to.

Letters: B batch, S tokens, C tokens of a chunk, N chunks, H heads, K key size, V value size, D model width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, logsigmoid, relu, silu, softplus

from memspan.errors import UsageError
from memspan.mechanisms.base import SHARE, Gate, Internals, Mechanism
from memspan.mechanisms.layers.delta_rule import gated_delta_rule
from memspan.mechanisms.layers.precision import at_least_single
from memspan.mechanisms.layers.ragged import Layout, layout_of
from memspan.state import State, with_losses

RULES = ("additive", "delta")


class Delta(Mechanism):
    """An associative matrix that every token corrects (gated delta rule, Yang et al. 2025, arXiv 2412.06464).

    For every token and head a matrix M (K, V) is read and corrected, with k of length 1:

        M_t = a_t (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T        y_t = M_t^T q_t

    It is computed in chunks by the WY form (Yang et al. 2024, arXiv 2406.06484).

    Deviations from the papers: the decay a_t is a sigmoid with a bias of its own rather than an exponential of a softplus;
    the output is normalised per head and gated by a sigmoid; queries, keys and values share one short causal convolution;
    there is a threshold.

    Args:
        width: D.
        heads: H; K = V = `size`.
        size: K, D / H by default.
        rule: "delta", or "additive" without the correction (linear attention with decay, Katharopoulos et al. 2020).
        chunk: C, number of tokens that are computed together; changes the speed, not the results.
        convolution: kernel size, in tokens, of the convolution before the projections; 1 disables it.
        decay: bias of a_t before the sigmoid: at 4 to 6 M decays slowly, at 30 never, and changes by corrections alone.
        threshold: share up to which a token writes nothing; from there to 1 the write grows to its whole. A threshold above
            0 adds an objective (state key "loss"), the mean of -log(1 - b_t), b_t the sigmoid itself: a token must be
            worth what it erases, and M outlasts any number of tokens that are not. 0 disables both.
        max_rate: the largest b_t, at most 2. From 1 to 2 a token turns what is stored under its key around rather than
            replacing it, so that M can count: with rates up to 1 no such layer learns parity (Grazzi et al. 2024, arXiv
            2411.12537). At 1 a token at most replaces it.
    """

    # Each parameter is a setting that users write.
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
        max_rate: float = 1.0,
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise UsageError(f"rule must be one of {', '.join(RULES)}, got '{rule}'.")
        sizes = [heads, chunk, convolution] if size is None else [heads, size, chunk, convolution]
        if min(sizes) < 1:
            raise UsageError(
                "heads, size, chunk and convolution must be at least 1, "
                f"got heads={heads}, size={size}, chunk={chunk}, convolution={convolution}."
            )
        if size is None and width % heads:
            raise UsageError(f"heads must divide a width of {width} unless `size` is set, got {heads}.")
        if not 0 <= threshold < 1:
            raise UsageError(f"threshold must be at least 0 and below 1, got {threshold}.")
        if not 0 < max_rate <= 2:
            raise UsageError(f"max_rate must be above 0 and at most 2, got {max_rate}.")
        self.threshold, self.max_rate = threshold, max_rate
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

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"size": size}

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        """Also a_t, "decay", and b_t, "rate", as they work, that is behind the threshold: (B, S, H)."""
        decay, rate = self.rates(x).unflatten(2, (2, self.heads)).unbind(2)
        gates = {
            "decay": Gate(decay.sigmoid(), "share of the matrix that is kept at the token", "B S H", SHARE),
            "rate": Gate(
                self._share(rate), "share of the error that the token corrects", "B S H", (0.0, self.max_rate)
            ),
        }
        y, state = self(x, state)
        return y, state, Internals(gates)

    def _share(self, rate: Tensor) -> Tensor:
        """b_t of the logit of the rate: the share of the error that a token corrects."""
        share = rate.sigmoid()
        if self.threshold:
            share = relu(share - self.threshold) / (1 - self.threshold)
        return share * self.max_rate

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        if valid is None:
            return self._read(x, state)
        layout = layout_of(valid)
        y, state = self._read(layout.take(x), state, layout)
        return layout.put_back(y), state

    def _read(self, x: Tensor, state: State, layout: Layout | None = None) -> tuple[Tensor, State]:
        """As `forward`, of rows whose text comes first, by the layout if their lengths differ."""
        if not x.numel():
            return x, state
        rows, length, width = x.shape
        reach = self.convolution.shape[2] - 1
        before = x.new_zeros(rows, reach, width) if state is None else state["recent"]
        if state is None:
            memory = x.new_zeros(rows, self.heads, self.size, self.size, dtype=at_least_single(x.dtype))
        else:
            memory = state["memory"]
        tokens = torch.cat([before, x], 1)
        mixed = conv1d(tokens.transpose(1, 2), self.convolution, groups=width).transpose(1, 2)
        inner = self.heads * self.size
        qk, v = self.project(mixed).split([2 * inner, inner], 2)
        q, k = l2_normalize(silu(qk).reshape(rows, length, 2, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        v = v.unflatten(2, (self.heads, self.size)).transpose(1, 2)
        decay, rate = self.rates(x).unflatten(2, (2, self.heads)).permute(2, 0, 3, 1)
        share, decay = self._share(rate), logsigmoid(decay)
        if layout is not None:  # padding neither decays nor writes
            share, decay = (torch.where(layout.valid[:, None], gate, 0.0) for gate in (share, decay))
        read, memory = gated_delta_rule(q, k, v, decay, share, memory, self.chunk, self.rule == "delta")
        read = self.norm(read.to(self.norm.weight.dtype)).transpose(1, 2).flatten(2)
        y = self.out(read.to(x.dtype) * self.gate(x).sigmoid())
        if layout is None:
            recent, erased = tokens[:, length:].clone(), softplus(rate)  # -log(1 - b_t)
        else:
            columns = layout.lengths[:, None] + torch.arange(reach, device=x.device)
            recent = tokens.gather(1, columns[..., None].expand(-1, -1, width))
            erased = softplus(rate) * layout.valid[:, None]
        after = {"memory": memory, "recent": recent}
        if self.threshold:
            after |= with_losses(state, erased.mean(1).sum(1), length if layout is None else layout.lengths)
        return y, after


def l2_normalize(x: Tensor) -> Tensor:
    """x (*, K) scaled to length 1, by a product with the inverse: the gradient of a quotient takes twice as long."""
    inverse: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12).reciprocal()
    return x * inverse
