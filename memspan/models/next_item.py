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
        weights: how much each of these events counts, from 0; None where all count 1.
    """

    items: list[list[int]]
    times: list[list[float]]
    weights: list[list[float]] | None = None

    def flat_weights(self) -> np.ndarray:
        """The weight of each event, history after history, float64 (R,)."""
        if self.weights is None:
            return np.ones(sum(map(len, self.items)))
        return np.array([weight for history in self.weights for weight in history], np.float64)

    def popularity(self, shares: Sequence[float], items: int) -> Tensor:
        """The logarithm of how many events each item has, for each share s (S, N): an event counts half of one that is
        s of all events later."""
        flat = np.array([item for history in self.items for item in history], np.int64)
        order = np.argsort([time for history in self.times for time in history], kind="stable")
        rank = np.empty(len(flat))
        rank[order] = np.arange(len(flat), 0, -1)
        weights = self.flat_weights()
        counts = [np.bincount(flat, weights * 0.5 ** (rank / (share * len(flat))), items) for share in shares]
        return torch.from_numpy(np.log(np.stack(counts) + 0.1)).float()


class Questions(NamedTuple):
    """Histories, the item that came next after each, (H,) int64, and the weights of their events; None where all count 1."""

    histories: list[list[int]]
    targets: Tensor
    weights: list[list[float]] | None = None


def validation(events: Events) -> tuple[Events, Questions]:
    """The events before the newest `VALIDATED` of them, and questions about those."""
    times = sorted(time for history in events.times for time in history)
    date = times[int(len(times) * (1 - VALIDATED))]
    draw, histories, targets = random.Random(0), list[list[int]](), list[int]()
    items, kept_times = list[list[int]](), list[list[float]]()
    kept_weights, question_weights = list[list[float]](), list[list[float]]()
    weights = events.weights if events.weights is not None else [[1.0] * len(numbers) for numbers in events.items]
    for numbers, when, counted in zip(events.items, events.times, weights, strict=True):
        before = sum(time < date for time in when)
        if before:
            items.append(numbers[:before])
            kept_times.append(when[:before])
            kept_weights.append(counted[:before])
        possible = range(max(before, BEFORE), len(numbers))
        for index in sorted(draw.sample(possible, min(QUESTIONS, len(possible)))):
            if numbers[index] not in numbers[:index]:
                histories.append(numbers[:index])
                targets.append(numbers[index])
                question_weights.append(counted[:index])
    return Events(items, kept_times, kept_weights), Questions(
        histories, torch.tensor(targets, dtype=torch.int64), question_weights
    )


def memories(
    histories: Sequence[Sequence[int]],
    decays: Sequence[float],
    items: int,
    weights: Sequence[Sequence[float]] | None = None,
) -> Tensor:
    """The memory after each history, float32 (H, D, N); with the `weights` of the events, 1 by default."""
    memory = torch.zeros(len(histories), len(decays), items)
    for number, (row, numbers) in enumerate(zip(memory, histories, strict=True)):
        ages = torch.arange(len(numbers) - 1, -1, -1)
        counted = torch.ones(len(numbers)) if weights is None else torch.tensor(weights[number], dtype=torch.float32)
        for index, decay in enumerate(decays):
            row[index].index_add_(0, torch.tensor(numbers, dtype=torch.int64), counted * float(decay) ** ages)
    return memory


def following(events: Events, decay: float, items: int) -> tuple[Tensor, Tensor]:
    """What a regression of the next item on the memory before it needs, both float32 (N, N).

    With M the memories before all R events, each of length one, and Y which item each event was: M'M and M'Y. An event
    that counts nothing is none that is to be predicted.
    """
    from scipy.sparse import csr_matrix

    flat = np.concatenate([np.array(history, np.int64) for history in events.items])
    index = np.concatenate([np.arange(len(history)) for history in events.items])
    lags = 1 + (0 if decay == 0 else int(math.log(LEAST) / math.log(decay)))
    weights = events.flat_weights()
    rows, columns, values = [], [], []
    for lag in range(1, lags + 1):
        present = np.flatnonzero(index >= lag)
        rows.append(present)
        columns.append(flat[present - lag])
        values.append((decay ** (lag - 1) * weights[present - lag]).astype(np.float32))
    shape = (len(flat), items)
    memory = csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    lengths = np.sqrt(np.asarray(memory.multiply(memory).sum(1)).ravel())
    unit = csr_matrix(memory.multiply(1 / np.maximum(lengths, 1e-9)[:, None]))
    present = np.flatnonzero((index > 0) & (weights > 0))
    target = csr_matrix((np.ones(len(present), np.float32), (present, flat[present])), shape=shape)
    gram, products = ((unit.T @ other).toarray().astype(np.float32) for other in (unit, target))
    return torch.from_numpy(gram), torch.from_numpy(products)
