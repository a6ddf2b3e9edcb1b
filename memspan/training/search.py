"""Looking for the settings with the lowest loss on streams held out: many short runs, the hopeless ones stopped early."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspan.errors import Diverged, MemspanError, UsageError
from memspan.folders import check_output
from memspan.training.config import TrainConfig, parse_settings
from memspan.training.distributed import check_alone
from memspan.training.loop import TrainProgress, train

if TYPE_CHECKING:
    import optuna

BEST, TRIALS = "best.yaml", "trials.json"


@dataclass(frozen=True)
class Range:
    """Values of a field: those of `choices`, or any from `low` to `high`, whole where both are, on a log scale or not."""

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
    """One run.

    Attributes:
        values: of the fields that were looked for.
        outcome: "complete", "pruned" because its loss was above the median of the others, or "failed".
        loss: the lowest held out; None of a run that failed before a measurement.
        measurements: that were made of it.
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
    """`["learning_rate=1e-4:1e-2:log", "depth=1:4", "settings.heads=1,2"]` -> the range of each field.

    Raises UsageError for one that cannot be read, or a field that there is not.
    """
    found, known = {}, [one.name for one in fields(TrainConfig)]
    for text in texts:
        name, equals, told = text.partition("=")
        if not equals or not told:
            raise UsageError(f"'{text}' is no range: write NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=ONE,OTHER.")
        if name.split(".")[0] not in known:
            raise UsageError(f"A training run has no field '{name}'. Known: {', '.join(known)}.")
        ends = told.split(":")
        values = list(parse_settings([f"{place}={one}" for place, one in enumerate(ends[:2])]).values())
        if len(ends) == 1:
            choices = [parse_settings([f"value={one}"])["value"] for one in told.split(",")]
            found[name] = Range(choices=choices)
            continue
        log = ends[2:] == ["log"]
        if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values) or (ends[2:] and not log):
            raise UsageError(f"'{text}' is no range of numbers: write NAME=LOW:HIGH or NAME=LOW:HIGH:log.")
        if not values[0] < values[1] or (log and values[0] <= 0):
            raise UsageError(f"'{text}' is empty: the first number is below the second, and above 0 on a log scale.")
        found[name] = Range(values[0], values[1], log)
    return found


def tune(
    config: TrainConfig,
    search: Mapping[str, Range],
    trials: int = 20,
    on_trial: Callable[[Trial], None] | None = None,
) -> Tuning:
    """Trains `config` with so many settings, each chosen after those before.

    Settings are proposed by the tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna, from the seed of
    `config`; a run whose loss at a measurement is above the median of the earlier ones at theirs is stopped there, once
    five runs are complete. No run leaves a folder; where `config` has an output, the trials and the best configuration
    are written there.

    Raises:
        UsageError: Optuna is not installed; nothing to look for; no run came to an end.
    """
    check_alone("Tuning")
    if config.output is not None:
        check_output(Path(config.output))
    try:
        import optuna
    except ImportError as error:
        raise UsageError("Tuning needs Optuna: pip install 'memspan[tune]'.") from error
    if not search:
        raise UsageError("Nothing to look for: name a field and its range, e.g. learning_rate=1e-4:1e-2:log.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler, pruner = optuna.samplers.TPESampler(seed=config.seed), optuna.pruners.MedianPruner()
    study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    failures: list[MemspanError] = []

    def run(trial: optuna.Trial) -> float:
        measured = 0

        def look(at: TrainProgress) -> None:
            nonlocal measured
            if at.held_out is not None:
                measured += 1
                trial.report(at.held_out, measured)
                if trial.should_prune():
                    raise optuna.TrialPruned

        changes = {name: one.draw(trial, name) for name, one in search.items()}
        try:
            return train(changed(config, {**changes, "output": None, "tracker": None}), look).best_loss
        except (UsageError, Diverged) as error:  # of these values; others may do
            failures.append(error)
            raise

    def tell(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if on_trial is not None:
            on_trial(_told(trial))

    study.optimize(run, n_trials=trials, callbacks=[tell], catch=(UsageError, Diverged))
    done = [_told(trial) for trial in study.trials]
    if not any(trial.outcome == "complete" for trial in done):
        raise UsageError(f"No run came to an end; the last one failed so: {failures[-1]}")
    tuning = Tuning(done, changed(config, study.best_params))
    if config.output is not None:
        folder = Path(config.output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / TRIALS).write_text(json.dumps(tuning.to_dict(), indent=2) + "\n", "utf-8")
            tuning.best.replace(output=str(folder / "run")).save(folder / BEST)
        except OSError as error:
            raise MemspanError(f"The trials cannot be written to {folder}: {error}.") from error
    return tuning


def changed(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """`config` with other values; "settings.heads" is the value `heads` in the mapping `settings`."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        field, dot, key = name.partition(".")
        if not dot:
            changes[name] = value
            continue
        before = changes.get(field, getattr(config, field))
        if not isinstance(before, Mapping):
            raise UsageError(f"'{name}' cannot be: {field} is no mapping.")
        changes[field] = {**before, key: value}
    return config.replace(**changes)


def _told(trial: "optuna.trial.FrozenTrial") -> Trial:
    values = list(trial.intermediate_values.values())
    outcome = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    lowest = trial.value if outcome == "complete" else min(values, default=None)
    return Trial(trial.number, dict(trial.params), outcome, lowest, len(values))
