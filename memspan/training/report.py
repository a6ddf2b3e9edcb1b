"""The progress and the outcome of a training run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import replaced
from memspan.models.saved import SavedModel, open_model
from memspan.tasks import Task
from memspan.training.build import CONFIG
from memspan.training.config import TrainConfig
from memspan.training.figures import can_draw, new_figure
from memspan.training.measure import Score

LAST, BEST = "last", "best"  # folders in the output: the latest checkpoint, and the model of the lowest held-out loss
REPORT, PLOT = "report.json", "report.png"


@dataclass(frozen=True)
class TrainProgress:
    """How far a run has come.

    Attributes:
        step: optimizer steps so far.
        fraction: share of the whole run that is done, 0 to 1; it may end earlier.
        segments: current number of segments per stream.
        loss, accuracy: over the last steps, on training streams.
        seconds: of CPU time.
        held_out: the held-out loss, where it was measured at this step.
    """

    step: int
    fraction: float
    segments: int
    loss: float
    accuracy: float
    seconds: float
    held_out: float | None = None


@dataclass(frozen=True)
class Report:
    """The outcome of a run.

    Attributes:
        config: of the run.
        stopped: why it ended: "steps", "seconds", "patience" or "target_accuracy"; "fitted" without steps.
        step: number of optimizer steps.
        tokens: read in training.
        seconds: of CPU time.
        score: of the final model on held-out streams.
        metrics: the task's own metrics on held-out records.
        best_step, best_loss: of the lowest held-out loss.
        history: one record for every measurement.
        folder: the output; its `last` and `best` can be opened by `open_model`. None without one.
        details: what else a model that is fitted at once reports: baselines, intervals, wrong predictions, settings.
        model: the final model; with `fsdp`, whole in the main process only.
    """

    config: TrainConfig
    stopped: str
    step: int
    tokens: int
    seconds: float
    score: Score
    metrics: dict[str, float]
    best_step: int
    best_loss: float
    history: list[dict[str, float]]
    folder: Path | None
    model: SavedModel = field(repr=False)
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, as JSON knows it."""
        names = ("stopped", "step", "tokens", "seconds", "metrics", "best_step", "best_loss", "history", "details")
        values = {name: getattr(self, name) for name in names}
        return {"config": self.config.to_dict(), **values, "score": asdict(self.score)}

    def save(self, folder: Path) -> None:
        """Writes report.json and, where matplotlib is installed, report.png. Raises MemspanError if that fails."""
        try:
            (folder / REPORT).write_text(json.dumps(self.to_dict(), indent=2) + "\n", "utf-8")
            if can_draw() and self.history:
                plot(self, folder / PLOT)
        except OSError as error:
            raise MemspanError(f"The report cannot be written to {folder}: {error}.") from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The report of a finished run in its output folder, with the final model.

        Raises UsageError where there is none, or one that cannot be read.
        """
        try:
            saved = json.loads((folder / REPORT).read_text("utf-8"))
            values = {**saved, "config": TrainConfig.from_mapping(saved["config"]), "score": Score(**saved["score"])}
            return cls(**values, folder=folder, model=open_model(folder / LAST).eval())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder} holds no report of a run that can be read: {error}.") from error


class HeldOut(NamedTuple):
    """What a model that was fitted at once does on held-out records.

    Attributes:
        metrics: the task's own.
        accuracy: the share of right answers, or the metric that counts.
        loss: of a record, on average.
        records: how many answers were measured.
        state_bytes: bytes of what the model remembers of a record.
    """

    metrics: Mapping[str, float]
    accuracy: float
    loss: float
    records: int
    state_bytes: int = 0


def report_fitted(
    config: TrainConfig,
    model: SavedModel,
    held_out: HeldOut,
    seconds: float,
    details: Mapping[str, Any],
    steps: int = 0,
    history: Sequence[dict[str, float]] = (),
) -> Report:
    """The report of a run whose model was fitted at once.

    Args:
        seconds: of CPU time.
        details: see `Report`.
        steps, history: of an optimizer, where a part of the model was learned by one.
    """
    score = Score(
        segments=config.task.segments,
        distance=0,
        accuracy=held_out.accuracy,
        loss=held_out.loss,
        bits=held_out.loss / math.log(2),
        targets=held_out.records,
        state_bytes=held_out.state_bytes,
        tokens_per_second=0.0,
        metrics=dict(held_out.metrics),
    )
    by_steps = "steps" if steps == config.optimisation.steps else "seconds"
    return Report(
        config=config,
        stopped=by_steps if steps else "fitted",
        step=steps,
        tokens=0,
        seconds=seconds,
        score=score,
        metrics=dict(held_out.metrics),
        best_step=steps,
        best_loss=held_out.loss,
        history=list(history),
        folder=None if config.run.output is None else Path(config.run.output),
        model=model.eval(),
        details=dict(details),
    )


def save_fitted(report: Report, task: Task) -> None:
    """Writes the model of a run that was fitted at once as its best and its latest, with the report, if it has a folder."""
    if report.folder is None:
        return
    for name in (BEST, LAST):
        with replaced(report.folder / name) as folder:
            report.model.save_pretrained(folder)
            report.config.save(folder / CONFIG)
            task.save(folder)
    report.save(report.folder)


def plot(report: Report, path: Path) -> None:
    """Draws loss and accuracy by step. Raises UsageError without matplotlib."""
    figure = new_figure(9, 3.5)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training"), (f"held_out_{name}", "held out")):
            points = [(record["step"], record[key]) for record in report.history if key in record]
            axes.plot(*zip(*points, strict=True), label=label)
        axes.set(xlabel="step", ylabel=name)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)
