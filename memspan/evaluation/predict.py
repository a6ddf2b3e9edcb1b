"""What a trained model says to texts of the user's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from memspan.errors import UsageError
from memspan.models.ensemble import open_models
from memspan.models.saved import check_holds
from memspan.tasks import build
from memspan.training.build import CONFIG, config_of, learns, verify_task_files
from memspan.training.config import TrainConfig, read_yaml

OF_ITS_DATA = ("data", "augment", "begin", "rehearse", "ewc")  # what a model that is trained needs no more


def predict(
    checkpoint: str | Path,
    texts: Sequence[str],
    question: str = "",
    task: str | None = None,
    others: Sequence[str | Path] = (),
) -> list[str]:
    """What a trained model says to each of these texts.

    Args:
        checkpoint: a folder that training wrote.
        question: asked after each text, for tasks that have one.
        task: the task it should have been trained for, if that matters.
        others: further models; the mean of all their probabilities decides.

    Raises UsageError for a model that was trained for another task, or one that says nothing to texts.
    """
    model, made, config = reopen(checkpoint, task, others)
    said: list[str] = made.predict(model, list(texts), config.segments, question)
    return said


def reopen(
    checkpoint: str | Path, task: str | None = None, others: Sequence[str | Path] = ()
) -> tuple[nn.Module, Any, TrainConfig]:
    """A trained model in eval mode, its task as it learned it but without records, and what the training was.

    With `others` the model is the ensemble of all of them.

    Raises UsageError for a model that was trained for another task than `task`, or one that says nothing to texts.
    """
    checkpoint = Path(checkpoint)
    check_holds(checkpoint, CONFIG)
    verify_task_files(checkpoint)
    values = read_yaml(checkpoint / CONFIG)
    if task is not None and task != values.get("task"):
        raise UsageError(f"{checkpoint} was trained for {values.get('task')}, not for {task}.")
    if not learns(str(values.get("task"))):
        raise UsageError(f"{checkpoint} was trained for {values.get('task')}, which says nothing to texts.")
    kept = {name: value for name, value in values.items() if name not in OF_ITS_DATA}
    settings = values.get("task_settings") or {}
    if isinstance(settings, dict):
        settings = {**settings, "data": None, "test": [], "saved": str(checkpoint)}
    config = config_of(checkpoint, {**kept, "task_settings": settings})
    made = build(config.task, **config.task_settings)
    model: Any = open_models([checkpoint, *others]).eval()
    if model.config.vocabulary != made.vocabulary:
        raise UsageError(
            f"The model in {checkpoint} knows {model.config.vocabulary} tokens, but by the files beside it there are "
            f"{made.vocabulary}: one of them is of another run."
        )
    return model, made, config


def back_translate(texts: Sequence[str], there: str | Path, back: str | Path) -> list[str]:
    """The texts in other words: translated by the model in `there`, and again by the one in `back` (Sennrich et al. 2016).

    As further records to train on; for changes while training it can be the `rewriter` of an `Augment`.
    """
    return predict(back, predict(there, texts))
