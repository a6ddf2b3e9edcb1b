"""Accuracy and loss of a trained model on held-out streams by distance, and the size of its state."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from memspan.errors import UsageError
from memspan.models.ensemble import open_models
from memspan.models.folders import read_whole
from memspan.tasks import Task, settings_of
from memspan.training.build import read_run, task_of_checkpoint, trained_task
from memspan.training.figures import new_figure
from memspan.training.measure import SEED, Score, measure


def evaluate(
    checkpoint: str | Path,
    task: str | None = None,
    settings: dict[str, Any] | None = None,
    segments: Sequence[int] = (5, 16, 64, 256),
    batch_size: int = 64,
    batches: int = 1,
    seed: int = SEED,
    others: Sequence[str | Path] = (),
) -> list[Score]:
    """The scores of a trained model on held-out streams, one for each length.

    Args:
        checkpoint: a folder that training wrote, or `ScratchModel.save_pretrained`.
        task: name of the task; None takes the one that the model was trained for.
        settings: settings of the task, in place of those of the training, if it is the same task.
        segments: lengths of the streams.
        batch_size: streams per batch.
        batches: number of batches per length.
        seed: random seed of the streams.
        others: further models; the mean of all their probabilities is measured.

    Raises:
        UsageError: no such model, task or setting, or a task with a larger vocabulary than the model's.
    """
    if not segments or min(segments) < 1:
        raise UsageError("segments must be one or more numbers of at least 1, like 5,16,64.")
    if batch_size < 1 or batches < 1:
        raise UsageError(f"batch_size and batches must be at least 1, got {batch_size} and {batches}.")

    def read(version: Path) -> tuple[Any, Task]:
        return open_models([version, *others]), task_of_checkpoint(version, task, settings)

    model, evaluated = read_whole(Path(checkpoint), read)
    if evaluated.vocabulary > model.config.vocabulary:
        raise UsageError(
            f"The task has a vocabulary of {evaluated.vocabulary} tokens, but the model one of {model.config.vocabulary}: "
            "it was trained for another task."
        )
    return [
        replace(measure(model, evaluated, length, batch_size, batches, seed), metrics=evaluated.score(model, length))
        for length in segments
    ]


def measured_on(checkpoint: str | Path, files: Sequence[str | Path], task: str | None = None) -> dict[str, Any]:
    """The settings with which the task of a model, or the one called `task`, measures on these files; none without files.

    Raises UsageError for a task that reads no held-out files.
    """
    if not files:
        return {}
    name = task or trained_task(read_run(Path(checkpoint))) or ""
    if "test" not in settings_of(name):
        raise UsageError(
            f"The task '{name}' has no files of held-out records: give its own settings instead of --data."
        )
    paths = [str(path) for path in files]
    return {"data": paths, "test": paths}


def to_dict(scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [asdict(score) for score in scores]


def plot(scores: Sequence[Score], path: str | Path) -> None:
    """Accuracy, and the bytes of the state, against distance: a picture. Raises UsageError without matplotlib."""
    figure = new_figure(9, 3.5)
    left, right = figure.subplots(1, 2)
    distances = [score.distance for score in scores]
    left.plot(distances, [score.accuracy for score in scores], marker="o")
    left.set(xlabel="distance, tokens", ylabel="accuracy", ylim=(-0.03, 1.03), xscale="log")
    right.plot(distances, [score.state_bytes for score in scores], marker="o")
    right.set(xlabel="distance, tokens", ylabel="bytes of the state", xscale="log", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"The plot cannot be written to {path}: {error}.") from error
