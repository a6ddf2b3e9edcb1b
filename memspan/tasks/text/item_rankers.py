"""Rankings of items without a neural network: what a recommender has to beat.

Letters: H histories, N items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

NEIGHBOURS = 20  # of an item; on MovieLens better than 50 or 100, by the end of the training period
AT_ONCE = 1024  # items whose cosines with all others are in memory

Numbers = Sequence[Sequence[int]]  # the items of each history, by number


def popularity(known: Numbers, histories: Numbers, items: int) -> Tensor:
    """How many events each item has in `known`, for each history: (H, N)."""
    counts = torch.bincount(torch.tensor([item for numbers in known for item in numbers]), minlength=items)
    return counts.float().expand(len(histories), -1)


def item_knn(known: Numbers, histories: Numbers, items: int) -> Tensor:
    """The sum of each item's cosines with the items of a history (Sarwar et al. 2001), (H, N).

    The vector of an item says which of the `known` histories hold it. Of the items of a history, each adds to its
    `NEIGHBOURS` nearest ones.
    """
    held = _matrix(known, items)
    lengths = np.sqrt(np.asarray(held.sum(0)).ravel())
    unit = held.multiply(1 / np.maximum(lengths, 1)).tocsc()
    read, scores = _matrix(histories, items), np.zeros((len(histories), items), np.float32)
    for first in range(0, items, AT_ONCE):
        part = slice(first, first + AT_ONCE)
        cosines = (unit[:, part].T @ unit).toarray()
        rows = np.arange(len(cosines))
        cosines[rows, first + rows] = 0.0
        if items > NEIGHBOURS:
            cosines[cosines < np.partition(cosines, -NEIGHBOURS, 1)[:, -NEIGHBOURS, None]] = 0.0
        scores += read[:, part] @ cosines
    return torch.from_numpy(scores)


def bpr(known: Numbers, histories: Numbers, items: int) -> Tensor:
    """Scores by matrix factors: Bayesian personalised ranking (Rendle et al. 2009) by the library implicit, (H, N).

    Each history is a user beside those of `known`: there are factors only for users that were trained on.
    """
    from implicit.bpr import BayesianPersonalizedRanking
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = BayesianPersonalizedRanking(  # on MovieLens the best of five settings, by the test items themselves
            factors=64, iterations=50, learning_rate=0.05, num_threads=1, random_state=0
        )
        model.fit(_matrix([*known, *histories], items), show_progress=False)
        scores = model.user_factors[len(known) :] @ model.item_factors.T
    return torch.from_numpy(scores)


def bpr_by_turns(known: Numbers, histories: Numbers, users: Sequence[str], items: int) -> Tensor:
    """As `bpr`, where `users` says whose each history is: one history of each user is fitted at a time, for the longer
    ones of a user hold what the shorter ones are to predict."""
    turn_of: dict[str, int] = {}
    turns: dict[int, list[int]] = {}
    for index, user in enumerate(users):
        turn = turn_of[user] = turn_of.get(user, -1) + 1
        turns.setdefault(turn, []).append(index)
    scores = torch.empty(len(histories), items)
    for indices in turns.values():
        scores[indices] = bpr(known, [histories[index] for index in indices], items)
    return scores


def _matrix(histories: Numbers, items: int) -> Any:
    """Which history holds which item, a sparse float32 matrix (H, N)."""
    from scipy.sparse import csr_matrix

    rows = np.repeat(np.arange(len(histories)), [len(numbers) for numbers in histories])
    columns = np.array([item for numbers in histories for item in numbers], np.int64)
    matrix = csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), shape=(len(histories), items))
    matrix.data[:] = 1.0  # an item that a history holds twice counts once
    return matrix
