"""Hyperparameter search: many short runs for the lowest held-out loss, with hopeless ones stopped early."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspan.errors import Diverged, MemspanError, UsageError
from memspan.models.folders import check_output
from memspan.plugins import require_installed
from memspan.training.config import TrainConfig, all_options
from memspan.training.distributed import check_alone
from memspan.training.loop import train
from memspan.training.options import parse_settings
from memspan.training.report import TrainProgress

if TYPE_CHECKING:
    import optuna

BEST, TRIALS = "best.yaml", "trials.json"


@dataclass(frozen=True)
class Range:
    """Values of an option: those of `choices`, or any from `low` to `high`, whole numbers where both ends are."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: Sequence[Any] = ()

    def draw(self, trial: "optuna.Trial", name: str) -> Any:
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Trial:
    """One run of the search.

    Attributes:
        values: of the options that are searched.
        outcome: "complete", "pruned" because its loss was above the median of the others, or "failed".
        loss: the lowest held-out loss; None for a run that failed before its first measurement.
        measurements: how many were made.
    """

    number: int
    values: dict[str, Any]
    outcome: str
    loss: float | None
    measurements: int


@dataclass(frozen=True)
class Tuning:
    """All trials, and the configuration of the best one."""

    trials: list[Trial]
    best: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        return {"best": self.best.to_dict(), "trials": [asdict(trial) for trial in self.trials]}


def parse_search(texts: Sequence[str]) -> dict[str, Range]:
    """`["learning_rate=1e-4:1e-2:log", "depth=1:4", "mechanism_settings.heads=1,2"]` -> the range of each option.

    Raises UsageError for one that cannot be read, or an unknown option.
    """
    ranges, names = {}, [item.name for item in all_options()]
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"A range must be NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=FIRST,SECOND, got '{text}'.")
        if name.split(".")[0] not in names:
            raise UsageError(f"A training run has no option '{name}'. Options: {', '.join(names)}.")
        ranges[name] = _range(text, values)
    return ranges


def _range(text: str, values: str) -> Range:
    """The range that `values`, what stands behind the `=` of `text`, spells."""
    ends = values.split(":")
    if len(ends) == 1:
        return Range(choices=[_value(choice) for choice in values.split(",")])
    low, high, *scale = (_value(ends[0]), _value(ends[1]), *ends[2:])
    log = scale == ["log"]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or (scale and not log):
        raise UsageError(f"A range of numbers must be NAME=LOW:HIGH or NAME=LOW:HIGH:log, got '{text}'.")
    if not low < high or (log and low <= 0):
        raise UsageError(f"The first number of '{text}' must be below the second, and above 0 on a log scale.")
    return Range(low, high, log)


def _value(text: str) -> Any:
    return parse_settings([f"value={text}"])["value"]


def tune(
    config: TrainConfig,
    search: Mapping[str, Range],
    trials: int = 20,
    on_trial: Callable[[Trial], None] | None = None,
) -> Tuning:
    """Trains `config` once per trial, with values of the options in `search` chosen from the results so far.

    Settings are proposed by the tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna, from the seed of
    `config`; a run whose loss at a measurement is above the median of the earlier ones at theirs is stopped there, once
    five runs are complete. No run leaves a folder; where `config` has an output, the trials and the best configuration
    are written there.

    Raises:
        UsageError: Optuna is not installed; nothing to search; no run came to an end.
    """
    check_alone("Tuning")
    if config.run.output is not None:
        check_output(Path(config.run.output))
    require_installed("Tuning needs", "optuna")
    import optuna

    if not search:
        raise UsageError("The search needs an option and its range, e.g. learning_rate=1e-4:1e-2:log.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler, pruner = optuna.samplers.TPESampler(seed=config.run.seed), optuna.pruners.MedianPruner()
    study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    objective = _Objective(config, search)

    def notify(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if on_trial is not None:
            on_trial(_trial(trial))

    study.optimize(objective, n_trials=trials, callbacks=[notify], catch=(UsageError, Diverged))
    done = [_trial(trial) for trial in study.trials]
    if not any(trial.outcome == "complete" for trial in done):
        raise UsageError(f"No run came to an end; the last one failed so: {objective.failures[-1]}")
    tuning = Tuning(done, changed(config, study.best_params))
    if config.run.output is not None:
        _save(tuning, Path(config.run.output))
    return tuning


class _Objective:
    """The lowest held-out loss of a run with the values that a trial proposes."""

    def __init__(self, config: TrainConfig, search: Mapping[str, Range]) -> None:
        self.config, self.search = config, search
        self.failures: list[MemspanError] = []

    def __call__(self, trial: "optuna.Trial") -> float:
        from optuna import TrialPruned

        measurements = 0

        def report(at: TrainProgress) -> None:
            nonlocal measurements
            if at.held_out is not None:
                measurements += 1
                trial.report(at.held_out, measurements)
                if trial.should_prune():
                    raise TrialPruned

        changes = {name: values.draw(trial, name) for name, values in self.search.items()}
        try:
            return train(changed(self.config, {**changes, "output": None, "tracker": None}), report).best_loss
        except (UsageError, Diverged) as error:  # of these values; others may do
            self.failures.append(error)
            raise


def _save(tuning: Tuning, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRIALS).write_text(json.dumps(tuning.to_dict(), indent=2) + "\n", "utf-8")
        tuning.best.replace(output=str(folder / "run")).save(folder / BEST)
    except OSError as error:
        raise MemspanError(f"The trials cannot be written to {folder}: {error}.") from error


def changed(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """`config` with other values; "task_settings.facts" is the key `facts` in the mapping `task_settings`."""
    options = config.options()
    changes: dict[str, Any] = {}
    for name, value in values.items():
        option, dot, key = name.partition(".")
        if not dot:
            changes[name] = value
            continue
        before = changes.get(option, options.get(option))
        if not isinstance(before, Mapping):
            raise UsageError(f"'{name}' must name a key of a mapping, and {option} is none.")
        changes[option] = {**before, key: value}
    return config.replace(**changes)


def _trial(trial: "optuna.trial.FrozenTrial") -> Trial:
    values = list(trial.intermediate_values.values())
    outcome = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    lowest = trial.value if outcome == "complete" else min(values, default=None)
    return Trial(trial.number, dict(trial.params), outcome, lowest, len(values))
