"""The kernels of flash-linear-attention need a GPU; what they are given and what is made of their results does not."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from memspan.mechanisms.layers import fused_delta_rule
from memspan.mechanisms.layers.delta_rule import gated_delta_rule


def inputs(dtype: torch.dtype) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    q, k = (normalize(torch.randn(2, 3, 13, 8), dim=-1) for _ in range(2))
    decay, rate = logsigmoid(torch.randn(2, 3, 13) + 2), 2 * torch.rand(2, 3, 13)
    return q, k, torch.randn(2, 3, 13, 5).to(dtype), decay, rate, torch.randn(2, 3, 8, 5)


def kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The signature, the layout (B, S, H, *) and the conventions of fla's function, one token after the other."""
    assert q.dtype == k.dtype == v.dtype
    assert g.dtype == beta.dtype == torch.float32
    assert all(x.is_contiguous() for x in (q, k, v, g, beta))
    assert initial_state is not None
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    read, memory = [], initial_state
    for t in range(q.shape[1]):
        memory = g[:, t, :, None, None].exp() * memory
        error = v[:, t].float() - torch.einsum("bhk,bhkv->bhv", k[:, t].float(), memory)
        memory = memory + torch.einsum("bh,bhk,bhv->bhkv", beta[:, t], k[:, t].float(), error)
        read.append(torch.einsum("bhk,bhkv->bhv", scale * q[:, t].float(), memory))
    return torch.stack(read, 1).to(v.dtype), memory if output_final_state else None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_delta_rule, "installed_kernel", lambda: kernel)


def on_a_gpu(dtype: torch.dtype = torch.bfloat16, size: int = 64, tokens: int = 4) -> Any:
    return SimpleNamespace(is_cuda=True, dtype=dtype, shape=(1, 2, tokens, size), numel=lambda: 2 * tokens * size)


@pytest.mark.usefixtures("installed")
def test_only_half_precision_on_a_gpu_is_left_to_the_kernels() -> None:
    choose = fused_delta_rule.fused_rule
    assert choose(on_a_gpu(), on_a_gpu()) is not None
    assert (
        choose(on_a_gpu(torch.float32), on_a_gpu(torch.float16)) is not None
    )  # autocast leaves keys of length 1 in single
    assert choose(on_a_gpu(), on_a_gpu(torch.float32)) is None
    assert choose(on_a_gpu(size=512), on_a_gpu()) is None
    assert choose(on_a_gpu(), on_a_gpu(tokens=0)) is None
    half = torch.zeros(1, 2, 4, 8, dtype=torch.bfloat16)
    assert choose(half, half) is None


def test_without_the_package_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_delta_rule, "installed_kernel", lambda: None)
    assert fused_delta_rule.fused_rule(on_a_gpu(), on_a_gpu()) is None


@pytest.mark.parametrize("correct", [True, False])
def test_results_and_gradients_are_those_of_the_chunks(correct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the choice made for the CPU too; what only adds is never left to the kernels."""
    calls = []

    def counted(*arguments: Any, **settings: Any) -> Any:
        calls.append(settings)
        return kernel(*arguments, **settings)

    found = []
    for rule in (None, lambda *given: fused_delta_rule._computed(counted, *given)):
        monkeypatch.setattr("memspan.mechanisms.layers.delta_rule.fused_rule", lambda k, v, rule=rule: rule)
        leaves = [x.requires_grad_() for x in inputs(torch.float32)]
        read, memory = gated_delta_rule(*leaves, 4, correct)
        (read.square().sum() + memory.square().sum()).backward()
        found.append([read, memory, *(x.grad for x in leaves)])
    assert len(calls) == correct
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_memory_and_results_are_in_single_precision() -> None:
    q, k, v, decay, rate, memory = inputs(torch.bfloat16)
    read, after = fused_delta_rule._computed(kernel, q, k, v, decay.bfloat16(), rate.bfloat16(), memory)
    assert read.dtype == after.dtype == torch.float32
    expected = gated_delta_rule(q, k, v, decay.bfloat16(), rate.bfloat16(), memory, 4)
    for ours, theirs in zip(expected, (read, after), strict=True):
        assert (ours - theirs).norm() < 0.02 * ours.norm()
