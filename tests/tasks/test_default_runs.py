"""How a task is learned where nobody says how: what it declares are options and settings, and the command line takes them."""

from typing import Any

import pytest

from memspan.cli.train_options import default_run, with_default_run
from memspan.errors import UsageError
from memspan.tasks import TASKS, settings_of
from memspan.training.config import all_options

BOTH = {"data"}  # names of an option and of a setting of the same meaning


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.default_runs])
def test_all_names_are_those_of_options_and_settings(name: str) -> None:
    options, settings = {option.name for option in all_options()}, settings_of(name).keys()
    assert options & settings <= BOTH
    for run in TASKS[name].default_runs:
        assert run.options.keys() <= options
        assert run.settings.keys() <= settings
        assert run.needs | run.unless <= options | settings


def chosen(task: str, **given: Any) -> dict[str, Any]:
    options = {"task": task, **given}
    return with_default_run(options, default_run(options))


@pytest.mark.parametrize("task", ["classification", "tagging", "regression"])
def test_labels_are_learned_from_features_unless_another_model_is_described(task: str) -> None:
    plain = chosen(task)
    assert plain["features"] == ["auto"]
    assert plain["task_settings"] == ["segment=128"]
    assert chosen(task, task_settings=["segment=9", "limit=50"])["task_settings"] == ["segment=9", "limit=50"]
    assert chosen(task, model="mine", features=["words"], mechanism="gru")["segments"] == plain["segments"]
    for other in ({"mechanism": "gru"}, {"width": 8}, {"steps": 9}, {"lora": 0, "model": "mine"}):
        assert "features" not in chosen(task, **other)


def test_adapters_are_as_long_as_the_data_need() -> None:
    run = default_run({"task": "classification", "lora": 8, "seconds": 60})
    assert run is not None
    assert run.is_sized
    assert default_run({"task": "tagging", "lora": 8}) is None
    assert default_run({"task": "classification", "lora": 8, "width": 8}) is None


def test_a_recommender_learns_from_events_before_a_date_of_the_users_own_data() -> None:
    assert "split=time" in chosen("recommendation", data=["views.csv"])["task_settings"]
    for given in ({}, {"data": ["views.csv"], "task_settings": ["test=other.csv"]}):
        options = chosen("recommendation", **given)
        assert options["model"] == "recommender"
        assert "split=time" not in options.get("task_settings", [])
    assert chosen("recommendation", model="scratch") == {"task": "recommendation", "model": "scratch"}


def test_other_tasks_are_left_as_they_are() -> None:
    assert chosen("recall", steps=9) == {"task": "recall", "steps": 9}
    assert with_default_run({}, default_run({})) == {}
    with pytest.raises(UsageError, match="There is no task 'recal'"):
        default_run({"task": "recal"})
