"""`memspan train`, `tune` and `average`: training runs, searches over their settings, and means of their models."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.fitted import print_extractive, print_fitted
from memspan.cli.fitted_replies import print_replies
from memspan.cli.options import AS_JSON, CONFIG, PLUGIN, PLUGIN_HELP, read_text
from memspan.cli.output import (
    count,
    number_table,
    print_info,
    print_json,
    print_line,
    print_table,
    progress_bar,
)
from memspan.cli.train_options import configures, default_run, run_config, with_default_run
from memspan.errors import UsageError
from memspan.plugins import load_files
from memspan.training.config import TrainConfig

if TYPE_CHECKING:
    from memspan.tasks import Task
    from memspan.training.report import Report


# The parameters are the options.
@command("train")
@configures
def train_model(
    overrides: dict[str, Any],
    config: CONFIG = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue from the last checkpoint in the output folder.", rich_help_panel="Run"),
    ] = False,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Unlabelled texts, one per line: a second run also learns the first run's confident predictions for them.",
            rich_help_panel="Pseudo-labels",
        ),
    ] = None,
    confidence: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="P",
            help="Minimum probability of a prediction to learn from.",
            rich_help_panel="Pseudo-labels",
        ),
    ] = 0.9,
    ray: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of processes that Ray starts for the run.", rich_help_panel="Run"
        ),
    ] = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Train a small model from random weights where a pretrained one would be used.",
            rich_help_panel="Model",
        ),
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option("--plugin", metavar="FILE", help=PLUGIN_HELP, rich_help_panel="Model"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.", rich_help_panel="Run")
    ] = False,
) -> None:
    """Train a model for a task: a pretrained one where the task has such a default, or a small one from scratch.

    A classifier, and a ranker of replies in dialogues, is fitted on features of pretrained models
    within seconds to minutes, and so are a recommender, on histories and the titles of its items, and
    a model that answers or summarises with words of the text, unless --from-scratch, --lora or a
    --mechanism (without --features) is given.

    The options are the fields of the YAML file; an option overrides the field of the file.

    On several processes: torchrun --nproc-per-node 2 -m memspan train run.yaml

    Example: memspan train --task classification --data mails.csv --output runs/mails

    Example: memspan train --task recall --mechanism delta --seconds 60 --output runs/delta
    """
    if ray is not None and unlabelled is not None:
        raise UsageError("--unlabelled runs in one process: leave out --ray.")
    if ray is not None and plugin:
        raise UsageError(
            "The processes that Ray starts load no --plugin: leave out --ray, or start them with torchrun."
        )
    load_files(plugin or [])
    default = None if config is not None or resume or from_scratch else default_run(overrides)
    run = run_config(config, with_default_run(overrides, default), resume)
    if run.is_fitted:
        _fit(run, resume, as_json)
        return
    if run.model.extract:
        _fit_extract(run, resume, as_json)
        return
    if default is not None and default.is_sized and unlabelled is None and ray is None:
        _adapt(run, overrides, as_json)
        return
    report = _train(run, resume, None if unlabelled is None else _lines(unlabelled), confidence, ray)
    if not _is_worker():
        _print_report(report, as_json)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _fit(run: TrainConfig, resume: bool, as_json: bool) -> None:
    """Fit a classifier over features, or a recommender, with a progress bar, and print what it is worth."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from memspan.training.fitting import fit, with_suitable_features

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    task = _read(run, resume)
    run, left_out = with_suitable_features(run, task)
    if left_out:
        reasons = "; ".join(f"{name}, since {reason}" for name, reason in left_out.items())
        print_info(f"Features: {', '.join(run.model.features)}. Not taken: {reasons}. --features names others.")
    with progress_bar(*columns) as bar:
        bars: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = bar.add_task(name, total=total)
            bar.update(bars[name], completed=done, total=total)

        report = fit(run, advance, task, resume)
    if as_json:
        print_json(report.to_dict())
    else:
        {"reply_ranker": print_replies}.get(report.model.kind, print_fitted)(report)


def _fit_extract(run: TrainConfig, resume: bool, as_json: bool) -> None:
    """Fit an extractive model, and print what it is worth."""
    from memspan.training.extracting import fit_extract

    report = fit_extract(run, resume=resume)
    if as_json:
        print_json(report.to_dict())
    else:
        print_extractive(report)


def _read(run: TrainConfig, resume: bool = False) -> "Task":
    """The task of a run with its data; which rows are not used is printed."""
    from memspan.training.build import build_task
    from memspan.training.loop import checkpoint_of

    checkpoint_of(run, resume)  # before the data are read
    task = build_task(run)
    for sentence in getattr(task, "left_out", []):
        print_info(sentence)
    return task


def _adapt(run: TrainConfig, overrides: dict[str, Any], as_json: bool) -> None:
    """Train low-rank adapters of a pretrained classifier for as long as its data need, and print what it is worth."""
    from memspan.tasks import Classification, require
    from memspan.training.sizing import sized
    from memspan.training.summary import summarised

    task = require(_read(run), Classification, f"'{run.task.name}' must be a classification.")
    run, task = sized(run, task, {*overrides, *overrides.get("task_settings", [])})
    options = run.optimisation
    length = f"{options.seconds} s of CPU time, in steps" if options.steps is None else count(options.steps, "step")
    length += f" of {count(options.batch_size, 'text')}"
    print_info(f"{run.model.name} with adapters of rank {run.model.lora}: {length}.")
    report = summarised(_train(run, False, None, 0.0, None, task), task)
    if as_json:
        print_json(report.to_dict())
    else:
        print_fitted(report)


def _is_worker() -> bool:
    """Whether this process is not the first of a distributed run, as torchrun and accelerate number them."""
    return os.environ.get("RANK", "0") != "0"


def _train(
    run: TrainConfig,
    resume: bool,
    unlabelled: list[str] | None,
    confidence: float,
    ray: int | None,
    task: "Task | None" = None,
) -> "Report":
    """Train with a progress bar: in this process, in `ray` processes, or twice with pseudo-labels for `unlabelled`."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from memspan.training.loop import train
    from memspan.training.pseudo_labels import self_train
    from memspan.training.ray import train_on_ray

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with progress_bar(*columns, hidden=_is_worker() or ray is not None) as bar:
        bar_task = bar.add_task("step 0", total=1.0)

        def advance(progress: Any) -> None:
            text = (
                f"step {progress.step:,}  segments {progress.segments}  loss {progress.loss:.3f}  "
                f"accuracy {progress.accuracy:.1%}"
            )
            bar.update(bar_task, completed=progress.fraction, description=text)

        try:
            if ray is not None:
                return train_on_ray(run, ray, resume)
            if unlabelled is None:
                return train(run, advance, resume, task)
            result = self_train(run, unlabelled, confidence, advance, resume)
        except KeyboardInterrupt:
            kept = "" if run.run.output is None else "; --resume goes on from the last checkpoint"
            raise KeyboardInterrupt(f"interrupted{kept}") from None
    if not _is_worker():
        print_info(f"{count(len(result.pseudo_labels), 'text')} learned as labelled by the first run.")
    return result.student


def _print_report(report: "Report", as_json: bool) -> None:
    """Print the last and the best measurement of a run, or all of the report."""
    if as_json:
        print_json(report.to_dict())
        return
    print_line(
        f"{count(report.step, 'step')} on {count(report.tokens, 'token')} in {report.seconds:.1f} s of CPU time, "
        f"stopped by {report.stopped}: accuracy {report.score.accuracy:.1%}, loss {report.score.loss:.4f} held out; "
        f"lowest loss {report.best_loss:.4f} at step {report.best_step:,}."
    )
    for name, value in report.metrics.items():
        print_line(f"{name}: {value:.4f}")
    if report.folder is not None:
        print_line(f"{report.folder} holds the models `best` and `last`, and the report.")


@command("tune")
def tune_settings(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a run, as for `memspan train`.")],
    search: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=LOW:HIGH",
            help="Field and range to search; NAME=LOW:HIGH:log is a logarithmic range, NAME=A,B,... a list of values.",
        ),
    ],
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of runs.")] = 20,
    plugin: PLUGIN = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of trials.json and best.yaml (default: `output` of the file)."),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Search for the settings with the lowest held-out loss, by short runs; hopeless runs are stopped early.

    A field of a mapping is written with a dot: mechanism_settings.heads=1,2

    Example: memspan tune run.yaml --trials 30 --search learning_rate=1e-4:1e-2:log --search depth=1:4
    """
    load_files(plugin or [])
    from memspan.training.search import BEST, Trial, parse_search, tune

    run = TrainConfig.load(config) if output is None else TrainConfig.load(config, output=output)

    def print_trial(trial: Trial) -> None:
        values = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
        print_info(f"trial {trial.number}: {values}: {trial.outcome}, loss {_short(trial.loss)}")

    result = tune(run, parse_search(search), trials, None if as_json else print_trial)
    if as_json:
        print_json(result.to_dict())
        return
    table = number_table(("trial", *result.trials[0].values, "loss", "outcome", "measurements"))
    for trial in sorted(result.trials, key=lambda trial: (trial.outcome != "complete", trial.loss or 0.0)):
        values = (_short(value) for value in trial.values.values())
        table.add_row(str(trial.number), *values, _short(trial.loss), trial.outcome, str(trial.measurements))
    print_table(table)
    if run.run.output is not None:
        print_line(f"{Path(run.run.output) / BEST} is the best configuration.")


def _short(value: Any) -> str:
    """A value in four digits, if it is a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@command("average")
def average_models(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="Folders of two or more trained models.")
    ],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Folder of the averaged model; it is created.")],
    plugin: PLUGIN = None,
) -> None:
    """Average the weights of several models that were trained from the same initial weights.

    To average their predictions instead, use `memspan predict` and `eval` with --with.

    Example: memspan average runs/a/best runs/b/best --into runs/mean
    """
    load_files(plugin or [])
    from memspan.models.ensemble import average

    average(checkpoints, into)
    print_line(f"{into} holds the mean of {count(len(checkpoints), 'model')}.")
