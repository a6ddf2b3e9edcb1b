"""Autoencoder: against a reference of single chunks and tokens, and what it is for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms.autoencoder import Autoencoder
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, same_gradients

EXAMPLE = Example(bounded=lambda: Autoencoder(WIDTH, rate=2, latent=6, keep=12, segment=4, heads=2))


def bypassed(part: nn.Module, x: Tensor) -> Tensor:
    return part.linear(x) + part.down(gelu(part.up(x)))


def naive(mechanism: Autoencoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """One token at a time; the outputs, and the mean error of all chunks in complete segments."""
    rate, segment, size = mechanism.rate, mechanism.segment, WIDTH // mechanism.heads
    complete = x.shape[1] // segment * segment
    chunks = [torch.cat(list(x[:, at : at + rate].unbind(1)), 1) for at in range(0, complete, rate)]
    latents = [bypassed(mechanism.encoder, chunk) for chunk in chunks]
    errors = [
        (bypassed(mechanism.decoder, latent) - chunk.detach()).square().mean(1)
        for chunk, latent in zip(chunks, latents, strict=True)
    ]
    outputs = []
    for place in range(x.shape[1]):
        kept = latents[: place // segment * (segment // rate)][-mechanism.keep :]
        aged = [latent + mechanism.age[mechanism.keep - len(kept) + n] for n, latent in enumerate(kept)]
        seen = torch.stack([mechanism.empty_latent[0].expand(len(x), -1), *aged], 1)
        k, v = mechanism.key_value(seen).chunk(2, -1)
        q, found = mechanism.query(x[:, place]), []
        for head in range(mechanism.heads):
            part = slice(head * size, head * size + size)
            weights = (torch.einsum("bk,bnk->bn", q[:, part], k[..., part]) / size**0.5).softmax(1)
            found.append(torch.einsum("bn,bnk->bk", weights, v[..., part]))
        outputs.append(mechanism.out(torch.cat(found, 1) * mechanism.gate(x[:, place]).sigmoid()))
    loss = torch.stack(errors).mean(0) if errors else torch.zeros(len(x), dtype=x.dtype)
    return torch.stack(outputs, 1), loss


@given(keep=st.integers(1, 9), cuts=st.lists(st.integers(1, 15), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_outputs_loss_and_gradients_equal_the_naive_reference(keep: int, cuts: list[int]) -> None:
    torch.manual_seed(0)
    mechanism = Autoencoder(WIDTH, rate=2, latent=6, keep=keep, segment=4, heads=2).double()
    nn.init.normal_(mechanism.age)
    x = random_stream(mechanism, 2, sum(cuts))[0].requires_grad_()
    output, state = read(mechanism, (x,), cuts)
    expected, loss = naive(mechanism, x)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(states.losses(state), [loss], rtol=1e-9, atol=1e-9)
    inputs = [x, *mechanism.parameters()]
    same_gradients([output, state["memory"]["loss"]], [expected, loss], inputs, some_unused=True)


@pytest.mark.parametrize("rate", [2, 4, 8, 16])
def test_alone_it_extracts_features(rate: int) -> None:
    """A latent depends on its own chunk and on nothing else."""
    mechanism = Autoencoder(WIDTH, rate=rate, latent=5, segment=16, heads=2).double()
    (x,) = random_stream(mechanism, 2, 64)
    latents = mechanism.encode_chunks(x)
    assert latents.shape == (2, 64 // rate, 5)
    assert mechanism.decode(latents).shape == x.shape
    changed = x.clone()
    changed[:, rate] += 1
    differs = (mechanism.encode_chunks(changed) - latents).abs().amax((0, 2)) > 1e-12
    assert differs.tolist() == [number == 1 for number in range(64 // rate)]
    rebuilt = (mechanism.decode(mechanism.encode_chunks(changed)) - mechanism.decode(latents)).abs().amax((0, 2))
    assert (rebuilt > 1e-12).nonzero().flatten().tolist() == list(range(rate, 2 * rate))


def test_it_learns_to_rebuild_random_tokens() -> None:
    """Four tokens of 16 in a latent of 16 floats: what a mean over the chunk could not tell apart."""
    torch.manual_seed(0)
    mechanism, embedding, head = Autoencoder(16, rate=4), nn.Embedding(16, 16), nn.Linear(16, 16)
    optimizer = torch.optim.Adam([*mechanism.parameters(), *embedding.parameters(), *head.parameters()], 1e-2)
    right = 0.0
    for _ in range(300):
        ids = torch.randint(16, (16, 32))
        logits = head(mechanism.decode(mechanism.encode_chunks(embedding(ids))))
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
        right = (logits.argmax(-1) == ids).double().mean().item()
    assert right > 0.99


@pytest.mark.parametrize(
    "wrong", [{"rate": 1}, {"rate": 17}, {"rate": 3}, {"keep": 0}, {"latent": 0}, {"segment": 0}, {"heads": 3}], ids=str
)
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"must (be|divide)"):
        Autoencoder(8, **wrong)


def test_a_broken_chunk_is_refused() -> None:
    with pytest.raises(UsageError, match="must be a multiple of 4, got 7"):
        Autoencoder(8, rate=4).encode_chunks(torch.zeros(1, 7, 8))
