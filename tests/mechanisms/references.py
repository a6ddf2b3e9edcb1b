"""A mechanism over hidden states against its naive reference: outputs and gradients."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memspan.mechanisms import KVMechanism, Mechanism
from memspan.testing import Example, random_stream, read

WIDTH = Example.width


class RandomWeights(KVMechanism):
    """A mechanism over keys and values with weights as training might leave them, rather than those it begins with."""

    def make_weights(self, heads: int, size: int) -> None:
        super().make_weights(heads, size)
        generator = torch.Generator().manual_seed(1)
        for weight in self.parameters():
            with torch.no_grad():
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


def equals_reference(mechanism: Mechanism, reference: Callable[[Tensor], Tensor], cuts: Sequence[int]) -> None:
    """Over hidden states: outputs, and the gradients of the input and of every parameter, whatever the cuts."""
    (x,) = (tensor.requires_grad_() for tensor in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, (x,), cuts)
    expected = reference(x)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    same_gradients([output], [expected], [x, *mechanism.parameters()])


def same_gradients(
    outputs: Sequence[Tensor],
    expected: Sequence[Tensor],
    sources: Sequence[Tensor],
    rtol: float = 1e-8,
    atol: float = 1e-8,
    some_unused: bool = False,
) -> None:
    """By each of the sources, along one random direction; every source must matter, unless `some_unused`."""
    directions = [torch.randn_like(tensor) for tensor in expected]

    def gradients(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        total = torch.stack([(value * along).sum() for value, along in zip(values, directions, strict=True)]).sum()
        return torch.autograd.grad(total, sources, materialize_grads=some_unused)

    for actual, other in zip(gradients(outputs), gradients(expected), strict=True):
        torch.testing.assert_close(actual, other, rtol=rtol, atol=atol)
