"""Compressed against a reference that looks at every query by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms.compressed import Compressed
from memspan.testing import HEADS, QUERY_HEADS, SIZE, Example, Stream, random_stream, read, rotate
from tests.mechanisms.references import same_gradients

GROUPS = QUERY_HEADS // HEADS
Rule = tuple[int, int, int, int]  # block, recent, rate, slots

EXAMPLE = Example(
    bounded=lambda: Compressed(4, recent=1, rate=2, slots=12), unlimited=lambda: Compressed(8, recent=100, slots=2)
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    rate, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return rate * groups, draw(st.integers(0, 2)), rate, groups + draw(st.integers(0, 5))


def pooled(x: Tensor, weights: Tensor) -> Tensor:
    """(B, H, C, K), group by group."""
    rate = len(weights)
    return torch.stack(
        [
            sum(weights.softmax(0)[i] * x[:, :, start + i] for i in range(rate))  # type: ignore[misc]
            for start in range(0, x.shape[2], rate)
        ],
        2,
    )


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = k.repeat_interleave(GROUPS, 1), v.repeat_interleave(GROUPS, 1)
    return (q @ k.transpose(2, 3) / SIZE**0.5).softmax(3) @ v


def naive(q: Tensor, k: Tensor, v: Tensor, rule: Rule, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs, and the mean loss of the blocks that have left."""
    block, recent, _, slots = rule
    outputs, losses = [], [torch.zeros(q.shape[0], dtype=torch.float64)]
    for place in range(q.shape[2]):
        start = max(0, (place // block - recent) * block)
        old = [pooled(x[:, :, at : at + block], weights) for x in (k, v) for at in range(0, start, block)]
        old_k, old_v = old[: len(old) // 2], old[len(old) // 2 :]
        keys = torch.cat([*old_k, k[:, :, :0]], 2)[:, :, -slots:]
        values = torch.cat([*old_v, v[:, :, :0]], 2)[:, :, -slots:]
        positions = torch.arange(slots - keys.shape[2], slots + place - start + 1)[None]
        query = rotate(q[:, :, place : place + 1], positions[:, -1:])
        keys = rotate(torch.cat([keys, k[:, :, start : place + 1]], 2), positions)
        outputs.append(attention(query, keys, torch.cat([values, v[:, :, start : place + 1]], 2)))
        if start and place % block == 0:
            gone = [x[:, :, start - block : start].detach() for x in (k, v)]
            one = q[:, :, place : place + 1].detach()
            difference = attention(one, *gone) - attention(one, *(pooled(x, weights) for x in gone))
            losses.append(difference.square().mean((1, 2, 3)))
    return torch.cat(outputs, 2), torch.stack(losses[1:] or losses).mean(0)


@given(rule=rules(), cuts=st.lists(st.integers(1, 20), min_size=1, max_size=4))
@settings(max_examples=24, deadline=None, derandomize=True)
def test_outputs_loss_and_gradients_equal_the_naive_reference(rule: Rule, cuts: list[int]) -> None:
    mechanism = Compressed(*rule).double()
    with torch.no_grad():
        mechanism.weights.copy_(torch.linspace(-1, 1, rule[2]))
    stream: Stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, sum(cuts)))
    output, state = read(mechanism, stream, cuts)
    expected, loss = naive(*stream, rule, mechanism.weights)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state["loss"], loss, rtol=1e-9, atol=1e-9)
    inputs = [*stream, mechanism.weights]
    same_gradients([output, state["loss"]], [expected, loss], inputs, some_unused=True)


def test_the_loss_trains_the_pooling_and_nothing_else() -> None:
    """Where the first token of every pair is all that queries look for, its weight grows."""
    torch.manual_seed(0)
    mechanism = Compressed(4, recent=0, rate=2, slots=2).double()
    q, k, v = (x.requires_grad_() for x in random_stream(mechanism, 2, 40))
    keys = k * torch.tensor([3.0, 0.1] * 20, dtype=torch.float64)[:, None]
    _, state = read(mechanism, (q, keys, v), [40])
    (loss,) = states.losses(state)
    assert loss.shape == (2,)
    assert loss.min() > 0
    gradients = torch.autograd.grad(loss.mean(), [mechanism.weights, q, k, v], allow_unused=True)
    assert gradients[1:] == (None, None, None)
    assert gradients[0] is not None
    with torch.no_grad():
        mechanism.weights -= 0.5 * gradients[0] / gradients[0].norm()
    _, after = read(mechanism, (q, keys, v), [40])
    assert after["loss"].mean() < loss.mean()
    assert mechanism.weights[0] > mechanism.weights[1]


def test_a_rate_of_one_pools_nothing_away() -> None:
    _, state = read(Compressed(4, recent=0, rate=1, slots=8).double(), random_stream(EXAMPLE.make(), 2, 30), [30])
    torch.testing.assert_close(state["loss"], torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-20)


def test_mean_pooling_learns_nothing() -> None:
    assert [p for p in Compressed(pooling="mean").parameters() if p.requires_grad] == []


@pytest.mark.parametrize("rule", [(0, 1, 1, 8), (8, -1, 4, 8), (8, 1, 3, 8), (8, 1, 0, 8), (8, 1, 2, 3)], ids=str)
def test_settings_that_cannot_be(rule: Rule) -> None:
    with pytest.raises(UsageError, match="must be"):
        Compressed(*rule)


def test_an_unknown_pooling() -> None:
    with pytest.raises(UsageError, match="pooling must be one of mean, weighted, got 'max'"):
        Compressed(pooling="max")
