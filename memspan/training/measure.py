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
    """The results of a model on held-out streams of one length.

    Attributes:
        segments: number of segments per stream.
        distance: number of tokens per stream, the farthest that a target may lie behind what it depends on.
        accuracy: share of the target tokens that are the model's likeliest ones.
        loss: mean cross-entropy of the target tokens, in nats.
        bits: the same in bits; per byte, where the task knows how many bytes a token has.
        targets: how many target tokens there were.
        state_bytes: bytes of one stream's state at its end.
        tokens_per_second: tokens read per second, over all rows.
        metrics: the task's own metrics on held-out records.
    """

    segments: int
    distance: int
    accuracy: float
    loss: float
    bits: float
    targets: int
    state_bytes: int
    tokens_per_second: float
    metrics: dict[str, float] = field(default_factory=dict)


def count_logits_to_keep(targets: Tensor) -> int:
    """How many of the last tokens hold all the targets, which are (B, T) int64."""
    columns = (targets != IGNORE_INDEX).any(0).nonzero()
    return targets.shape[1] - int(columns[0]) if len(columns) else 0


def loss_and_correct(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor] | None:
    """The summed loss and the number of correct tokens, both (), over the targets; None where there are none.

    Args:
        logits: (B, T, V) on any device.
        targets: (B, T) int64 on the CPU, so that finding the targets waits for no device.
        smoothing: cross_entropy's `label_smoothing`.
    """
    indices = (targets.flatten() != IGNORE_INDEX).nonzero().flatten()
    if not len(indices):
        return None
    labels = targets.flatten()[indices].to(logits.device, non_blocking=True)
    scores = logits.flatten(0, 1)
    if len(indices) < len(scores):
        scores = scores[indices.to(logits.device, non_blocking=True)]
    scores = scores.float()
    loss = cross_entropy(scores, labels, reduction="sum", label_smoothing=smoothing)
    return loss, (scores.detach().argmax(1) == labels).sum()


@torch.no_grad()
def measure(
    model: nn.Module, task: Task, segments: int, batch_size: int = 64, batches: int = 1, seed: int = SEED
) -> Score:
    """The score of a model on held-out streams, read segment by segment, so that memory does not grow with their length.

    Args:
        model: `(ids, state, logits_to_keep) -> (logits, state)`.
        segments: number of segments per stream.
        batches: number of batches, each of `batch_size` streams.

    Raises UsageError for streams without a target.
    """
    generator, task = torch.Generator().manual_seed(seed), task.held_out()
    device = next(model.parameters()).device
    cut = math.lcm(task.segment, grid(model))
    was_training, position, state = model.training, 0, None
    loss, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    target_count = token_count = 0
    started = time.perf_counter()
    model.eval()
    try:
        for _ in range(batches):
            batch, position = task.next_batch(position, batch_size, segments, generator)
            state = None if batch.fresh else state
            for ids, targets in zip(torch.split(batch.ids, cut, 1), torch.split(batch.targets, cut, 1), strict=True):
                logits_to_keep = count_logits_to_keep(targets)
                logits, state = model(ids.to(device), state, logits_to_keep)
                state = detach(state)
                counts = loss_and_correct(logits, targets[:, targets.shape[1] - logits_to_keep :])
                if counts is not None:
                    loss, correct = loss + counts[0], correct + counts[1]
            target_count += int((batch.targets != IGNORE_INDEX).sum())
            token_count += batch.ids.numel()
    finally:
        model.train(was_training)
    if not target_count:
        raise UsageError(f"Streams of {segments} segments must have a target in this task; use more segments.")
    mean, seconds = loss.item() / target_count, time.perf_counter() - started
    return Score(
        segments=segments,
        distance=segments * task.segment,
        accuracy=correct.item() / target_count,
        loss=mean,
        bits=mean / math.log(2) / task.bytes_per_token,
        targets=target_count,
        state_bytes=nbytes(state) // batch_size,
        tokens_per_second=token_count / seconds,
    )
