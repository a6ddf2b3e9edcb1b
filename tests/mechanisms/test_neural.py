"""Neural against a reference in which autograd takes the inner gradient, row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize, silu

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms.neural import Neural
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, same_gradients

EXAMPLE = Example(bounded=lambda: Neural(WIDTH, segment=4, size=6, inner=10))


def naive(mechanism: Neural, x: Tensor) -> Tensor:
    """One row and segment at a time; the inner gradient is that of the inner loss, itself differentiable."""
    size, rows = mechanism.size, []
    for row in x:
        learned = [torch.zeros_like(weight) for weight in mechanism.initial_weights]
        momentum = [torch.zeros_like(weight) for weight in mechanism.initial_weights]
        outputs = []
        for segment in row.split(mechanism.segment):
            weights = [first + change for first, change in zip(mechanism.initial_weights, learned, strict=True)]
            found = silu(normalize(mechanism.query(segment), dim=-1) @ weights[0]) @ weights[1]
            outputs.append(mechanism.out(mechanism.norm(found) * mechanism.gate(segment).sigmoid()))
            if len(segment) < mechanism.segment:
                break
            projected = mechanism.project(segment)
            k, v = normalize(projected[:, :size], dim=-1), projected[:, size:]
            rate, keep, forget = mechanism.rates(segment).sigmoid().unbind(1)
            loss = 0.5 * (rate[:, None] * (silu(k @ weights[0]) @ weights[1] - v) ** 2).sum()
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            for which, gradient in enumerate(gradients):
                step = mechanism.log_step[which].exp() * gradient / (1 + gradient.square().sum()).sqrt()
                momentum[which] = keep.mean() * momentum[which] - step
                learned[which] = (1 - forget.mean()) * learned[which] + momentum[which]
        rows.append(torch.cat(outputs))
    return torch.stack(rows)


@given(cuts=st.lists(st.integers(1, 11), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_outputs_and_gradients_equal_the_naive_reference(cuts: list[int]) -> None:
    mechanism = EXAMPLE.make()
    assert isinstance(mechanism, Neural)
    x = random_stream(mechanism, 2, sum(cuts))[0].requires_grad_()
    output, _ = read(mechanism, (x,), cuts)
    expected = naive(mechanism, x)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    inputs = [x, *mechanism.parameters()]
    same_gradients([output], [expected], inputs, 1e-7, 1e-7, some_unused=True)


def test_a_new_memory_has_little_momentum_and_forgets_slowly() -> None:
    torch.manual_seed(0)
    rate, momentum, forget = Neural(WIDTH).rates(torch.randn(20, WIDTH)).sigmoid().unbind(1)
    assert 0.3 < rate.min() <= rate.max() < 0.7
    assert momentum.max() < 0.25
    assert forget.max() < 0.02


def test_it_learns_what_it_reads() -> None:
    """After reading the same segment again and again, M(k) is nearer to v than at first."""
    torch.manual_seed(0)
    mechanism = Neural(WIDTH, segment=4)
    x = torch.randn(3, 4, WIDTH)
    code = mechanism.encode(x[:, None])[:, 0]
    k, v = code[..., :WIDTH], code[..., WIDTH : 2 * WIDTH]
    memory, errors = mechanism.initial(x), []
    for _ in range(30):
        first, second = (
            start + change for start, change in zip(mechanism.initial_weights, memory["learned"], strict=True)
        )
        errors.append((silu(k @ first) @ second - v).square().mean((1, 2)))
        memory = mechanism.write(code, memory)
    assert (errors[-1] < 0.2 * errors[0]).all()


def test_nothing_overflows_in_5_000_steps() -> None:
    nothing_overflows(steps=5000)


def nothing_overflows(steps: int) -> None:
    """In float32, with a decay as weak and a momentum as strong as sigmoids allow, however large the input of a row is."""
    torch.manual_seed(0)
    mechanism, sizes = Neural(WIDTH, segment=2), torch.tensor([1.0, 1e3, 1e15])[:, None, None]
    with torch.no_grad():
        mechanism.rates.bias.copy_(torch.tensor([5.0, 5.0, -12.0]))
        state = None
        for _ in range(steps // 100):
            y, state = mechanism(sizes * torch.randn(3, 200, WIDTH), state)
            assert y.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in states.tensors(state))


def test_gradients_through_500_steps_are_finite() -> None:
    torch.manual_seed(0)
    mechanism = Neural(WIDTH, segment=2)
    y, _ = mechanism(10 * torch.randn(2, 1000, WIDTH))
    y[:, -2:].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in mechanism.parameters())


@pytest.mark.parametrize("wrong", [{"segment": 0}, {"size": 0}, {"inner": 0}], ids=str)
def test_settings_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Neural(8, **wrong)
