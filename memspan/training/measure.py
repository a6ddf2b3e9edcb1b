"""Loss and accuracy of a model on held-out streams, and the bytes of its state.

Letters: B batch, T tokens.
"""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memspan.errors import UsageError
from memspan.models.scratch import grid
from memspan.state import detach, nbytes
from memspan.tasks import IGNORE_INDEX, Task

SEED = 2**31  # streams to measure on begin far from those to train on


@dataclass(frozen=True)
class Score:
    """What a model made of streams of one length.

    Attributes:
        segments: of a stream.
        distance: tokens of a stream, which is how far back what is asked for may lie.
        accuracy: the part of what was asked that the likeliest token answers rightly.
        loss: mean cross-entropy of what was asked, in nats.
        bits: the same in bits; per byte, where the task knows how many bytes a token has.
        asked: how many tokens that is the mean of.
        state_bytes: of the state of one stream after its end.
        tokens_per_second: read, all rows together.
        metrics: of the task's own, on records held out.
    """

    segments: int
    distance: int
    accuracy: float
    loss: float
    bits: float
    asked: int
    state_bytes: int
    tokens_per_second: float
    metrics: dict[str, float] = field(default_factory=dict)


def count_logits_to_keep(targets: Tensor) -> int:
    """How many of the last tokens are needed, so that all that is asked is among them. targets (B, T) int64."""
    columns = (targets != IGNORE_INDEX).any(0).nonzero()
    return targets.shape[1] - int(columns[0]) if len(columns) else 0


def loss_and_correct(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor] | None:
    """Summed loss and number of right answers, both (), over the tokens asked; None where nothing is asked.

    logits (B, T, V) on any device; targets (B, T) int64 on the CPU, so that finding what is asked waits for no device.
    `smoothing` is cross_entropy's `label_smoothing`.
    """
    places = (targets.flatten() != IGNORE_INDEX).nonzero().flatten()
    if not len(places):
        return None
    wanted = targets.flatten()[places].to(logits.device, non_blocking=True)
    said = logits.flatten(0, 1)
    if len(places) < len(said):
        said = said[places.to(logits.device, non_blocking=True)]
    said = said.float()
    return cross_entropy(said, wanted, reduction="sum", label_smoothing=smoothing), (
        said.detach().argmax(1) == wanted
    ).sum()


@torch.no_grad()
def measure(model: nn.Module, task: Task, segments: int, rows: int = 64, batches: int = 1, seed: int = SEED) -> Score:
    """Reads `batches` batches of `rows` streams segment by segment, so that memory does not grow with their length.

    `model` is `(ids, state, logits_to_keep) -> (logits of the last logits_to_keep tokens, state)`. Raises UsageError for a task with more tokens than the model knows.
    """
    generator, task = torch.Generator().manual_seed(seed), task.held_out()
    device = next(model.parameters()).device
    length = math.lcm(task.segment, grid(model))
    was_training, place, state = model.training, 0, None
    loss, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    asked = read = 0
    begun = time.perf_counter()
    model.eval()
    try:
        for _ in range(batches):
            batch, place = task.next_batch(place, rows, segments, generator)
            state = None if batch.fresh else state
            for ids, targets in zip(*(torch.split(one, length, 1) for one in (batch.ids, batch.targets)), strict=True):
                logits_to_keep = count_logits_to_keep(targets)
                logits, state = model(ids.to(device), state, logits_to_keep)
                state = detach(state)
                counts = loss_and_correct(logits, targets[:, targets.shape[1] - logits_to_keep :])
                if counts is not None:
                    loss, right = loss + counts[0], right + counts[1]
            asked += int((batch.targets != IGNORE_INDEX).sum())
            read += batch.ids.numel()
    finally:
        model.train(was_training)
    if not asked:
        raise UsageError(f"In streams of {segments} segments this task asks nothing.")
    mean, seconds = loss.item() / asked, time.perf_counter() - begun
    return Score(
        segments=segments,
        distance=segments * task.segment,
        accuracy=right.item() / asked,
        loss=mean,
        bits=mean / math.log(2) / task.bytes_per_token,
        asked=asked,
        state_bytes=nbytes(state) // rows,
        tokens_per_second=read / seconds,
    )
