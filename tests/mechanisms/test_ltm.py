"""LTM against the same parts written as loops over segments, latents and heads."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, silu

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms.ltm import LTM
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, same_gradients

EXAMPLE = Example(bounded=lambda: LTM(WIDTH, segment=8, latents=4, heads=2))


def encode(memory: LTM, x: Tensor) -> Tensor:
    """One segment (L, D) -> its latents (M, D): attention token by token, then chunk by chunk."""
    encoder = memory.encoder
    q, k, v = encoder.project(encoder.norm_attention(x)).chunk(3, -1)
    heads, size = encoder.heads, x.shape[1] // encoder.heads

    def turned(vector: Tensor, place: int) -> Tensor:
        half = size // 2
        angle = (place * 10000.0 ** (-torch.arange(half) / half)).double()  # angles are worked out in single precision
        one, two = vector[:half], vector[half:]
        return torch.cat([one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos()])

    rows = []
    for place in range(len(x)):
        seen = range(len(x)) if memory.bidirectional else range(place + 1)
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            query = turned(q[place, own], place)
            scores = torch.stack([query @ turned(k[other, own], other) for other in seen]) / size**0.5
            parts.append((scores.softmax(0)[:, None] * torch.stack([v[other, own] for other in seen])).sum(0))
        rows.append(torch.cat(parts))
    x = x + encoder.join(torch.stack(rows))
    x = x + encoder.down(torch.nn.functional.gelu(encoder.up(encoder.norm_feedforward(x))))
    if memory.pool is None:
        return x
    chunk = memory.pool.in_features // x.shape[1]
    return torch.stack([memory.pool(x[start : start + chunk].flatten()) for start in range(0, len(x), chunk)])


def naive(memory: LTM, x: Tensor) -> Tensor:
    """One row (T, D), written and read by the definition M <- a (I - b k k^T) M + b k v^T."""
    store = memory.store
    heads, size, length = store.heads, store.size, memory.segment
    matrix = [x.new_zeros(size, size) for _ in range(heads)]
    outputs = []
    for start in range(0, len(x), length):
        segment = x[start : start + length]
        for token in segment:
            found = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                found.append(matrix[head].T @ normalize(silu(store.query(token))[own], dim=0))
            outputs.append(store.out(torch.cat(found) * store.gate(token).sigmoid()))
        if len(segment) < length:
            break
        for latent in encode(memory, segment):
            keys, values = store.keys(latent).chunk(2)
            decay, rate = store.rates(latent).chunk(2)
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                k, v, a, b = normalize(silu(keys[own]), dim=0), values[own], decay[head].sigmoid(), rate[head].sigmoid()
                old = a * matrix[head]
                new = v - old.T @ k if store.correct else v
                matrix[head] = old + b * torch.outer(k, new)
    return torch.stack(outputs)


@pytest.mark.parametrize(
    "settings",
    [{}, {"bidirectional": False}, {"autoencoder": False}, {"write": "additive"}, {"latents": 8}, {"heads": 1}],
    ids=str,
)
def test_outputs_and_gradients_equal_the_naive_reference(settings: dict) -> None:
    torch.manual_seed(0)
    memory = LTM(WIDTH, **{"segment": 8, "latents": 4, "heads": 2, **settings}).double()
    (x,) = (one.requires_grad_() for one in random_stream(memory, 2, 29))
    output, _ = read(memory, (x,), [8, 13, 8])
    expected = torch.stack([naive(memory, row) for row in x])
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    inputs = [x, *(one for name, one in memory.named_parameters() if not name.startswith("reconstruct"))]
    same_gradients([output], [expected], inputs, 1e-8, 1e-9)


def test_slots_are_written_by_the_gates_of_an_lstm() -> None:
    torch.manual_seed(0)
    memory = LTM(WIDTH, segment=8, latents=4, heads=1, write="slots", slots=3).double()
    (x,) = random_stream(memory, 1, 16)
    _, state = read(memory, (x,), [16])
    store, slots = memory.store, memory.store.initial_slots
    for start in (0, 8):
        latents = encode(memory, x[0, start : start + 8])
        k, v = store.input_kv(latents).chunk(2, -1)
        found = (store.slot_q(slots) @ k.T / WIDTH**0.5).softmax(1) @ v
        i, f, g = store.gates(torch.cat([slots, found], 1)).chunk(3, 1)
        slots = f.sigmoid() * slots + i.sigmoid() * g.tanh()
    torch.testing.assert_close(state["memory"]["store"][0], slots, rtol=1e-9, atol=1e-9)


def test_a_new_memory_forgets_slowly() -> None:
    """Whatever is read: a new network keeps most of a slot, and nearly all of its matrix, from write to write."""
    torch.manual_seed(0)
    x = torch.randn(4, 8, WIDTH)
    slots = LTM(WIDTH, segment=8, latents=4, write="slots", slots=3).store
    before = slots.initial(x)
    _, forget, _ = slots.gates(torch.cat([before, x[:, :3]], -1)).sigmoid().chunk(3, -1)
    assert 0.9 < forget.min() <= forget.max() < 1
    matrix = LTM(WIDTH, segment=8, latents=4).store
    decay, rate = matrix.rates(x).sigmoid().chunk(2, -1)
    assert 0.98 < decay.min() <= decay.max() < 1
    assert 0.3 < rate.min() <= rate.max() < 0.7
    decay, _ = LTM(WIDTH, segment=8, latents=4, decay=0.0).store.rates(x).sigmoid().chunk(2, -1)
    assert 0.3 < decay.min() <= decay.max() < 0.7


def test_its_objective_is_the_mean_error_of_rebuilding_all_segments_so_far() -> None:
    torch.manual_seed(0)
    memory = LTM(WIDTH, segment=8, latents=4).double()
    (x,) = random_stream(memory, 1, 27)
    _, state = read(memory, (x,), [5, 22])
    errors = []
    for start in (0, 8, 16):
        segment = x[0, start : start + 8]
        errors.append((memory.reconstruct(encode(memory, segment)).reshape(8, WIDTH) - segment).square().mean())
    (loss,) = states.losses(state)
    torch.testing.assert_close(loss, torch.stack(errors).mean()[None])
    loss.sum().backward()
    assert memory.pool.weight.grad.abs().max() > 0


def test_without_an_autoencoder_it_has_no_objective() -> None:
    memory = LTM(WIDTH, segment=8, latents=4, autoencoder=False).double()
    _, state = read(memory, random_stream(memory, 1, 16), [16])
    assert states.losses(state) == []
    assert set(state["memory"]) == {"store"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"segment": 8, "latents": 3}, "latents must divide a segment of 8 tokens into equal chunks, got 3"),
        ({"segment": 0}, "segment must be at least 1 token, got 0"),
        ({"write": "none"}, "write must be one of additive, delta_rule, slots, got 'none'"),
        ({"heads": 3}, "heads must divide a width of 8 unless `size` is set, got 3"),
        ({"latents": 0}, "must be at least 1, got latents=0"),
        ({"heads": 0}, "must be at least 1, .* heads=0"),
        ({"size": 0}, "must be at least 1, .* size=0"),
        ({"slots": 0}, "must be at least 1, .* slots=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        LTM(WIDTH, **settings)
