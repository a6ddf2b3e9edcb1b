"""What recommendations are worth: on the events after a date, beside other methods, all learned from those before it.

Letters: Q questions, N items.
"""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memspan.apps.recommend.choice import Wish, rank, reasons_for, recommended, similarities, unseen_items
from memspan.apps.recommend.engine import Engine, text_matrix
from memspan.apps.recommend.fitting import by_user, engine_of, fit
from memspan.apps.recommend.network import network_predictions
from memspan.apps.recommend.steps import Step
from memspan.apps.recommend.store import Store, StoredItem
from memspan.apps.recommend.tables import EventRow
from memspan.apps.recommend.weights import Weights
from memspan.data.corpora import Record
from memspan.errors import UsageError
from memspan.plugins import require_installed
from memspan.tasks import build as build_task
from memspan.tasks.text.histories import histories_by_date
from memspan.tasks.text.recommendation import RECOMMENDED, Recommendation
from memspan.training.recommending import interval

OWN = "memspan"
HIDDEN = 10  # of so many items one is hidden from the model
ALL = 10**9
REASONED = 100  # questions whose recommended items are given reasons
DIVERSIFIED = 300  # questions whose recommendations are diversified
DIVERSITIES = (0.0, 0.3, 0.6)
AT_ONCE = 128  # questions that are scored together

Report = Callable[[str, int, int], None]
Lists = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Question:
    """What a user did up to an event, and the item of that event."""

    user: str
    steps: list[Step]
    target: str


@dataclass(frozen=True)
class Method:
    """What a way to recommend is worth.

    Attributes:
        interval: of the NDCG@10, 95 %, by a bootstrap that draws whole users.
        coverage: share of the items that are recommended to anybody.
        novelty: the mean of -log2 of the share of users that had a recommended item.
        behind: how far its NDCG@10 is behind `OWN`, 95 %; None for that itself.
    """

    ndcg: float
    interval: list[float]
    recall: float
    coverage: float
    novelty: float
    behind: list[float] | None = None


@dataclass(frozen=True)
class Measured:
    """What a folder is worth.

    Attributes:
        methods: by name, `OWN` first.
        new_items: of items that were hidden from the model, how often the right one is among ten of them, by method.
        reasons: of recommended items, how often their rank changes without the event that is named, and without any other.
        diversity: by the setting, the NDCG@10 and the mean similarity of two items of a list.
    """

    events: dict[str, int]
    methods: dict[str, Method]
    new_items: dict[str, float]
    reasons: dict[str, float]
    diversity: dict[str, dict[str, float]]


def evaluate(store: Store, held_out: float, network: float, report: Report | None = None, seed: int = 0) -> Measured:
    """Measure on the newest share `held_out` of the events.

    Args:
        network: CPU seconds for which the network is trained; 0 for none.
        report: called with what is computed, how much of it is done, and all of it.
        seed: of the items that are hidden and of the network.

    Raises UsageError for a folder that was not built, or with too few events.
    """
    require_installed("The comparison needs", *Recommendation.packages, *Recommendation.baseline_packages)
    settings = store.settings()
    if "model" not in settings:
        raise UsageError(f"{store.path.parent} was not built to its end: the same `memspan recommend build` builds it.")
    weights = Weights(settings["weights"], settings["highest_rating"])
    histories = by_user(store.events(), weights)
    records = [
        {"user": user, "item": step.item, "time": step.event.time, "weight": step.weight}
        for user, steps in histories.items()
        for step in steps
    ]
    items = store.items()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.jsonl")
        path.write_text("\n".join(json.dumps(record) for record in records), "utf-8")
        options = {"split": "time", "held_out": held_out, "min_item_events": settings["min_events"], "vocabulary": 300}
        task = build_task("recommendation", data=[str(path)], **options)
        assert isinstance(task, Recommendation)
        lists = task.baseline_predictions(task.held_out_records)
        others = {name: [text.split("\n") for text in texts] for name, texts in lists.items()}
        if network:
            options |= {"segment": 50}
            others["attention network"] = network_predictions(path, options, network, seed, report)
    engine = _engine(task.records, items, set(task.catalogue.numbers), report)
    questions = [question_of(record) for record in task.held_out_records]
    own = [_ids(engine, row) for row in _rows(engine, questions)]
    later = histories_by_date(records, held_out, ALL, settings["min_events"])
    return Measured(
        {
            "learned": sum(len(record["events"]) for record in task.records),
            "predicted": len(questions),
            "users": len({question.user for question in questions}),
            "items": engine.fitted,
        },
        methods({OWN: own, **others}, questions, task.records, engine.fitted),
        new_items(later.known, later.held_out, items, engine, seed, report),
        reasons(engine, questions, seed),
        diversity(engine, questions),
    )


def question_of(record: Record) -> Question:
    """The question of a history that ends with a held-out event."""
    *events, last = record["events"]
    return Question(record["user"], _steps(record["user"], events), last.item.id)


def _steps(user: str, events: Sequence[Any]) -> list[Step]:
    return [Step(EventRow(user, event.item.id, event.time), event.weight) for event in events]


def _engine(known: Sequence[Record], stored: Sequence[StoredItem], fitted: set[str], report: Report | None) -> Engine:
    """An engine fitted on these histories; the items not in `fitted` are left out."""
    inside = sorted((item for item in stored if item.row.id in fitted), key=lambda item: item.row.id)
    return _engine_of_items(known, inside, [], report)


def _engine_of_items(
    known: Sequence[Record], inside: Sequence[StoredItem], outside: Sequence[StoredItem], report: Report | None
) -> Engine:
    rows = [item.row for item in (*inside, *outside)]
    size = next((len(item.vector) for item in (*inside, *outside) if item.vector is not None), 0)
    vectors = text_matrix([item.vector for item in (*inside, *outside)], size) if size else None
    histories = {record["user"]: _steps(record["user"], record["events"]) for record in known}
    model, _ = fit(histories, rows[: len(inside)], None if vectors is None else vectors[: len(inside)], report)
    return engine_of(model, rows, vectors)


def _rows(engine: Engine, questions: Sequence[Question]) -> list[Tensor]:
    """The scores of all items for each question, -inf for those that the user had."""
    rows = []
    for first in range(0, len(questions), AT_ONCE):
        part = questions[first : first + AT_ONCE]
        scores = engine.scores(engine.memories([question.steps for question in part]))
        for row, question in zip(scores, part, strict=True):
            had = unseen_items(engine, [step.item for step in question.steps])
            rows.append(row.masked_fill(~had, -torch.inf))
    return rows


def _ids(engine: Engine, row: Tensor) -> list[str]:
    return [engine.items[number].id for number in row.topk(RECOMMENDED).indices.tolist()]


# ---- the next item


def gains(lists: Lists, questions: Sequence[Question]) -> np.ndarray:
    """The NDCG@10 of each list of ids, float64 (Q,)."""
    ranks = [
        names.index(question.target) if question.target in names else math.inf
        for names, question in zip(lists, questions, strict=True)
    ]
    return np.array([1 / math.log2(position + 2) if position < RECOMMENDED else 0.0 for position in ranks])


def methods(
    lists_of: Mapping[str, Lists], questions: Sequence[Question], known: Sequence[Record], items: int
) -> dict[str, Method]:
    """What each method is worth, by name, from its ten ids for each question; the first is the one that others are behind."""
    had = Counter(name for record in known for name in {event.item.id for event in record["events"]})
    users = [question.user for question in questions]
    first = gains(next(iter(lists_of.values())), questions)
    found = {}
    for number, (name, lists) in enumerate(lists_of.items()):
        values = gains(lists, questions)
        recommended_ids = [id_ for names in lists for id_ in names]
        found[name] = Method(
            float(values.mean()),
            interval(values, users),
            float((values > 0).mean()),
            len(set(recommended_ids)) / items,
            float(np.mean([-math.log2(max(1, had[id_]) / len(known)) for id_ in recommended_ids])),
            interval(first - values, users) if number else None,
        )
    return found


# ---- new items


# The parameters are what is known, and what is to be found.
def new_items(
    known: Sequence[Record],
    held_out: Sequence[Record],
    stored: Sequence[StoredItem],
    engine: Engine,
    seed: int,
    report: Report | None = None,
) -> dict[str, float]:
    """How often ten of the hidden items hold the right one: a tenth of the items, of which no event is learned.

    Popularity knows nothing of them: ten drawn at random are what it recommends, and its share is the expected one. Empty where
    items have no texts, no more than ten items are hidden, or none of them is in a question.
    """
    rows = engine.items[: engine.fitted]
    hidden = {item.id for item in Random(seed).sample(rows, len(rows) // HIDDEN)}
    concerned = [question_of(record) for record in held_out if record["events"][-1].item.id in hidden]
    if engine.vectors is None or len(hidden) <= RECOMMENDED or not concerned:
        return {}
    by_id = {item.row.id: item for item in stored}
    inside = [by_id[item.id] for item in rows if item.id not in hidden]
    outside = [by_id[item.id] for item in rows if item.id in hidden]
    visible = [{**record, "events": [e for e in record["events"] if e.item.id not in hidden]} for record in known]
    partial = _engine_of_items([record for record in visible if record["events"]], inside, outside, report)
    hits, by_chance, by_text, users = list[bool](), list[float](), list[bool](), list[str]()
    is_new = partial.is_new()
    assert partial.vectors is not None
    for question, row in zip(concerned, _rows(partial, concerned), strict=True):
        unseen = unseen_items(partial, [step.item for step in question.steps]) & is_new
        target = partial.numbers[question.target]
        hits.append(rank(row, target, unseen) <= RECOMMENDED)
        read = partial.memories([question.steps])[0, -1] @ partial.vectors[: partial.fitted]
        by_text.append(rank(partial.vectors @ read, target, unseen) <= RECOMMENDED)
        by_chance.append(min(1.0, RECOMMENDED / int(unseen.sum())))
        users.append(question.user)
    low, high = interval(np.array(hits, np.float64), users)
    return {
        "questions": float(len(hits)),
        "items": float(len(hidden)),
        OWN: float(np.mean(hits)),
        "from": low,
        "to": high,
        "popularity": float(np.mean(by_chance)),
        "texts alone": float(np.mean(by_text)),
    }


# ---- reasons and diversity


def reasons(engine: Engine, questions: Sequence[Question], seed: int) -> dict[str, float]:
    """How often the rank of a recommended item changes without the event that is its reason; and without a random other."""
    draw = Random(seed)
    chosen = draw.sample(list(questions), min(REASONED, len(questions)))
    changed, others, ranks = list[bool](), list[bool](), list[float]()
    for question in chosen:
        unseen = unseen_items(engine, [step.item for step in question.steps])
        row = engine.scores(engine.memories([question.steps]))[0].masked_fill(~unseen, -torch.inf)
        numbers = row.topk(RECOMMENDED).indices.tolist()
        for reason in reasons_for(engine, question.steps, numbers, unseen):
            changed.append(reason is not None and reason.rank != reason.rank_without)
            if reason is not None:
                ranks.append(reason.rank_without - reason.rank)
        index = draw.randrange(len(question.steps))
        rest = [*question.steps[:index], *question.steps[index + 1 :]]
        without = engine.scores(engine.memories([rest]))[0]
        others += [rank(row, number, unseen) != rank(without, number, unseen) for number in numbers]
    return {
        "items": float(len(changed)),
        "changed": float(np.mean(changed)),
        "median ranks lost": float(np.median(ranks)) if ranks else 0.0,
        "changed without a random event": float(np.mean(others)),
    }


def diversity(engine: Engine, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """The NDCG@10 and the mean similarity of two items of a list, for some settings of diversity."""
    chosen = Random(0).sample(list(questions), min(DIVERSIFIED, len(questions)))
    found = {}
    for setting in DIVERSITIES:
        lists, alike = [], []
        for question in chosen:
            memory = engine.memories([question.steps])[0]
            had = [step.item for step in question.steps]
            names = [item.item for item in recommended(engine, memory, [], had, Wish(diversity=setting, reasons=False))]
            matrix = similarities(engine, [engine.numbers[name] for name in names])
            alike.append(float((matrix.sum() - matrix.trace()) / max(1, len(names) * (len(names) - 1))))
            lists.append(names)
        found[f"{setting:g}"] = {"NDCG@10": float(gains(lists, chosen).mean()), "similarity": float(np.mean(alike))}
    return found
