"""Regularisation of small models: adversarial training, R-Drop, and averaged weights.

Letters: B batch, T tokens, D width, V vocabulary, N target tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from memspan.errors import UsageError
from memspan.tasks import IGNORE_INDEX


class Attack:
    """A small change of the embedded tokens that raises the loss; the model learns to withstand it.

    With one step this is the fast gradient method (Miyato et al. 2017, equation 4): r = epsilon g / |g|, where g is the
    gradient of the loss by the embedded tokens of a whole row, (T, D). With more it is projected gradient descent
    (Madry et al. 2018) in the same norm: steps of 2.5 epsilon / steps, each followed by a return into the ball. What is
    changed is what the embedding puts out, not its weights, which may be those of the head as well.

    Args:
        model: its first `nn.Embedding` is the one of the tokens.
        epsilon: the norm of the change of a row. Rows of scratch models have norms of about sqrt(T).
        steps: of the search for the change.

    Raises UsageError for a model without an embedding.
    """

    def __init__(self, model: nn.Module, epsilon: float, steps: int = 1) -> None:
        embedding = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
        if embedding is None:
            raise UsageError("This model has no embedding that could be perturbed: leave out `adversarial`.")
        self.embedding, self.epsilon, self.steps = embedding, epsilon, steps
        self.change: Tensor | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Runs a pass as it is; after its backward pass, `perturbed_loss` knows the gradient by the embedded tokens."""

        def hook(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
            self.change = torch.zeros_like(embedded, requires_grad=True)
            return embedded + self.change

        with _hooked(self.embedding, hook):
            yield

    def perturbed_loss(self, read: Callable[[], tuple[Tensor, ...]]) -> Tensor:
        """The loss under the change, for the weights to learn from; `read` repeats the watched pass, its loss first."""
        assert self.change is not None
        gradient, change = self.change.grad, torch.zeros_like(self.change)
        length = self.epsilon if self.steps == 1 else 2.5 * self.epsilon / self.steps
        for step in range(self.steps):
            if step:
                with self._with(change.requires_grad_()):
                    (gradient,) = torch.autograd.grad(read()[0], change)
            if gradient is not None:
                change = self._inside(change.detach() + length * gradient / _norms(gradient))
        with self._with(change.detach()):
            return read()[0]

    def _inside(self, change: Tensor) -> Tensor:
        return change * (self.epsilon / _norms(change)).clamp_max(1.0)

    def _with(self, change: Tensor) -> AbstractContextManager[None]:
        return _hooked(self.embedding, lambda _, __, embedded: embedded + change)


def _norms(tensor: Tensor) -> Tensor:
    """Of each row of (B, T, D): (B, 1, 1), never 0."""
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
    return norms.clamp_min(torch.finfo(tensor.dtype).tiny)


def symmetric_kl(logits: Tensor, other: Tensor, targets: Tensor) -> Tensor:
    """Half the symmetric Kullback-Leibler divergence of two passes' predictions, summed over the target tokens: ().

    R-Drop (Liang et al. 2021, equation 2): dropout makes the passes differ, and they should say the same.
    Logits (B, T, V); targets (B, T) int64 on the CPU.
    """
    indices = (targets.flatten() != IGNORE_INDEX).nonzero().flatten().to(logits.device)
    first, second = (log_softmax(scores.flatten(0, 1)[indices].float(), -1) for scores in (logits, other))
    there, back = (kl_div(a, b, reduction="sum", log_target=True) for a, b in ((first, second), (second, first)))
    return (there + back) / 2


class Average:
    """Weights averaged over the steps: average <- d average + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t)).

    The smaller d of the first steps t forgets the random beginning (as TensorFlow's ExponentialMovingAverage does).

    Attributes:
        weights: the average, one tensor for each parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.weights = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the change of the weights number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, parameter in zip(self.weights, self.parameters, strict=True):
            average.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def swap_weights(self) -> None:
        """The model gets the average, and the weights are kept here; once more, and all is as it was."""
        for index, parameter in enumerate(self.parameters):
            current = parameter.detach().clone()
            parameter.copy_(self.weights[index])
            self.weights[index] = current


@contextmanager
def _hooked(module: nn.Module, hook: Callable[[nn.Module, Any, Tensor], Tensor]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
