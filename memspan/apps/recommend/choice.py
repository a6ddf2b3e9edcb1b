"""What is recommended to a user: the best items, not all alike, each with the event that it is recommended for.

Letters: N items of all kinds, H histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memspan.apps.recommend.engine import Engine
from memspan.apps.recommend.steps import Step, merged
from memspan.apps.recommend.texts import genres_of

POOL = 100  # items that diversity, for ten that are recommended, and a text choose among: the best, and the most alike
LOOKED_AT = 100  # newest steps of a user of which each is left out: older ones have no weight left


@dataclass(frozen=True)
class Reason:
    """The event for which an item is recommended: without it the score of the item falls most.

    Attributes:
        rank, rank_without: of the item among those that the user has not had, from 1; with the event, and after the memory was
            made anew without it. A new item is ranked among the new ones, any other among the others.
        fall: of the score, in standard deviations of the scores of all items.
    """

    step: Step
    title: str
    rank: int
    rank_without: int
    fall: float

    def to_dict(self) -> dict[str, Any]:
        event = self.step.event
        return {
            "item": event.item,
            "title": self.title,
            "type": event.type,
            "rating": event.rating,
            "time": event.time,
            "rank": self.rank,
            "rank_without": self.rank_without,
            "fall": self.fall,
        }


@dataclass(frozen=True)
class Recommendation:
    """An item that is recommended.

    Attributes:
        is_new: it is known by its text alone.
        reason: None where no event of the user raises its score.
    """

    item: str
    title: str
    genres: str
    score: float
    is_new: bool
    reason: Reason | None = None

    def to_dict(self) -> dict[str, Any]:
        reason = None if self.reason is None else self.reason.to_dict()
        return {**vars(self), "reason": reason}


@dataclass(frozen=True)
class Wish:
    """What recommendations are wanted.

    Attributes:
        count: how many.
        new: how many of them are new items.
        diversity: from 0, the best items whatever they are, to 1, as little alike as can be.
        query: the vector of a text that items are to be like, (E,); None for none.
        reasons: whether each has its reason.
    """

    count: int = 10
    new: int = 0
    diversity: float = 0.0
    query: Tensor | None = None
    reasons: bool = True


def recommended(
    engine: Engine, memory: Tensor, steps: Sequence[Step], had: Sequence[str], wish: Wish
) -> list[Recommendation]:
    """The recommendations for a user, best first.

    Args:
        memory: of the user, (D, N items of the model).
        steps: the newest steps of the user, see `LOOKED_AT`, for the reasons.
        had: the items that the user has had, which are not recommended.
    """
    scores = engine.scores(memory[None])[0]
    unseen, is_new = unseen_items(engine, had), engine.is_new()
    wanted = scores.masked_fill(~unseen, -torch.inf)
    if wish.query is not None:
        wanted = _like(engine, wanted, wish.query, has_memory=bool(memory.any()))
    chosen = [
        *_diverse(
            engine, wanted.masked_fill(is_new, -torch.inf), wish.count - min(wish.new, wish.count), wish.diversity
        ),
        *_diverse(engine, wanted.masked_fill(~is_new, -torch.inf), min(wish.new, wish.count), wish.diversity),
    ]
    reasons: list[Reason | None] = [None] * len(chosen)
    if wish.reasons and steps:
        reasons = reasons_for(engine, steps, chosen, unseen)
    found = []
    for number, reason in zip(chosen, reasons, strict=True):
        item = engine.items[number]
        found.append(
            Recommendation(item.id, item.title, item.genres, float(wanted[number]), bool(is_new[number]), reason)
        )
    return found


def unseen_items(engine: Engine, had: Sequence[str]) -> Tensor:
    """Which items a user has not had, bool (N,)."""
    unseen = torch.ones(len(engine.items), dtype=torch.bool)
    unseen[[engine.numbers[name] for name in had if name in engine.numbers]] = False
    return unseen


def _like(engine: Engine, scores: Tensor, query: Tensor, has_memory: bool) -> Tensor:
    """Scores (N,) that prefer items like a query: of the `POOL` learned and the `POOL` new items that are most like it, the sum
    of the standard scores, or, without a memory of the user, the likeness alone; -inf for all others."""
    alike = likeness(engine, query).masked_fill(~torch.isfinite(scores), -torch.inf)
    near, is_new = torch.zeros(len(scores), dtype=torch.bool), engine.is_new()
    for kind in (is_new, ~is_new):
        of_kind = alike.masked_fill(~kind, -torch.inf)
        near[of_kind.topk(min(POOL, int(torch.isfinite(of_kind).sum()))).indices] = True
    wanted = _standard(scores) + _standard(alike) if has_memory else alike
    return wanted.masked_fill(~near, -torch.inf)


def likeness(engine: Engine, query: Tensor) -> Tensor:
    """The cosine of a query (E,) with the text of each item, (N,)."""
    return torch.zeros(len(engine.items)) if engine.vectors is None else engine.vectors @ query


# ---- diversity


def _diverse(engine: Engine, scores: Tensor, count: int, diversity: float) -> list[int]:
    """The numbers of so many items, by maximal marginal relevance (Carbonell and Goldstein 1998), best first.

    Each next item is the one with the largest (1 - diversity) * score - diversity * similarity to the most similar of those
    before; scores go from 0 to 1 over the items that it is chosen among.
    """
    possible = int(torch.isfinite(scores).sum())
    if diversity == 0 or count < 2:
        return [int(number) for number in scores.topk(min(count, possible)).indices]
    pool = scores.topk(min(possible, max(POOL, POOL // 10 * count))).indices
    if not len(pool):
        return []
    values = scores[pool]
    relevance = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-9)
    alike = similarities(engine, pool.tolist())
    nearest, chosen = torch.zeros(len(pool)), list[int]()
    free = torch.ones(len(pool), dtype=torch.bool)
    for _ in range(min(count, len(pool))):
        gain = ((1 - diversity) * relevance - diversity * nearest).masked_fill(~free, -torch.inf)
        best = int(gain.argmax())
        chosen.append(int(pool[best]))
        free[best] = False
        nearest = torch.maximum(nearest, alike[best])
    return chosen


def similarities(engine: Engine, numbers: Sequence[int]) -> Tensor:
    """How alike items are, from 0 to 1, float32 (n, n): the mean of the cosine of their texts and of the share of their genres
    that both have; of what there is of the two."""
    count = len(numbers)
    parts = []
    if engine.vectors is not None:
        vectors = engine.vectors[list(numbers)]
        parts.append((vectors @ vectors.T).clamp(0, 1))
    genres = [genres_of(engine.items[number]) for number in numbers]
    if any(genres):
        shared = [[len(a & b) / max(1, len(a | b)) for b in genres] for a in genres]
        parts.append(torch.tensor(shared))
    return torch.stack(parts).mean(0) if parts else torch.zeros(count, count)


# ---- reasons


def reasons_for(engine: Engine, steps: Sequence[Step], numbers: Sequence[int], unseen: Tensor) -> list[Reason | None]:
    """For each item the event without which its score falls most; None where no event raises it.

    Each event is left out in turn, and the memory of the user made anew from the others.
    """
    steps = merged(steps)[-LOOKED_AT:]
    without = [merged([*steps[:index], *steps[index + 1 :]]) for index in range(len(steps))]
    scores = engine.scores(engine.memories([steps, *without]))
    whole, others = scores[0], scores[1:]
    deviation = float(whole[torch.isfinite(whole)].std())
    found, is_new = list[Reason | None](), engine.is_new()
    for number in numbers:
        falls = whole[number] - others[:, number]
        index = int(falls.argmax())
        if not float(falls[index]) > 0:
            found.append(None)
            continue
        step = steps[index]
        title = engine.items[engine.numbers[step.item]].title if step.item in engine.numbers else ""
        among = unseen & (is_new == is_new[number])
        found.append(
            Reason(
                step,
                title or step.item,
                rank(whole, number, among),
                rank(others[index], number, among),
                float(falls[index]) / max(deviation, 1e-9),
            )
        )
    return found


def rank(scores: Tensor, number: int, among: Tensor) -> int:
    """The rank of an item by scores (N,) among the items (N,), from 1."""
    return 1 + int(((scores > scores[number]) & among).sum())


def _standard(scores: Tensor) -> Tensor:
    finite = scores[torch.isfinite(scores)]
    return (scores - finite.mean()) / finite.std().clamp_min(1e-9)
