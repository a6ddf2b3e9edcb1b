"""`memspan train`, `tune` and `average`: models trained from nothing."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON
from memspan.cli.output import (
    count,
    is_plain,
    make_console,
    print_info,
    print_json,
    print_line,
    print_table,
)
from memspan.cli.train_options import configures, run_settings
from memspan.errors import UsageError
from memspan.training.config import TrainConfig


@command("train")
@configures
def train_model(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file with these fields.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the output.")] = False,
    unlabelled: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Texts, one a line: what the model says to them is learned in a second run."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="P", help="The probability from which it is believed.")
    ] = 0.9,
    ray: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Let Ray start so many processes for the run."),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Train a small model with any memory mechanism, from nothing.

    The options are the fields of the YAML file; what is given here goes before what stands there.

    In several processes: torchrun --nproc-per-node 2 -m memspan train run.yaml

    Example: memspan train --task recall --mechanism delta --seconds 60 --output runs/delta
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    settings = run_settings(config, given, resume)
    run = TrainConfig.from_mapping(settings)
    from memspan.training.loop import train
    from memspan.training.pseudo_labels import self_train
    from memspan.training.ray import train_on_ray

    if ray is not None and unlabelled is not None:
        raise UsageError("--unlabelled is done by one process: leave out --ray.")
    console = make_console(stderr=True)
    told = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    silent = os.environ.get("RANK", "0") != "0"  # one of several processes, as torchrun and accelerate number them
    hidden = silent or ray is not None or not console.is_terminal or is_plain()
    with Progress(*told, console=console, disable=hidden) as bar:
        shown = bar.add_task("step 0", total=1.0)

        def advance(at: Any) -> None:
            text = f"step {at.step:,}  segments {at.segments}  loss {at.loss:.3f}  accuracy {at.accuracy:.1%}"
            bar.update(shown, completed=at.part, description=text)

        try:
            if ray is not None:
                report = train_on_ray(run, ray, resume)
            elif unlabelled is None:
                report = train(run, advance, resume)
            else:
                done = self_train(run, _texts_of(unlabelled), confidence, advance, resume)
                report = done.student
        except KeyboardInterrupt:
            kept = "" if run.output is None else "; --resume goes on from the last checkpoint"
            raise KeyboardInterrupt(f"interrupted{kept}") from None
    if silent:
        return
    if unlabelled is not None:
        print_info(f"{count(len(done.added), 'text')} learned as labelled by the first run.")
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


def _texts_of(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}.") from error


@command("tune")
def tune_settings(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, as for `memspan train`.")],
    search: Annotated[
        list[str],
        typer.Option(metavar="NAME=LOW:HIGH", help="What to look for; also NAME=LOW:HIGH:log and NAME=ONE,OTHER."),
    ],
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Runs at most.")] = 20,
    output: Annotated[str | None, typer.Option(metavar="PATH", help="The folder of trials.json and best.yaml.")] = None,
    as_json: AS_JSON = False,
) -> None:
    """Look for the settings with the lowest loss held out: short runs, the hopeless ones stopped early.

    A field of a mapping has a dot: settings.heads=1,2

    Example: memspan tune run.yaml --trials 30 --search learning_rate=1e-4:1e-2:log --search depth=1:4
    """
    from memspan.training.search import BEST, Trial, parse_search, tune

    run = TrainConfig.load(config) if output is None else TrainConfig.load(config, output=output)

    def tell(trial: Trial) -> None:
        values = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
        print_info(f"trial {trial.number}: {values}: {trial.outcome}, loss {_short(trial.loss)}")

    told = tune(run, parse_search(search), trials, None if as_json else tell)
    if as_json:
        print_json(told.to_dict())
        return
    from rich.table import Table

    table = Table(box=None)
    for name in ("trial", *told.trials[0].values, "loss", "outcome", "measurements"):
        table.add_column(name, justify="right")
    for trial in sorted(told.trials, key=lambda trial: (trial.outcome != "complete", trial.loss or 0.0)):
        values = (_short(value) for value in trial.values.values())
        table.add_row(str(trial.number), *values, _short(trial.loss), trial.outcome, str(trial.measurements))
    print_table(table)
    if run.output is not None:
        print_line(f"{Path(run.output) / BEST} is the best configuration.")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@command("average")
def average_models(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="Folders of models: two or more.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The folder of the mean; it is made.")],
) -> None:
    """Make one model of several whose weights began alike: the mean of them.

    To average what they say instead, use `memspan predict` and `eval` with --with.

    Example: memspan average runs/a/best runs/b/best --into runs/mean
    """
    from memspan.models.ensemble import average

    average(checkpoints, into)
    print_line(f"{into} holds the mean of {count(len(checkpoints), 'model')}.")
