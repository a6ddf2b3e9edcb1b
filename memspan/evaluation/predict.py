"""Predictions of a trained model for texts of the user's own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from memspan.errors import UsageError
from memspan.models.ensemble import open_models
from memspan.models.folders import read_whole
from memspan.models.saved import check_holds, naming_plugins
from memspan.pretrained.reply_ranker import ReplyRanker
from memspan.tasks import Prediction, RecordTask, build, require
from memspan.tasks.text.dialogue import turns_of
from memspan.tasks.text.labelled import Labelled
from memspan.training.build import CONFIG, config_of, learns, read_run, trained_task
from memspan.training.config import TrainConfig


def predict(
    checkpoint: str | Path,
    texts: Sequence[str],
    question: str = "",
    task: str | None = None,
    others: Sequence[str | Path] = (),
) -> list[str]:
    """The prediction of a trained model for each text: a label, an answer, a summary, a translation.

    Args:
        checkpoint: a folder that training wrote.
        question: asked about each text, for tasks that have questions.
        task: the task that the model must have been trained for; None takes any.
        others: further models; the mean of all their probabilities decides.

    Raises UsageError for a model that was trained for another task, or for one without predictions for texts.
    """
    model, trained, config = reopen(checkpoint, task, others)
    return trained.predict(model, list(texts), config.task.segments, question)


def predict_with_probabilities(
    checkpoint: str | Path,
    texts: Sequence[str],
    question: str = "",
    task: str | None = None,
    others: Sequence[str | Path] = (),
) -> list[Prediction]:
    """As `predict`, each with the probability that the model gives to it; None for a task whose answers have none."""
    model, trained, config = reopen(checkpoint, task, others)
    return trained.predictions(model, list(texts), config.task.segments, question)


def rank_replies(
    checkpoint: str | Path, conversations: Sequence[str], candidates: Sequence[str] | None = None, top: int = 1
) -> list[list[tuple[str, float]]]:
    """For each conversation, written with a turn in each line, the `top` replies with their scores, best first.

    Args:
        checkpoint: a folder with a ranker of replies.
        candidates: to choose from; None for the replies known from training.

    Raises UsageError for a model of another kind, and for a conversation without a turn.
    """
    model, _, _ = reopen(checkpoint)
    if not isinstance(model, ReplyRanker):
        raise UsageError(
            f"{checkpoint} holds no ranker of replies: leave out the candidates, or train one with `memspan train --task dialogue`."
        )
    return model.best([turns_of(text) for text in conversations], candidates, top)


def reopen(
    checkpoint: str | Path, task: str | None = None, others: Sequence[str | Path] = ()
) -> tuple[nn.Module, RecordTask, TrainConfig]:
    """A trained model in eval mode, its task as it was learned but without records, and the configuration of the run.

    With `others` the model is the ensemble of all of them.

    Raises UsageError for a model that was trained for another task than `task`, or for one without predictions for texts.
    """
    with naming_plugins(Path(checkpoint)):
        return read_whole(Path(checkpoint), lambda version: _reopen(version, task, others))


def _reopen(
    checkpoint: Path, task: str | None, others: Sequence[str | Path]
) -> tuple[nn.Module, RecordTask, TrainConfig]:
    check_holds(checkpoint, CONFIG)
    sections = read_run(checkpoint)
    trained_for = trained_task(sections)
    if task is not None and task != trained_for:
        raise UsageError(f"{checkpoint} was trained for {trained_for}, not for {task}.")
    no_predictions = f"{checkpoint} was trained for {trained_for}, which has no predictions for texts."
    if not learns(str(trained_for)):
        raise UsageError(no_predictions)
    config = config_of(checkpoint, _without_data(sections, checkpoint))
    learned = require(build(config.task.name, **config.task.settings), RecordTask, no_predictions)
    model: Any = open_models([checkpoint, *others]).eval()
    if model.config.vocabulary != learned.vocabulary:
        raise UsageError(
            f"The model in {checkpoint} has a vocabulary of {model.config.vocabulary} tokens, but the files beside it have "
            f"one of {learned.vocabulary}: one of them is of another run."
        )
    return model, learned, config


def _without_data(sections: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """The sections of a run whose data, and the model that it began with, may be gone: what it learned is in its folder."""
    task = {name: value for name, value in sections["task"].items() if name not in ("data", "augment")}
    settings = task.get("settings") or {}
    if isinstance(settings, Mapping):
        task["settings"] = {**settings, "data": None, "test": [], "saved": str(checkpoint)}
    rest = {name: options for name, options in sections.items() if name != "continual"}
    return {**rest, "task": task}


def back_translate(texts: Sequence[str], there: str | Path, back: str | Path) -> list[str]:
    """Paraphrases: the texts translated by the model in `there`, and back by the one in `back` (Sennrich et al. 2016).

    They serve as further records to train on; while training, this can be the `rewriter` of an `Augment`.
    """
    return predict(back, predict(there, texts))


def outputs_of(
    checkpoint: str | Path, others: Sequence[str | Path] = ()
) -> tuple[list[str], Callable[[Sequence[str]], NDArray[np.float64]]]:
    """The labels of a classifier, and what gives the probability of each for texts, (N, labels); of a regressor the number.

    Raises UsageError for a model of another task.
    """
    model, learned, config = reopen(checkpoint, others=others)
    task = require(learned, Labelled, f"{checkpoint} predicts neither labels nor numbers.")

    def outputs(texts: Sequence[str]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = task.outputs(model, list(texts), config.task.segments).double().numpy()
        return found

    return list(task.class_names()), outputs
