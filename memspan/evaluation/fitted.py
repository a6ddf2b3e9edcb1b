"""What a model that was fitted at once is worth on records of the user's own: a table of metrics with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memspan.errors import UsageError
from memspan.evaluation.predict import reopen
from memspan.models.folders import read_whole
from memspan.tasks import DataSource, Measured, TextTask, require
from memspan.training.build import CONFIG, config_of, read_run, task_of_checkpoint


def is_fitted(checkpoint: str | Path) -> bool:
    """Whether a folder holds a classifier over features, a ranker of replies or an extractive model: they read no streams."""

    def read(version: Path) -> bool:
        if not (version / CONFIG).is_file():
            return False
        model = config_of(version, read_run(version)).model
        return bool(model.features) or model.extract

    return read_whole(Path(checkpoint), read)


def evaluate_fitted(
    checkpoint: str | Path,
    files: Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    task: str | None = None,
    others: Sequence[str | Path] = (),
) -> tuple[Measured, list[str]]:
    """The metrics of such a model, and sentences on the records that are not used.

    Args:
        checkpoint: a folder for which `is_fitted` is true.
        files: with the records to measure on; none for those that training held out.
        settings: of the task; with `files` how they are read: format, rename, limit.
        task: the task that the model must have been trained for; None takes any.
        others: further models; the mean of all their probabilities is measured.

    Raises UsageError for files that cannot be read or hold no record that can be used.
    """
    model, learned, config = reopen(checkpoint, task, others)
    given, no_texts = dict(settings or {}), f"{checkpoint} was trained for a task without texts."
    if files:
        how = {name: config.task.settings[name] for name in ("format", "rename") if name in config.task.settings}
        measured = require(learned, TextTask, no_texts).with_held_out(
            DataSource(data=[str(path) for path in files], **{**how, **_only_reading(given)})
        )
    else:
        built = task_of_checkpoint(Path(checkpoint), None, given)
        measured = require(built, TextTask, no_texts)
    return measured.measured(model, config.task.segments), measured.left_out


def _only_reading(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings themselves, if they say how files are read. Raises UsageError for any other."""
    known = ("format", "rename", "limit", "split_seed")
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise UsageError(f"With --data the settings say how files are read: {', '.join(known)}; got {unknown[0]}.")
    return settings
