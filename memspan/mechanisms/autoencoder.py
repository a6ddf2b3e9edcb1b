"""Chunks of tokens, each squeezed into one latent from which it can be rebuilt.

Letters: B batch, S tokens, N segments, L tokens of a segment, R tokens of a chunk (the rate), J latents kept, Z floats of
a latent, D model width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.layers.segmented import Segmented
from memspan.state import State


class Autoencoder(Segmented):
    """Latents by chunk pooling, as a memory: later tokens attend to the last `keep` of them.

    After the autoencoding objective of the Compressive Transformer (Rae et al. 2020, arXiv 1911.05507) and of the
    In-context Autoencoder (Ge et al. 2024, arXiv 2307.06945). Deviations: every latent has a chunk of its own, because
    queries that must first learn where to look learn many times slower; hidden states are rebuilt, not tokens. The state
    has "loss" (B,), the mean squared error of all chunks of the stream so far against the detached hidden states.

    Alone it is a feature extractor: `decode(encode_chunks(x))` rebuilds x.

    Args:
        width: D.
        rate: R, 2 to 16.
        latent: Z, D if not given.
        keep: J; older latents are dropped.
        segment: L, a multiple of R; what tokens read is that old at least.
        heads: H, of the attention to latents.
        hidden: inner width of the encoder and the decoder, 4 D if not given.
    """

    def __init__(
        self,
        width: int,
        rate: int = 4,
        latent: int | None = None,
        keep: int = 64,
        segment: int = 32,
        heads: int = 4,
        hidden: int | None = None,
    ) -> None:
        super().__init__(segment)
        latent = width if latent is None else latent
        if not 2 <= rate <= 16 or segment % rate or keep < 1 or latent < 1:
            raise UsageError(
                f"rate={rate}, segment={segment}, keep={keep}, latent={latent} cannot be: the rate is 2 to 16 and divides "
                "the segment; the others are at least 1."
            )
        if width % heads:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads.")
        self.rate, self.latent, self.keep, self.heads = rate, latent, keep, heads
        hidden = 4 * width if hidden is None else hidden
        self.encoder = _Bypassed(rate * width, hidden, latent)
        self.decoder = _Bypassed(latent, hidden, rate * width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(latent, 2 * width, bias=False)
        self.nothing = nn.Parameter(torch.randn(1, 1, latent) * latent**-0.5)  # what can be read before anything else
        self.age = nn.Parameter(torch.zeros(keep, latent))  # added to the latents; the newest is the last
        self.gate = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)

    def encode_chunks(self, x: Tensor) -> Tensor:
        """x (..., S, D), S a multiple of R -> latents (..., S / R, Z)."""
        if x.shape[-2] % self.rate:
            raise UsageError(f"{x.shape[-2]} tokens cannot be cut into chunks of {self.rate}.")
        latents: Tensor = self.encoder(x.reshape(*x.shape[:-2], -1, self.rate * x.shape[-1]))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (..., S / R, Z) -> (..., S, D)."""
        chunks: Tensor = self.decoder(latents)
        return chunks.reshape(*latents.shape[:-2], latents.shape[-2] * self.rate, -1)

    def initial(self, x: Tensor) -> State:
        rows = len(x)
        return {
            "latents": x.new_zeros(rows, self.keep, self.latent),
            "chunks": torch.zeros(rows, dtype=torch.int64, device=x.device),  # how many there were so far
            "loss": x.new_zeros(rows),
        }

    def encode(self, x: Tensor) -> Tensor:
        """(B, N, L, D) -> (B, N, L / R, Z + 1): the latents, and how badly each rebuilds its chunk."""
        latents = self.encode_chunks(x)
        error = (self.decode(latents) - x.detach()).square().reshape(*latents.shape[:3], -1).mean(-1)
        return torch.cat([latents, error[..., None]], -1)

    def write(self, code: Tensor, memory: State) -> State:
        latents, error = code[..., :-1], code[..., -1]
        chunks = memory["chunks"] + error.shape[1]
        return {
            "latents": torch.cat([memory["latents"], latents], 1)[:, -self.keep :].clone(),
            "chunks": chunks,
            "loss": memory["loss"] + (error - memory["loss"][:, None]).sum(1) / chunks,
        }

    def read(self, x: Tensor, memory: State) -> Tensor:
        rows, length, width = x.shape
        latents = torch.cat([self.nothing.expand(rows, -1, -1), memory["latents"] + self.age], 1)
        number = torch.arange(self.keep + 1, device=x.device)
        mask = (number == 0) | (number > self.keep - memory["chunks"][:, None])  # (B, J + 1)
        q = self.query(x).reshape(rows, length, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(latents).reshape(rows, self.keep + 1, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None].expand(-1, -1, length, -1))
        y: Tensor = self.out(found.transpose(1, 2).reshape(rows, length, width) * self.gate(x).sigmoid())
        return y


class _Bypassed(nn.Module):
    """A linear map and a network of one hidden layer beside it: what is linear is learned at once."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.straight = nn.Linear(width, out)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.straight(x) + self.down(gelu(self.up(x)))
        return y
