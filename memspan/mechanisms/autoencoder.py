"""Latents, each of which compresses a chunk of tokens and can be decoded to it.

Letters: B batch, S tokens, N segments, L tokens of a segment, R tokens of a chunk (the rate), J latents kept, Z floats of
a latent, D model width, H heads.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from memspan.errors import UsageError
from memspan.mechanisms.base import TraceInput
from memspan.mechanisms.layers.segmented import Segmented
from memspan.state import State, with_losses


class Autoencoder(Segmented):
    """Latents of chunks, to which later tokens attend (autoencoding objectives of Rae et al. 2020 and Ge et al. 2024).

    The objectives are those of the Compressive Transformer (arXiv 1911.05507) and of the In-context Autoencoder (arXiv
    2307.06945). The state has "loss" (B,), the mean squared error of the decoded chunks against the detached hidden states.

    Deviations from the papers: every latent has a chunk of its own, because latents that must first learn where to look
    learn many times more slowly; hidden states are reconstructed, not tokens.

    By itself it is a feature extractor: `decode(encode_chunks(x))` approximates x.

    Args:
        width: D.
        rate: R, 2 to 16.
        latent: Z, D by default.
        keep: J; older latents are dropped.
        segment: L, a multiple of R; tokens read latents of earlier segments only.
        heads: H of the attention to latents.
        hidden: inner width of the encoder and the decoder, 4 D by default.
    """

    trace_input: ClassVar[TraceInput] = TraceInput(settings={"heads": 1})

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
                "rate must be 2 to 16 and divide segment, and keep and latent at least 1, "
                f"got rate={rate}, segment={segment}, keep={keep}, latent={latent}."
            )
        if heads < 1 or width % heads:
            raise UsageError(f"heads must divide a width of {width}, got {heads}.")
        self.rate, self.latent, self.keep, self.heads = rate, latent, keep, heads
        hidden = 4 * width if hidden is None else hidden
        self.encoder = _ResidualMap(rate * width, hidden, latent)
        self.decoder = _ResidualMap(latent, hidden, rate * width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(latent, 2 * width, bias=False)
        self.empty_latent = nn.Parameter(
            torch.randn(1, 1, latent) * latent**-0.5
        )  # always there, so that a read never fails
        self.age = nn.Parameter(torch.zeros(keep, latent))  # added to the latents, by age; the newest is the last
        self.gate = nn.Linear(width, width)
        self.out = nn.Linear(width, width, bias=False)

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any]:
        return {"keep": size}

    def encode_chunks(self, x: Tensor) -> Tensor:
        """x (..., S, D), S a multiple of R -> latents (..., S / R, Z)."""
        if x.shape[-2] % self.rate:
            raise UsageError(f"The number of tokens must be a multiple of {self.rate}, got {x.shape[-2]}.")
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
            "chunks": torch.zeros(rows, dtype=torch.int64, device=x.device),  # number of chunks so far
            **with_losses(None, x.new_zeros(rows), 0),
        }

    def encode(self, x: Tensor) -> Tensor:
        """(B, N, L, D) -> (B, N, L / R, Z + 1): the latents, and the squared error of each decoded chunk."""
        latents = self.encode_chunks(x)
        error = (self.decode(latents) - x.detach()).square().reshape(*latents.shape[:3], -1).mean(-1)
        return torch.cat([latents, error[..., None]], -1)

    def write(self, code: Tensor, memory: State) -> State:
        latents, error = code[..., :-1], code[..., -1]
        return {
            "latents": torch.cat([memory["latents"], latents], 1)[:, -self.keep :].clone(),
            "chunks": memory["chunks"] + error.shape[1],
            **with_losses(memory, error.sum(1), error.shape[1]),
        }

    def read(self, x: Tensor, memory: State) -> Tensor:
        rows, length, width = x.shape
        latents = torch.cat([self.empty_latent.expand(rows, -1, -1), memory["latents"] + self.age], 1)
        index = torch.arange(self.keep + 1, device=x.device)
        mask = (index == 0) | (index > self.keep - memory["chunks"][:, None])  # (B, J + 1)
        q = self.query(x).reshape(rows, length, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(latents).reshape(rows, self.keep + 1, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None].expand(-1, -1, length, -1))
        y: Tensor = self.out(attended.transpose(1, 2).reshape(rows, length, width) * self.gate(x).sigmoid())
        return y


class _ResidualMap(nn.Module):
    """The sum of a linear map and a network of one hidden layer: the linear part is learned fast."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) + self.down(gelu(self.up(x)))
        return y
