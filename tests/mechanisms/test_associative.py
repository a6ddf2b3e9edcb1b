"""Associative against a reference that looks at every query, block, chunk and head by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, silu

from memspan.errors import UsageError
from memspan.mechanisms.associative import Associative
from memspan.mechanisms.layers.attention import rotary
from memspan.testing import HEADS, QUERY_HEADS, SIZE, Example, Stream, random_stream, read, rotate
from tests.mechanisms.references import RandomWeights, same_gradients

GROUPS = QUERY_HEADS // HEADS
Rule = tuple[int, int, int, int]  # rate, sinks, window, block


class Trained(RandomWeights, Associative):
    pass


EXAMPLE = Example(
    bounded=lambda: Trained(rate=2, sinks=1, window=8, block=4, code=4, latent=3, keys=5),
    unlimited=lambda: Trained(rate=2, window=None, block=4, code=4, latent=3, keys=5),
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    rate, chunks, blocks = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    block = rate * chunks
    return rate, draw(st.integers(0, block)), blocks * block, block


def made(rule: Rule) -> Trained:
    rate, sinks, window, block = rule
    mechanism = Trained(rate, sinks, window, block, code=4, latent=3, keys=5)
    mechanism.make_weights(HEADS, SIZE)
    return mechanism.double()


def encoded(memory: nn.Module, tokens: list[Tensor]) -> list[Tensor]:
    """The encoder of a block token by token: a pre-norm layer of one head, in which every token sees all."""
    layer = memory.encoder
    codes = [memory.code.weight @ token for token in tokens]
    q, k, v = zip(*[(layer.project.weight @ layer.norm_attention(code)).chunk(3) for code in codes], strict=True)

    def turned(vector: Tensor, at: int) -> Tensor:
        return rotary(vector[None, None, None], torch.tensor([[at]]))[0, 0, 0]

    outputs = []
    for at, code in enumerate(codes):
        scores = torch.stack([turned(q[at], at) @ turned(k[other], other) for other in range(len(codes))])
        weights = (scores / len(code) ** 0.5).softmax(0)
        x = code + layer.join.weight @ (weights[:, None] * torch.stack(v)).sum(0)
        outputs.append(x + layer.down(gelu(layer.up(layer.norm_feedforward(x)))))
    return outputs


def written(memory: nn.Module, k: Tensor, v: Tensor, rate: int, matrices: list[Tensor]) -> list[Tensor]:
    """The matrices of the heads after a block k, v (H, L, K), by the definition M <- a M + b k (v - a M^T k)^T."""
    tokens, means = [], []
    for start in range(0, k.shape[1], rate):
        chunk = range(start, start + rate)
        scaled = []
        for x in (k, v):
            heads = [x[head, start : start + rate] for head in range(HEADS)]
            scaled.append([head / (head.square().mean() + 1e-12).sqrt() for head in heads])
        tokens += [torch.cat([head[at - start] for kind in scaled for head in kind]) for at in chunk]
        means.append([head.mean(0) for head in scaled[1]])
    codes = encoded(memory, tokens)
    for number, mean in enumerate(means):
        latent = memory.pool(torch.cat(codes[number * rate : (number + 1) * rate]))
        keys, values = memory.key(latent).reshape(HEADS, -1), memory.value(latent).reshape(HEADS, -1)
        decays, rates = memory.rates(latent).reshape(2, HEADS)
        matrices = list(matrices)
        for head in range(HEADS):
            key, a, b = normalize(silu(keys[head]), dim=0), decays[head].sigmoid(), rates[head].sigmoid()
            old = a * matrices[head]
            matrices[head] = old + b * torch.outer(key, mean[head] + values[head] - old.T @ key)
    return matrices


def naive(q: Tensor, k: Tensor, v: Tensor, rule: Rule, memory: nn.Module) -> Tensor:
    rate, sinks, window, block = rule
    rows = []
    for row in range(len(q)):
        outputs, matrices, done = [], [q.new_zeros(memory.keys, SIZE)] * HEADS, 0
        for at in range(q.shape[2]):
            start = max(0, (at // block + 1) * block - window)
            while done < start:
                left = slice(done, done + block)
                matrices, done = written(memory, k[row, :, left], v[row, :, left], rate, matrices), done + block
            kept = [token for token in range(at + 1) if token < sinks or token >= start]
            shift = max(0, start - sinks)
            positions = torch.tensor([[token if token < sinks else token - shift for token in kept]])
            turned = rotate(k[row : row + 1, :, kept], positions).repeat_interleave(GROUPS, 1)
            own = torch.tensor([[at if at < sinks else at - shift]])
            query = q[row : row + 1, :, at : at + 1]
            weights = (rotate(query, own) @ turned.transpose(2, 3) / SIZE**0.5).softmax(3)
            attended = weights @ v[row : row + 1, :, kept].repeat_interleave(GROUPS, 1)
            found = []
            for head in range(QUERY_HEADS):
                group = head // GROUPS
                key = normalize(silu(memory.query[group].T @ q[row, head, at]), dim=0)
                found.append(memory.out[group].T @ (matrices[group].T @ key))
            outputs.append(attended + torch.stack(found)[None, :, None])
        rows.append(torch.cat(outputs, 2))
    return torch.cat(rows)


@given(rule=rules(), cuts=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_outputs_and_gradients_equal_the_naive_reference(rule: Rule, cuts: list[int]) -> None:
    mechanism = made(rule)
    stream: Stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, stream, cuts)
    assert mechanism.memory is not None
    expected = naive(*stream, rule, mechanism.memory)
    torch.testing.assert_close(output, expected, rtol=1e-8, atol=1e-8)
    same_gradients([output], [expected], [*stream, *mechanism.parameters()], some_unused=True)


def test_before_training_it_is_a_window() -> None:
    """The read adds nothing until it is trained, so that a pretrained model loses nothing."""
    from memspan.mechanisms.sink_window import SinkWindow

    mechanism = Associative(rate=2, sinks=1, window=8, block=4)
    mechanism.make_weights(HEADS, SIZE)
    mechanism.double()
    stream = random_stream(mechanism, 2, 40)
    output, state = read(mechanism, stream, [40])
    expected, _ = read(SinkWindow(sinks=1, window=8, block=4), stream, [40])
    assert state["matrix"].abs().max() > 0
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_a_smaller_window_writes_all_that_leaves_it() -> None:
    """Between two segments, several blocks at once: the matrix is that of a window that was small from the start."""
    rule = (2, 1, 4, 4)
    stream = random_stream(made(rule), 2, 24)
    small, changed = made(rule), made(rule)
    changed.window = 16
    _, state = read(changed, tuple(x[:, :, :16] for x in stream), [16])
    assert state["matrix"].abs().max() == 0
    changed.window = 4
    expected, expected_state = read(small, stream, [24])
    output, state = read(changed, tuple(x[:, :, 16:] for x in stream), [8], state)
    torch.testing.assert_close(output, expected[:, :, 16:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state["matrix"], expected_state["matrix"])


@pytest.mark.parametrize("segment", [1, 64])
def test_the_state_is_of_one_size_from_the_first_token_on(segment: int) -> None:
    """But for the window itself, and in single precision whatever that of the model is."""
    mechanism = made((2, 1, 8, 4)).bfloat16()
    stream = tuple(x.bfloat16() for x in random_stream(mechanism, 2, segment))
    _, state = read(mechanism, stream, [segment])
    assert state["matrix"].shape == (2, HEADS, 5, SIZE)
    assert state["matrix"].dtype == torch.float32


@pytest.mark.parametrize(
    "given", [{"rate": 3}, {"window": 100}, {"block": 0}, {"code": 0}, {"latent": 0}, {"keys": 0}, {"sinks": 129}]
)
def test_settings_that_cannot_be_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(given))):
        Associative(**given)


def test_it_says_that_it_must_be_attached_first() -> None:
    mechanism = Associative()
    with pytest.raises(UsageError, match="must be attached to a model"):
        mechanism.recall(*random_stream(mechanism, 1, 4))
