"""The task and the model that a run or a checkpoint describes."""

import inspect
from pathlib import Path
from typing import Any

from memspan.data.tokenizer import FILE as TOKENIZER
from memspan.errors import UsageError
from memspan.folders import verify
from memspan.models.saved import check_holds
from memspan.tasks import Task, build, task_class
from memspan.training.config import TrainConfig, read_yaml

CONFIG = "config.yaml"  # the configuration of the run, beside the model that came of it


def make_task(checkpoint: Path, name: str | None = None, settings: dict[str, Any] | None = None) -> Task:
    """The task that the model in `checkpoint` was trained for, or the named one; `settings` replace single ones."""
    learned = {"saved": str(checkpoint)} if (checkpoint / TOKENIZER).is_file() else {}
    if not (checkpoint / CONFIG).is_file():
        if name is None:
            raise UsageError(f"{checkpoint} does not say what the model was trained for: name a task.")
        return build(name, **(settings or {}), **learned)
    verify_task_files(checkpoint)
    values = read_yaml(checkpoint / CONFIG)
    if name is not None and name != values.get("task"):
        if learned or learns(name):
            raise UsageError(f"{checkpoint} was trained for {values.get('task')}, not for {name}.")
        return build(name, **(settings or {}))
    config = config_of(checkpoint, values)
    if learns(config.task):
        check_holds(checkpoint, TOKENIZER)
    return config.replace(task_settings={**config.task_settings, **(settings or {}), **learned}).make_task()


def verify_task_files(checkpoint: Path) -> None:
    """Raises DamagedFolder where the configuration of the run or what the task learned is not as it was written."""
    verify(checkpoint, lambda name: not name.endswith(".safetensors"))


def learns(task: str) -> bool:
    """Whether a task learns from its data what tokens mean."""
    return "saved" in inspect.signature(task_class(task)).parameters


def config_of(checkpoint: Path, values: dict[str, Any]) -> TrainConfig:
    """The run of a checkpoint. Raises UsageError that names its file."""
    try:
        return TrainConfig.from_mapping(values)
    except UsageError as error:
        raise UsageError(f"{checkpoint / CONFIG} cannot be used: {error}") from error
