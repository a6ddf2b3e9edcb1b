"""Learning something new without losing what was learned first: elastic weight consolidation.

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
    weights w*. One anchor only: after a third task, the second is not held.

    Attributes:
        fisher, weights: F and w*, one tensor for each parameter; F of a frozen one is 0.
    """

    def __init__(self, fisher: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        self.fisher, self.weights = list(fisher), list(weights)

    @classmethod
    def estimate(cls, model: nn.Module, task: Task, segments: int, streams: int = STREAMS) -> "EWC":
        """Where `model` stands, by what the first task asks in so many streams of so many segments.

        F is the mean over streams of the squared gradient of the log-likelihood of answers drawn from the model itself,
        which is the Fisher information; with the right answers it would vanish once the model knows them.
        """
        parameters = list(model.parameters())
        fisher = [torch.zeros_like(one) for one in parameters]
        trained = [place for place, one in enumerate(parameters) if one.requires_grad]
        generator = torch.Generator().manual_seed(SEED)
        was_training, device = model.training, parameters[0].device
        model.eval()
        for _ in range(streams):
            batch = task.batch(1, segments, generator)
            logits, _state = model(batch.ids.to(device), None, None)
            asked = (batch.targets != IGNORE_INDEX).flatten().to(device)
            said = logits.flatten(0, 1)[asked].float()
            if not len(said):
                continue
            answers = torch.multinomial(said.detach().cpu().softmax(-1), 1, generator=generator)[:, 0].to(device)
            surprise = cross_entropy(said, answers, reduction="sum")
            gradients = torch.autograd.grad(surprise, [parameters[place] for place in trained], allow_unused=True)
            for place, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    fisher[place] += gradient.detach() ** 2 / streams
        model.train(was_training)
        return cls(fisher, [one.detach().clone() for one in parameters])

    @torch.no_grad()
    def add_gradient(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        """Adds the gradient of the penalty to those of the loss."""
        for one, fisher, first in zip(parameters, self.fisher, self.weights, strict=True):
            if one.requires_grad:
                force = weight * fisher * (one - first)
                one.grad = force if one.grad is None else one.grad + force
