"""A bidirectional segment encoder, latents, a recurrent write, and a read in every layer.

Letters: B batch, N segments, L tokens of a segment, M latents of a segment, C = L / M tokens of a chunk, H heads, K head
size, J slots, D model width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize, scaled_dot_product_attention, silu

from memspan.errors import UsageError
from memspan.mechanisms.layers.delta_rule import gated_delta_rule
from memspan.mechanisms.layers.precision import at_least_single, exact, exact_products
from memspan.mechanisms.layers.segmented import Segmented
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.state import State, with_losses

WRITES = ("additive", "delta_rule", "slots")
SLOT_FORGET_BIAS = 4.0  # a new network keeps 98 % of a slot from write to write


class LTM(Segmented):
    """Segments encoded in both directions, compressed and written to a matrix (delta rule as in ARMT, Rodkin et al. 2024).

    The parts, each of which can be left out for an ablation:

    - `bidirectional`: a transformer layer that attends to the whole segment; without it the layer is causal.
    - `autoencoder`: each chunk of C tokens becomes one latent, from which an objective of its own (state key "loss")
      reconstructs the chunk's hidden states; without it every token is written.
    - `write`: "delta_rule", the gated delta rule over latents; "additive", the same without the correction; "slots", J
      vectors that attend to the latents and are updated through the gates of an LSTM.
    - the read, in every layer that has this mechanism: q^T M from a matrix, attention to slots.

    Deviations from the paper (arXiv 2407.04841): the latents of a segment encoder are written rather than the outputs of
    memory tokens in the model's own layers; the matrix has a decay; keys are normalised after a SiLU rather than expanded
    by DPFP, and there is no normaliser; the read is gated by a sigmoid. The encoder is that of Devlin et al. 2019 (one layer, pre-norm, rotary), the
    latents and their objective are those of Ge et al. 2024 with a chunk for each latent.

    Args:
        width: D.
        segment: L.
        latents: M, a divisor of L.
        heads: H of the matrix or of the attention to slots.
        size: K, D / H by default; the matrix has H K K floats.
        bidirectional: encode the segment in both directions.
        autoencoder: compress chunks to latents.
        write: "delta_rule", "additive" or "slots".
        slots: J.
        decay: bias of the matrix's decay before the sigmoid: at 5 the matrix decays slowly.
    """

    # Each parameter is a size or a part that can be left out, and the settings that users write.
    def __init__(
        self,
        width: int,
        segment: int = 32,
        latents: int = 16,
        heads: int = 1,
        size: int | None = None,
        bidirectional: bool = True,
        autoencoder: bool = True,
        write: str = "delta_rule",
        slots: int = 16,
        decay: float = 5.0,
    ) -> None:
        super().__init__(segment)
        sizes = [latents, heads, slots] if size is None else [latents, heads, size, slots]
        if min(sizes) < 1:
            raise UsageError(
                "latents, heads, size and slots must be at least 1, "
                f"got latents={latents}, heads={heads}, size={size}, slots={slots}."
            )
        if segment % latents:
            raise UsageError(f"latents must divide a segment of {segment} tokens into equal chunks, got {latents}.")
        if write not in WRITES:
            raise UsageError(f"write must be one of {', '.join(WRITES)}, got '{write}'.")
        if size is None and width % heads:
            raise UsageError(f"heads must divide a width of {width} unless `size` is set, got {heads}.")
        self.encoder = TransformerLayer(width, max(1, width // 16), 2 * width)
        self.bidirectional = bidirectional
        chunk = segment // latents
        self.pool = nn.Linear(chunk * width, width) if autoencoder else None
        self.reconstruct = (
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, chunk * width))
            if autoencoder
            else None
        )
        size = width // heads if size is None else size
        self.store = (
            _Slots(width, heads, size, slots)
            if write == "slots"
            else _Matrix(width, heads, size, write == "delta_rule", decay)
        )

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"size": size}

    def initial(self, x: Tensor) -> State:
        memory = {"store": self.store.initial(x)}
        if self.reconstruct is not None:
            memory |= with_losses(None, x.new_zeros(len(x)), 0)
        return memory

    def encode(self, x: Tensor) -> Tensor:
        """The latents of each segment, followed by the segment itself, their target: (B, N, M + L, D)."""
        rows, count, length, width = x.shape
        codes: Tensor = self.encoder(x.reshape(rows * count, length, width), causal=not self.bidirectional)
        if self.pool is not None:
            codes = self.pool(codes.reshape(rows * count, -1, self.pool.in_features))
        return torch.cat([codes.reshape(rows, count, -1, width), x], 2)

    def read(self, x: Tensor, memory: State) -> Tensor:
        y: Tensor = self.store.read(x, memory["store"])
        return y

    def write(self, code: Tensor, memory: State) -> State:
        latents, x = code[:, : -self.segment], code[:, -self.segment :].detach()
        after = {"store": self.store.write(latents, memory["store"])}
        if self.reconstruct is not None:
            error = (self.reconstruct(latents).reshape(x.shape) - x).square().mean((1, 2))
            after |= with_losses(memory, error, 1)
        return after


class _Matrix(nn.Module):
    """The associative matrix M, (B, H, K, K), written by the gated delta rule."""

    def __init__(self, width: int, heads: int, size: int, correct: bool, decay: float) -> None:
        super().__init__()
        self.heads, self.size, self.correct = heads, size, correct
        self.keys = nn.Linear(width, 2 * heads * size, bias=False)
        self.rates = nn.Linear(width, 2 * heads)
        self.query = nn.Linear(width, heads * size, bias=False)
        self.gate = nn.Linear(width, heads * size)
        self.out = nn.Linear(heads * size, width, bias=False)
        with torch.no_grad():
            self.rates.weight.mul_(0.1)
            self.rates.bias.copy_(torch.tensor([decay] * heads + [0.0] * heads))

    def initial(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.heads, self.size, self.size, dtype=at_least_single(x.dtype))

    def read(self, x: Tensor, memory: Tensor) -> Tensor:
        q = normalize(silu(self.query(x)).reshape(*x.shape[:2], self.heads, self.size), dim=-1).transpose(1, 2)
        with exact_products(x):
            values = (exact(q) @ memory).transpose(1, 2).flatten(2).to(x.dtype)
        y: Tensor = self.out(values * self.gate(x).sigmoid())
        return y

    def write(self, latents: Tensor, memory: Tensor) -> Tensor:
        rows, count, _ = latents.shape
        k, v = self.keys(latents).reshape(rows, count, 2, self.heads, self.size).permute(2, 0, 3, 1, 4)
        k = normalize(silu(k), dim=-1)
        decay, rate = self.rates(latents).reshape(rows, count, 2, self.heads).permute(2, 0, 3, 1)
        return gated_delta_rule(k, k, v, logsigmoid(decay), rate.sigmoid(), memory, count, self.correct)[1]


class _Slots(nn.Module):
    """J vectors, (B, J, H K), written through the gates i, f and g of an LSTM; there is no o, the read is attention."""

    def __init__(self, width: int, heads: int, size: int, slots: int) -> None:
        super().__init__()
        inner = heads * size
        self.heads = heads
        self.initial_slots = nn.Parameter(torch.randn(slots, inner) * inner**-0.5)
        self.slot_q = nn.Linear(inner, inner, bias=False)
        self.input_kv = nn.Linear(width, 2 * inner, bias=False)
        self.gates = nn.Linear(2 * inner, 3 * inner)
        self.query = nn.Linear(width, inner, bias=False)
        self.slot_kv = nn.Linear(inner, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        with torch.no_grad():
            self.gates.bias[inner : 2 * inner] = SLOT_FORGET_BIAS

    def initial(self, x: Tensor) -> Tensor:
        return exact(self.initial_slots).expand(len(x), -1, -1)

    def read(self, x: Tensor, memory: Tensor) -> Tensor:
        k, v = self.slot_kv(memory.to(x.dtype)).chunk(2, -1)
        y: Tensor = self.out(self._attend(self.query(x), k, v))
        return y

    def write(self, latents: Tensor, memory: Tensor) -> Tensor:
        k, v = self.input_kv(latents).chunk(2, -1)
        seen = memory.to(latents.dtype)
        attended = self._attend(self.slot_q(seen), k, v)
        i, f, g = exact(self.gates(torch.cat([seen, attended], -1))).chunk(3, -1)
        slots: Tensor = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        return slots

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
