"""A model of events: which items it is fitted on, and the memory of each user."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from memspan.apps.recommend.engine import Engine, borrowed
from memspan.apps.recommend.steps import Step, UserState, steps_of
from memspan.apps.recommend.tables import EventRow, ItemRow
from memspan.apps.recommend.weights import Weights
from memspan.errors import UsageError
from memspan.models.next_item import Events
from memspan.models.recommender import MOST_ITEMS, Recommender, RecommenderConfig

Report = Callable[[str, int, int], None]  # what is computed, how much of it is done, and all of it


def by_user(events: Sequence[EventRow], weights: Weights) -> dict[str, list[Step]]:
    """The steps of each user; events are in the order of time."""
    ordered = sorted(events, key=lambda event: event.user)  # stable: the order of time stays
    return {user: steps_of(list(found), weights) for user, found in groupby(ordered, key=lambda event: event.user)}


def fitted_items(events: Sequence[EventRow], min_events: int) -> list[str]:
    """The ids of the items that a model is fitted on, sorted: those with so many events, at most the `MOST_ITEMS` most frequent.

    Raises UsageError where there are none.
    """
    counts = Counter(event.item for event in events)
    frequent = [name for name, count in counts.most_common(MOST_ITEMS) if count >= min_events]
    if len(frequent) < 2:
        raise UsageError(
            f"Of {len(counts):,} items {len(frequent)} have {min_events} events or more, which must be 2 at least: take more "
            "events, or a smaller --min-events."
        )
    return sorted(frequent)


def fit(
    histories: Mapping[str, Sequence[Step]],
    items: Sequence[ItemRow],
    vectors: Tensor | None,
    report: Report | None = None,
) -> tuple[Recommender, dict[str, float]]:
    """A recommender of these items, fitted on the steps of all users; and the settings that were chosen.

    Args:
        vectors: of the texts of the items, float32 (N, E); None where there are no texts.
    """
    numbers = {item.id: number for number, item in enumerate(items)}
    kept = [[step for step in steps if step.item in numbers] for steps in histories.values()]
    kept = [steps for steps in kept if steps]
    model = Recommender(RecommenderConfig(0, len(items), 0 if vectors is None else vectors.shape[1]))
    settings = model.fit(
        Events(
            [[numbers[step.item] for step in steps] for steps in kept],
            [[step.event.time for step in steps] for steps in kept],
            [[step.weight for step in steps] for steps in kept],
        ),
        vectors,
        report,
    )
    return model.eval(), settings


def engine_of(model: Recommender, items: Sequence[ItemRow], vectors: Tensor | None) -> Engine:
    """The engine of a model whose items are the first of `items`; `vectors` are of the texts of all, see `Engine`."""
    count = model.config.items
    if vectors is None:
        return Engine(model, list(items), None, torch.zeros(len(items) - count, count))
    return Engine(model, list(items), vectors, borrowed(vectors[count:], vectors[:count]))


def states_of(engine: Engine, histories: Mapping[str, Sequence[Step]]) -> dict[str, UserState]:
    """The state of each user after their steps."""
    return {
        user: UserState().after(steps, engine.shares, engine.decays, engine.fitted) for user, steps in histories.items()
    }
