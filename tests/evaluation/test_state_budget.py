"""Mechanisms at one budget: what fits is the largest that does, all have as many weights, and the choice is the best rank."""

from dataclasses import replace

import pytest

from memspan.errors import UsageError
from memspan.evaluation.state_budget import (
    SIZES,
    Budget,
    BudgetComparison,
    Outcome,
    compare_at_budget,
    fit,
    state_bytes,
)
from memspan.mechanisms import MECHANISMS, mechanism_class, mechanism_names
from memspan.training.build import build_task, count_parameters
from memspan.training.config import TrainConfig


def config(**changes: object) -> TrainConfig:
    fields = {
        "task": "recall", "width": 32, "depth": 1, "feedforward": 1.0, "segments": 2, "batch_size": 4, "steps": 2,
        "device": "cpu",
    }  # fmt: skip
    return TrainConfig.of(**{**fields, **changes})  # type: ignore[arg-type]


def test_sizes_rise() -> None:
    assert SIZES[:8] == (1, 2, 3, 4, 6, 8, 12, 16)
    assert list(SIZES) == sorted(set(SIZES))


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
def test_a_state_grows_with_its_size(mechanism: str) -> None:
    run = config(task="later_text")  # for mechanisms that see later tokens as well
    task = build_task(run)
    cls = mechanism_class(mechanism)
    if cls.settings_of_size(1) is None:
        return
    used = [
        state_bytes(run.replace(mechanism=mechanism, mechanism_settings=cls.settings_of_size(size)), task, 8)
        for size in (2, 4)
    ]
    assert used[1] > used[0]


@pytest.mark.parametrize("mechanism", ["delta", "sink_window", "retrieval"])
def test_what_fits_is_the_largest_state_within_the_budget(mechanism: str) -> None:
    run, budget = config(), Budget(20_000)
    task = build_task(run)
    sized = fit(run, task, mechanism, budget, 4)
    assert 10_000 < sized.state_bytes <= budget.state_bytes
    assert sized.state_bytes == state_bytes(sized.config, task, 4)
    cls = mechanism_class(mechanism)
    settings = [cls.settings_of_size(size) for size in SIZES]
    larger = settings[settings.index(sized.settings) + 1]
    assert state_bytes(sized.config.replace(mechanism_settings=larger), task, 4) > budget.state_bytes


def test_a_large_recurrent_state_is_paid_for_with_weights() -> None:
    run, budget = config(), Budget(10**6, parameters=30_000)
    task = build_task(run)
    sized = fit(run, task, "lstm", budget, 2)
    assert 16 <= sized.settings["hidden"] < 128
    assert count_parameters(sized.config.replace(feedforward=0.5), task) <= budget.parameters


@pytest.mark.parametrize(
    ("mechanism", "budget", "reason"),
    [
        ("attention", Budget(20_000), "its smallest state has [0-9,]+ bytes"),
        ("lstm", Budget(10**6, 2_000), "its smallest model has [0-9,]+ weights"),
        ("bidirectional", Budget(10**6), "sees later tokens"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(mechanism: str, budget: Budget, reason: str) -> None:
    run = config()
    with pytest.raises(UsageError, match=reason):
        fit(run, build_task(run), mechanism, budget, 16)


def test_all_are_trained_alike_and_measured_at_all_lengths() -> None:
    lines: list[str] = []
    compared = compare_at_budget(config(), Budget(20_000, 60_000), ["recall"], [2, 4], [0], note=lines.append)
    names = {outcome.mechanism for outcome in compared.outcomes}
    assert {"delta", "lstm", "retrieval", "sink_window"} <= names
    assert names | compared.left_out["recall"].keys() == set(mechanism_names())
    assert not names & compared.left_out["recall"].keys()
    for outcome in compared.outcomes:
        assert list(outcome.accuracy) == [64, 128]
        assert max(outcome.state_bytes.values()) <= 20_000
        assert abs(outcome.parameters / 60_000 - 1) < 0.01
        assert outcome.steps == 2
        assert outcome.value == pytest.approx(sum(outcome.accuracy.values()) / 2)
    values = [outcome.value for outcome in compared.outcomes]
    assert values == sorted(values, reverse=True)
    assert len(lines) == len(values)
    assert compared.to_dict()["choice"] == compared.choice


def outcome(task: str, mechanism: str) -> Outcome:
    return Outcome(task, mechanism, {}, 0.5, 0.0, {64: 0.5}, {64: 9}, 9, 1.0, 1)


def test_the_choice_has_the_best_mean_rank_of_those_compared_on_every_task() -> None:
    order = {"a": ["x", "y", "z"], "b": ["y", "w", "x"], "c": ["z", "y", "x"]}
    compared = BudgetComparison(
        Budget(9),
        dict.fromkeys(order, ("accuracy", False)),
        [outcome(task, name) for task, names in order.items() for name in names],
        {},
    )
    assert compared.choice == "y"
    assert replace(compared, outcomes=[]).choice is None


@pytest.mark.parametrize(
    ("changes", "lengths", "reason"),
    [
        ({"mechanism": "delta"}, [2], "leave out `mechanism`"),
        ({"model": "smollm2", "lora": 8}, [2], "from scratch, got the model 'smollm2'"),
        ({}, [], "lengths of at least 1 segment"),
        ({}, [0], "lengths of at least 1 segment"),
    ],
)
def test_what_cannot_be_compared(changes: dict, lengths: list[int], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compare_at_budget(config(**changes), Budget(9), ["recall"], lengths, [0])


def test_a_budget_is_positive() -> None:
    with pytest.raises(UsageError, match="at least 1, got 0 and 9"):
        Budget(0, 9)
