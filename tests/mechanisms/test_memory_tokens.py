"""MemoryTokens against a reference that gives every token its own forward pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import gelu

from memspan.errors import UsageError
from memspan.mechanisms.layers.attention import rotary
from memspan.mechanisms.memory_tokens import MemoryTokens
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, same_gradients

EXAMPLE = Example(bounded=lambda: MemoryTokens(WIDTH, tokens=3, segment=5, depth=2, heads=2))


def stack(mechanism: MemoryTokens, visible: list[Tensor], places: list[int]) -> Tensor:
    """What the last of these vectors (B, D) becomes, when each sees those before it and itself; the first few are the
    memory, whose tokens see all of it."""
    x, size, heads = torch.stack(visible, 1), WIDTH // 2, 2
    tokens = mechanism.tokens
    for layer in mechanism.layers:
        q, k, v = layer.project(layer.norm_attention(x)).view(len(x), len(visible), 3, heads, size).unbind(2)
        where = torch.tensor([places])
        q, k = (rotary(y.transpose(1, 2), where).transpose(1, 2) for y in (q, k))
        found = []
        for i in range(len(visible)):
            seen = [j for j in range(len(visible)) if j <= i or j < tokens or i >= tokens + mechanism.segment]
            scores = torch.stack([(q[:, i] * k[:, j]).sum(-1) / size**0.5 for j in seen], 1).softmax(1)  # (B, N, H)
            found.append(sum(scores[:, n, :, None] * v[:, j] for n, j in enumerate(seen)))
        x = x + layer.join(torch.stack(found, 1).flatten(2))
        x = x + layer.down(gelu(layer.up(layer.norm_feedforward(x))))
    return mechanism.norm(x)


def naive(mechanism: MemoryTokens, x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs, and the memory after the last complete segment."""
    memory = [vector.expand(len(x), -1) for vector in mechanism.initial_memory]
    outputs, count = [], mechanism.tokens
    for start in range(0, x.shape[1], mechanism.segment):
        segment = list(x[:, start : start + mechanism.segment].unbind(1))
        readable = [vector + mechanism.copy_marks[0] for vector in memory]
        for number in range(len(segment)):
            visible = [*readable, *segment[: number + 1]]
            outputs.append(stack(mechanism, visible, list(range(len(visible))))[:, -1])
        if len(segment) == mechanism.segment:
            sequence = [*readable, *segment, *(vector + mechanism.copy_marks[1] for vector in memory)]
            memory = list(stack(mechanism, sequence, list(range(len(sequence))))[:, -count:].unbind(1))
    return torch.stack(outputs, 1), torch.stack(memory, 1)


@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_outputs_memory_and_gradients_equal_the_naive_reference(cuts: list[int]) -> None:
    mechanism = EXAMPLE.make()
    assert isinstance(mechanism, MemoryTokens)
    x = random_stream(mechanism, 2, sum(cuts))[0].requires_grad_()
    output, state = read(mechanism, (x,), cuts)
    expected, memory = naive(mechanism, x)
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)  # the angles of `rotary` are in float32
    torch.testing.assert_close(state["memory"], memory, rtol=1e-6, atol=1e-6)
    inputs = [x, *mechanism.parameters()]
    same_gradients([output, state["memory"]], [expected, memory], inputs, 1e-5, 1e-6, some_unused=True)


def test_the_memory_is_all_that_passes_from_segment_to_segment() -> None:
    mechanism = EXAMPLE.make()
    (x,) = random_stream(mechanism, 2, 15)
    _, state = mechanism(x[:, :10])
    assert state["open"].shape[1] == 0
    y, _ = mechanism(x[:, 10:], state)
    torch.testing.assert_close(y, mechanism(x)[0][:, 10:])
    swapped = {**state, "memory": state["memory"].flip(0)}
    assert not torch.allclose(mechanism(x[:, 10:], swapped)[0], y)


@pytest.mark.parametrize(
    "wrong", [{"tokens": 0}, {"depth": 0}, {"segment": 0}, {"heads": 3}, {"heads": 8}], ids=lambda wrong: str(wrong)
)
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"must (be|divide)"):
        MemoryTokens(8, **wrong)
