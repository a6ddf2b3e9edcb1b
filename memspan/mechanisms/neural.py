"""A small network whose weights are the memory, trained while it reads.

Letters: B batch, N segments, L tokens of a segment, K key and value size, I inner width, D model width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, silu

from memspan.errors import UsageError
from memspan.mechanisms.layers.precision import at_least_single, exact, exact_products
from memspan.mechanisms.layers.segmented import Segmented
from memspan.state import State

Weights = tuple[Tensor, Tensor]  # (B, K, I) and (B, I, K)


class Neural(Segmented):
    """The weights of a network that is trained while reading (Titans, Behrouz, Zhong and Mirrokni 2025, arXiv 2501.00663).

    For each row of the batch a network of two layers, M(k) = silu(k W1) W2, learns by gradient descent with momentum to
    map the keys of each segment to their values (equations 11 to 14):

        loss = 1/2 sum_t r_t |M(k_t) - v_t|^2      S <- e S - s n(gradient)      dW <- (1 - a) dW + S

    where r_t, e and a are sigmoids of linear maps of the tokens, and s is learned. Tokens read M(q) as it was before their
    segment.

    Deviations from the paper: one step per segment, on all of its tokens, with the means of e and a over them; each
    matrix's gradient g is clipped softly to n(g) = g / sqrt(1 + |g|^2), of a length below 1, because otherwise growing
    losses make growing steps until the weights overflow; the decay acts on the difference dW to learned initial weights
    rather than on the weights, because a network of zeros learns nothing; no convolution and no persistent memory.

    The state is {"learned": dW, "momentum": S}, each a pair of matrices.

    Args:
        width: D.
        segment: L.
        size: K, D by default.
        inner: I, 2 K by default.
    """

    def __init__(self, width: int, segment: int = 32, size: int | None = None, inner: int | None = None) -> None:
        super().__init__(segment)
        self.size = width if size is None else size
        inner = 2 * self.size if inner is None else inner
        if self.size < 1 or inner < 1:
            raise UsageError(f"size and inner must be at least 1, got size={size}, inner={inner}.")
        self.initial_weights = nn.ParameterList(
            [torch.randn(self.size, inner), torch.randn(inner, self.size) / inner**0.5]
        )
        self.log_step = nn.Parameter(torch.zeros(2))  # log s of each matrix
        self.project = nn.Linear(width, 2 * self.size, bias=False)
        self.rates = nn.Linear(width, 3)  # r, e and a before the sigmoid
        self.query = nn.Linear(width, self.size, bias=False)
        self.norm = nn.RMSNorm(self.size, eps=1e-5)
        self.gate = nn.Linear(width, self.size)
        self.out = nn.Linear(self.size, width, bias=False)
        with torch.no_grad():
            self.rates.weight.mul_(0.1)
            self.rates.bias.copy_(torch.tensor([0.0, -2.0, -5.0]))  # little momentum, slow forgetting

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"size": size}

    def initial(self, x: Tensor) -> State:
        learned, momentum = (
            tuple(x.new_zeros(len(x), *weight.shape, dtype=at_least_single(x.dtype)) for weight in self.initial_weights)
            for _ in ("learned", "momentum")
        )
        return {"learned": learned, "momentum": momentum}

    def encode(self, x: Tensor) -> Tensor:
        """(B, N, L, D) -> (B, N, L, 2 K + 3): keys, values, and the rates r, e and a."""
        k, v = self.project(x).chunk(2, -1)
        return torch.cat([normalize(k, dim=-1), v, self.rates(x).sigmoid()], -1)

    def write(self, code: Tensor, memory: State) -> State:
        with exact_products(code):
            return self._write(exact(code), memory)

    def _write(self, code: Tensor, memory: State) -> State:
        k, v, rate = code[..., : self.size], code[..., self.size : -3], code[..., -3:-2]
        keep, forget = code[..., -2:].mean(1)[..., None, None].unbind(1)  # (B, 1, 1)
        gradients = gradient(self._weights(memory), k, v, rate)
        momentum = tuple(
            keep * before - step * soft_clip(change)
            for before, step, change in zip(memory["momentum"], exact(self.log_step).exp(), gradients, strict=True)
        )
        learned = tuple((1 - forget) * before + s for before, s in zip(memory["learned"], momentum, strict=True))
        return {"learned": learned, "momentum": momentum}

    def read(self, x: Tensor, memory: State) -> Tensor:
        first, second = self._weights(memory)
        with exact_products(x):
            values = silu(normalize(exact(self.query(x)), dim=-1) @ first) @ second
        values = self.norm(values.to(self.norm.weight.dtype)).to(x.dtype)
        y: Tensor = self.out(values * self.gate(x).sigmoid())
        return y

    def _weights(self, memory: State) -> Weights:
        first, second = (
            exact(weight) + learned for weight, learned in zip(self.initial_weights, memory["learned"], strict=True)
        )
        return first, second


def gradient(weights: Weights, k: Tensor, v: Tensor, rate: Tensor) -> Weights:
    """The gradient of 1/2 sum_t r_t |M(k_t) - v_t|^2 by both matrices; k and v (B, L, K), rate (B, L, 1).

    Written out, so that the outer loop differentiates it like any other formula, and inference needs no graph.
    """
    first, second = weights
    before = k @ first
    sigmoid = before.sigmoid()
    inner = before * sigmoid
    error = rate * (inner @ second - v)
    back = error @ second.transpose(1, 2) * (sigmoid + inner * (1 - sigmoid))  # silu' = s + x s (1 - s)
    return k.transpose(1, 2) @ back, inner.transpose(1, 2) @ error


def soft_clip(x: Tensor) -> Tensor:
    """x (B, *, *) / sqrt(1 + |x|^2): the same direction, about the same length if short, never longer than 1."""
    largest = x.abs().amax((1, 2), keepdim=True).detach().clamp_min(1)  # the square of a large number overflows
    scaled = x / largest
    return scaled / (largest**-2 + scaled.square().sum((1, 2), keepdim=True)).sqrt()
