"""A memory over the segments of a text: a mechanism reads their features in order, and its state is asked for the class.

Letters: N texts, S segments, F numbers of a segment, D width, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from torch.nn.utils.rnn import pad_sequence

from memspan.errors import UsageError
from memspan.mechanisms import build
from memspan.state import nbytes

WIDTH, DROPOUT, FEATURES_DROPPED = 64, 0.3, 0.3
EPOCHS, STEPS = 30, (200, 1000)  # passes over the texts, within these bounds of steps
BATCH, RATE, DECAY = 32, 2e-3, 0.05

Floats = NDArray[np.float32]


class SegmentMemory(nn.Module):
    """`(features, lengths) -> logits`: a mechanism of the registry over the features of segments, then a learned question.

    The question follows the last segment as a step of its own, so all that the answer depends on is in the state.

    Args:
        numbers: F.
        classes: C.
        mechanism: {"name": registered name, **settings}, of a causal mechanism.

    Raises UsageError for a mechanism that does not exist, or sees later segments.
    """

    def __init__(self, numbers: int, classes: int, mechanism: Mapping[str, Any]) -> None:
        super().__init__()
        self.project = nn.Linear(numbers, WIDTH)
        self.question = nn.Parameter(torch.randn(WIDTH))
        self.before, self.after = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.mechanism = build(WIDTH, **mechanism)
        if not self.mechanism.causal:
            raise UsageError(f"A memory over segments must be causal, and '{mechanism['name']}' sees later segments.")
        self.head = nn.Linear(WIDTH, classes)
        self.dropped, self.dropout = nn.Dropout(FEATURES_DROPPED), nn.Dropout(DROPOUT)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features (N, S, F), of which the first `lengths` (N,) are of the text, to logits (N, C)."""
        steps = self.before(self.project(self.dropped(features)))
        steps = torch.cat([steps, steps.new_zeros(len(steps), 1, WIDTH)], 1)
        row = torch.arange(len(steps), device=steps.device)
        asked_at = torch.zeros_like(steps, dtype=torch.bool)
        asked_at[row, lengths] = True
        read, _ = self.mechanism(torch.where(asked_at, self.before(self.question), steps), None)
        logits: Tensor = self.head(self.dropout(self.after(read[row, lengths])))
        return logits

    @torch.inference_mode()
    def state_bytes(self, segments: int) -> int:
        """Bytes of the state after a text of so many segments."""
        _, state = self.eval().mechanism(torch.zeros(1, segments, WIDTH), None)
        return nbytes(state)

    @torch.inference_mode()
    def log_probabilities(self, sequences: Sequence[Floats]) -> Floats:
        """The log-probability of each class for texts, each the features (S, F) of its segments: (N, C)."""
        self.eval()
        logs = []
        for first in range(0, len(sequences), 256):
            logs.append(log_softmax(self(*_padded(sequences[first : first + 256])), 1).numpy())
        found: Floats = np.concatenate(logs)
        return found


def fit_memory(
    sequences: Sequence[Floats], labels: NDArray[Any], classes: int, mechanism: Mapping[str, Any], seed: int = 0
) -> SegmentMemory:
    """A memory trained on texts, each the features (S, F) of its segments, with `labels` (N,) from 0 to below `classes`."""
    steps = int(np.clip(EPOCHS * len(sequences) / BATCH, *STEPS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        memory = SegmentMemory(sequences[0].shape[1], classes, mechanism).train()
        optimizer = torch.optim.AdamW(memory.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        order: list[int] = []
        for _ in range(steps):
            if len(order) < BATCH:
                order += torch.randperm(len(sequences)).tolist()
            rows, order = order[:BATCH], order[BATCH:]
            logits = memory(*_padded([sequences[row] for row in rows]))
            loss = cross_entropy(logits, torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(memory.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return memory.eval()


def _padded(sequences: Sequence[Floats]) -> tuple[Tensor, Tensor]:
    """(N, S, F) with zeros behind the shorter ones, and their lengths (N,)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return pad_sequence([torch.from_numpy(sequence) for sequence in sequences], batch_first=True), lengths
