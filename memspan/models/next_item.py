"""Histories as what a recommender is fitted on: what was remembered before each event, and which item the event was.

Letters: H histories, N items, R events with something before them, D decays.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LEAST = 0.02  # weight below which an earlier event is left out of the regression
VALIDATED = 0.2  # share of the events, the newest, that settings are chosen by
QUESTIONS = 10  # of a history, at most, among them
BEFORE = 3  # events of a history before such a question, at least


class Events(NamedTuple):
    """The histories of users.

    Attributes:
        items: the numbers of the items of each history, in the order of time.
        times: when each of these events was.
    """

    items: list[list[int]]
    times: list[list[float]]

    def popularity(self, shares: Sequence[float], items: int) -> Tensor:
        """The logarithm of how many events each item has, for each share s (S, N): an event counts half of one that is
        s of all events later."""
        flat = np.array([item for history in self.items for item in history], np.int64)
        order = np.argsort([time for history in self.times for time in history], kind="stable")
        rank = np.empty(len(flat))
        rank[order] = np.arange(len(flat), 0, -1)
        counts = [np.bincount(flat, 0.5 ** (rank / (share * len(flat))), items) for share in shares]
        return torch.from_numpy(np.log(np.stack(counts) + 0.1)).float()


class Questions(NamedTuple):
    """Histories, and the item that came next after each, (H,) int64."""

    histories: list[list[int]]
    targets: Tensor


def validation(events: Events) -> tuple[Events, Questions]:
    """The events before the newest `VALIDATED` of them, and questions about those."""
    times = sorted(time for history in events.times for time in history)
    date = times[int(len(times) * (1 - VALIDATED))]
    draw, histories, targets = random.Random(0), list[list[int]](), list[int]()
    items, kept_times = list[list[int]](), list[list[float]]()
    for numbers, when in zip(events.items, events.times, strict=True):
        before = sum(time < date for time in when)
        if before:
            items.append(numbers[:before])
            kept_times.append(when[:before])
        possible = range(max(before, BEFORE), len(numbers))
        for index in sorted(draw.sample(possible, min(QUESTIONS, len(possible)))):
            if numbers[index] not in numbers[:index]:
                histories.append(numbers[:index])
                targets.append(numbers[index])
    return Events(items, kept_times), Questions(histories, torch.tensor(targets, dtype=torch.int64))


def memories(histories: Sequence[Sequence[int]], decays: Sequence[float], items: int) -> Tensor:
    """The memory after each history, float32 (H, D, N)."""
    memory = torch.zeros(len(histories), len(decays), items)
    for row, numbers in zip(memory, histories, strict=True):
        ages = torch.arange(len(numbers) - 1, -1, -1)
        for index, decay in enumerate(decays):
            row[index].index_add_(0, torch.tensor(numbers), float(decay) ** ages)
    return memory


def following(events: Events, decay: float, items: int) -> tuple[Tensor, Tensor]:
    """What a regression of the next item on the memory before it needs, both float32 (N, N).

    With M the memories before all R events, each of length one, and Y which item each event was: M'M and M'Y.
    """
    from scipy.sparse import csr_matrix

    flat = np.concatenate([np.array(history, np.int64) for history in events.items])
    index = np.concatenate([np.arange(len(history)) for history in events.items])
    lags = 1 + (0 if decay == 0 else int(math.log(LEAST) / math.log(decay)))
    rows, columns, values = [], [], []
    for lag in range(1, lags + 1):
        present = np.flatnonzero(index >= lag)
        rows.append(present)
        columns.append(flat[present - lag])
        values.append(np.full(len(present), decay ** (lag - 1), np.float32))
    shape = (len(flat), items)
    memory = csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    lengths = np.sqrt(np.asarray(memory.multiply(memory).sum(1)).ravel())
    unit = csr_matrix(memory.multiply(1 / np.maximum(lengths, 1e-9)[:, None]))
    present = np.flatnonzero(index > 0)
    target = csr_matrix((np.ones(len(present), np.float32), (present, flat[present])), shape=shape)
    gram, products = ((unit.T @ other).toarray().astype(np.float32) for other in (unit, target))
    return torch.from_numpy(gram), torch.from_numpy(products)
