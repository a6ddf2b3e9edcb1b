"""The long-term memory that the source documents draw: bidirectional encoder, latents, recurrent write, read.

Letters: B batch, N segments, L tokens of a segment, M latents of a segment, C = L / M tokens of a chunk, H heads, K head
size, J slots, D model width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize, scaled_dot_product_attention, silu

from memspan.errors import UsageError
from memspan.mechanisms.layers.delta_rule import gated_delta_rule
from memspan.mechanisms.layers.segmented import Segmented
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.state import State


class LTM(Segmented):
    """A complete segment is encoded in both directions, squeezed into latents, and written; later tokens read.

    The parts, each of which can be left out to see what it is worth:

    - `bidirectional`: one transformer block without a mask over the segment; else the block is causal.
    - `autoencoder`: each chunk of C tokens becomes one latent, from which an objective of its own (state key "loss")
      rebuilds the chunk's hidden states; else every token is written as it is.
    - `write`: "delta_rule", the gated delta rule over latents (as ARMT writes its memory tokens, Rodkin et al. 2024, arXiv
      2407.04841, here with a decay and per latent); "additive", the same without correction; "slots", J vectors that
      attend to the latents and take in what they find by the gates of an LSTM.
    - the read, in every layer that has this mechanism: q^T M for a matrix, attention for slots.

    Args:
        width: D.
        segment: L.
        latents: M, a divisor of L.
        heads: H, of the matrix or of the attention to slots.
        size: K, D / H if not given; the matrix holds H K K floats.
        slots: J.
        decay: bias of the forgetting before its sigmoid.
    """

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
        given = [latents, heads, slots] if size is None else [latents, heads, size, slots]
        if min(given) < 1:
            raise UsageError(
                f"latents={latents}, heads={heads}, size={size}, slots={slots} cannot be: all are 1 or more."
            )
        if segment % latents:
            raise UsageError(f"A segment of {segment} tokens cannot be cut into {latents} chunks of equal length.")
        if write not in ("additive", "delta_rule", "slots"):
            raise UsageError(f"There is no write '{write}'. Known: additive, delta_rule, slots.")
        if size is None and width % heads:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads: give `size`.")
        self.encoder = TransformerLayer(width, max(1, width // 16), 2 * width)
        self.bidirectional = bidirectional
        chunk = segment // latents
        self.pool = nn.Linear(chunk * width, width) if autoencoder else None
        self.rebuild = (
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

    def initial(self, x: Tensor) -> State:
        memory = {"store": self.store.initial(x)}
        if self.rebuild is not None:
            memory |= {"loss": x.new_zeros(len(x)), "count": x.new_zeros(len(x))}
        return memory

    def encode(self, x: Tensor) -> Tensor:
        """The latents of each segment, and after them the segment itself, to be rebuilt: (B, N, M + L, D)."""
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
        if self.rebuild is not None:
            missed = (self.rebuild(latents).reshape(x.shape) - x).square().mean((1, 2))
            count = memory["count"] + 1
            loss = memory["loss"] + (missed - memory["loss"]) / count  # the mean over all segments so far
            after |= {"loss": loss, "count": count}
        return after


class _Matrix(nn.Module):
    """An associative matrix (B, H, K, K) for each row."""

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
        return x.new_zeros(len(x), self.heads, self.size, self.size)

    def read(self, x: Tensor, memory: Tensor) -> Tensor:
        q = normalize(silu(self.query(x)).reshape(*x.shape[:2], self.heads, self.size), dim=-1).transpose(1, 2)
        found = (q @ memory).transpose(1, 2).flatten(2)
        y: Tensor = self.out(found * self.gate(x).sigmoid())
        return y

    def write(self, latents: Tensor, memory: Tensor) -> Tensor:
        rows, count, _ = latents.shape
        k, v = self.keys(latents).reshape(rows, count, 2, self.heads, self.size).permute(2, 0, 3, 1, 4)
        k = normalize(silu(k), dim=-1)
        decay, rate = self.rates(latents).reshape(rows, count, 2, self.heads).permute(2, 0, 3, 1)
        return gated_delta_rule(k, k, v, logsigmoid(decay), rate.sigmoid(), memory, count, self.correct)[1]


class _Slots(nn.Module):
    """J vectors (B, J, H K) for each row, written by the gates of an LSTM (i, f, g; what is read takes the place of o)."""

    def __init__(self, width: int, heads: int, size: int, slots: int) -> None:
        super().__init__()
        inner = heads * size
        self.heads = heads
        self.first = nn.Parameter(torch.randn(slots, inner) * inner**-0.5)
        self.slot_q = nn.Linear(inner, inner, bias=False)
        self.input_kv = nn.Linear(width, 2 * inner, bias=False)
        self.gates = nn.Linear(2 * inner, 3 * inner)
        self.query = nn.Linear(width, inner, bias=False)
        self.slot_kv = nn.Linear(inner, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        with torch.no_grad():
            self.gates.bias[inner : 2 * inner] = 4.0  # forget slowly

    def initial(self, x: Tensor) -> Tensor:
        return self.first.to(x.dtype).expand(len(x), -1, -1)

    def read(self, x: Tensor, memory: Tensor) -> Tensor:
        k, v = self.slot_kv(memory).chunk(2, -1)
        y: Tensor = self.out(self._attend(self.query(x), k, v))
        return y

    def write(self, latents: Tensor, memory: Tensor) -> Tensor:
        k, v = self.input_kv(latents).chunk(2, -1)
        found = self._attend(self.slot_q(memory), k, v)
        i, f, g = self.gates(torch.cat([memory, found], -1)).chunk(3, -1)
        kept: Tensor = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        return kept

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
