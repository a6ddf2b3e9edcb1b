"""With a memory and without: equally large, equally long, and what is said of it."""

from collections.abc import Sequence
from typing import Any

import pytest

from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE, Comparison, Contender, compare, without_memory
from memspan.tasks import Classification
from memspan.training.build import build_model, build_task
from memspan.training.config import TrainConfig


def config(**changes: object) -> TrainConfig:
    fields = {
        "task": "classification", "task_settings": {"segment": 32, "vocabulary": 600}, "width": 64, "depth": 1,
        "mechanism": "delta", "segments": 6, "batch_size": 16, "steps": 60, "learning_rate": 5e-3, "device": "cpu",
    }  # fmt: skip
    return TrainConfig.of(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_stands_at_the_beginning_is_remembered_to_the_end() -> None:
    told = compare(config(), [0], limit=20)
    memory, none = told.contenders
    assert (memory.name, none.name) == ("delta", NONE)
    assert memory.mean > 0.8 > 0.6 > none.mean
    assert told.gain == memory.mean - none.mean
    assert told.clear
    assert "better by" in told.verdict()
    assert told.baselines.keys() == {"TF-IDF + linear", "most frequent label"}
    assert memory.state_bytes > none.state_bytes > 0
    assert told.to_dict()["contenders"][0]["figures"][0]["macro F1"] == memory.mean


def test_each_run_is_measured_once_on_as_many_records_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def compute(self: Classification, records: Sequence[Any], predictions: Sequence[str]) -> dict[str, float]:
        measured.append(len(records))
        return {"accuracy": 0.0, "macro F1": 0.0}

    monkeypatch.setattr(Classification, "compute_metrics", compute)
    compare(config(steps=1, width=8), [0, 1], limit=7)
    assert measured[:4] == [7, 7, 7, 7]
    assert set(measured[4:]) == {7}  # of the baselines


@pytest.mark.parametrize("mechanism", ["delta", "lstm", "ltm"])
def test_the_twin_has_as_many_parameters(mechanism: str) -> None:
    whole = config(mechanism=mechanism, width=64)
    task = build_task(whole)
    twin = without_memory(whole, task)
    assert twin.model.mechanism is None
    weights = [sum(one.numel() for one in build_model(run, task).parameters()) for run in (whole, twin)]
    assert abs(weights[1] / weights[0] - 1) < 0.01


def contender(mean: float, spread: float) -> Contender:
    return Contender("", [{}, {}], mean, spread, 1, 1, [1.0])


@pytest.mark.parametrize(
    ("memory", "none", "lower", "gain", "clear"),
    [((0.5, 0.1), (0.3, 0.05), False, 0.2, True), ((0.5, 0.3), (0.3, 0.05), False, 0.2, False),
     ((2.0, 0.1), (2.5, 0.2), True, 0.5, True), ((2.5, 0.1), (2.0, 0.2), True, -0.5, False)],
)  # fmt: skip
def test_better_by_more_than_the_spread(
    memory: tuple[float, float], none: tuple[float, float], lower: bool, gain: float, clear: bool
) -> None:
    told = Comparison("t", "m", lower, [contender(*memory), contender(*none)], {})
    assert told.gain == pytest.approx(gain)
    assert told.clear is clear
    assert ("better" if gain > 0 else "worse") in told.verdict()


def test_no_difference_is_neither_better_nor_worse() -> None:
    same = Comparison("t", "m", False, [contender(0.5, 0.25), contender(0.5, 0.125)], {})
    assert same.verdict() == "The memory makes no difference in m."


def test_nothing_to_compare() -> None:
    with pytest.raises(UsageError, match="name a `mechanism`"):
        compare(config(mechanism=None), [0])


@pytest.mark.parametrize(
    "task",
    ["language_modelling", "classification", "question_answering", "dialogue", "summarisation", "translation",
     "recommendation"],
)  # fmt: skip
def test_every_task_runs_anywhere_on_its_sample(task: str) -> None:
    changes = {"task": task, "task_settings": {"segment": 16}, "segments": 4, "batch_size": 4, "steps": 2, "width": 16}
    told = compare(config(**changes), [0], limit=3)
    memory, none = told.contenders
    assert told.metric in memory.figures[0]
    assert 0 <= memory.mean <= 100
    assert memory.state_bytes > none.state_bytes
    assert told.baselines
    assert all(0 <= value <= 100 for value in told.baselines.values())
