"""Elastic weight consolidation: training on a new task without losing the first one.

Letters: B batch, T tokens, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memspan.tasks import IGNORE_INDEX, Task

STREAMS = 256  # that the importance of weights is estimated from
SEED = 2**30  # of these streams, and of what is drawn for them


class EWC:
    """Holds each weight that is trained near its value after the first task, the more so the more that task depends on it.

    Elastic weight consolidation (Kirkpatrick et al. 2017, equation 3): the loss of the new task, plus
    weight / 2 sum_i F_i (w_i - w*_i)^2, where F is the diagonal of the Fisher information of the first task at its
    weights w*. One estimate only: after a third task, the second is not held.

    Attributes:
        fisher, weights: F and w*, one tensor for each parameter; F of a frozen one is 0.
    """

    def __init__(self, fisher: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        self.fisher, self.weights = list(fisher), list(weights)

    @classmethod
    def estimate(cls, model: nn.Module, task: Task, segments: int, streams: int = STREAMS) -> "EWC":
        """F and w* of `model` from `streams` streams of the first task, each of `segments` segments.

        F is the mean over streams of the squared gradient of the log-likelihood of tokens drawn from the model itself,
        which is the Fisher information; with the correct tokens it would vanish once the model knows them.
        """
        parameters = list(model.parameters())
        fisher = [torch.zeros_like(parameter) for parameter in parameters]
        trained = [index for index, parameter in enumerate(parameters) if parameter.requires_grad]
        generator = torch.Generator().manual_seed(SEED)
        was_training, device = model.training, parameters[0].device
        model.eval()
        for _ in range(streams):
            batch = task.batch(1, segments, generator)
            logits, _state = model(batch.ids.to(device), None, None)
            has_target = (batch.targets != IGNORE_INDEX).flatten().to(device)
            scores = logits.flatten(0, 1)[has_target].float()
            if not len(scores):
                continue
            drawn = torch.multinomial(scores.detach().cpu().softmax(-1), 1, generator=generator)[:, 0].to(device)
            loss = cross_entropy(scores, drawn, reduction="sum")
            gradients = torch.autograd.grad(loss, [parameters[index] for index in trained], allow_unused=True)
            for index, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    fisher[index] += gradient.detach() ** 2 / streams
        model.train(was_training)
        return cls(fisher, [parameter.detach().clone() for parameter in parameters])

    @torch.no_grad()
    def add_gradient(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Adds the gradient of the penalty to those of the loss."""
        for parameter, fisher, first in zip(parameters, self.fisher, self.weights, strict=True):
            if parameter.requires_grad:
                gradient = weight * fisher * (parameter - first)
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
