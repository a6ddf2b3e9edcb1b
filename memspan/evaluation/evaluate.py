"""Accuracy and loss of a trained model on held-out streams by distance, and the size of its state."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from memspan.errors import UsageError
from memspan.figures import new_figure
from memspan.models.ensemble import open_models
from memspan.training.build import make_task
from memspan.training.measure import SEED, Score, measure


def evaluate(
    checkpoint: str | Path,
    task: str | None = None,
    settings: dict[str, Any] | None = None,
    segments: Sequence[int] = (5, 16, 64, 256),
    rows: int = 64,
    batches: int = 1,
    seed: int = SEED,
    others: Sequence[str | Path] = (),
) -> list[Score]:
    """A trained model's scores on streams of each of these lengths.

    Args:
        checkpoint: a folder that training wrote, or `ScratchModel.save_pretrained`.
        task: its name; by default the one that the model was trained for.
        settings: of the task; by default those of the training, if it is the same task.
        others: further models; the mean of all their probabilities is measured.

    Raises:
        UsageError: no such model, task or setting, or a task with more tokens than the model knows.
    """
    if not segments or min(segments) < 1:
        raise UsageError("Streams have at least 1 segment: give lengths like 5,16,64.")
    if rows < 1 or batches < 1:
        raise UsageError(f"rows={rows}, batches={batches} cannot be: both are at least 1.")
    model: Any = open_models([checkpoint, *others])
    asked = make_task(Path(checkpoint), task, settings)
    if asked.vocabulary > model.config.vocabulary:
        raise UsageError(
            f"The task has {asked.vocabulary} different tokens, but the model knows {model.config.vocabulary}: "
            "it was trained for another task."
        )
    return [
        replace(measure(model, asked, length, rows, batches, seed), metrics=asked.score(model, length))
        for length in segments
    ]


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
