"""Ablation of the memory: the same task and training time for a model with it and one of as many parameters without."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from memspan.errors import UsageError
from memspan.mechanisms import OVER_TURNS
from memspan.plugins import require_installed
from memspan.pretrained.reply_ranker import ReplyRanker
from memspan.tasks import Task, task_class
from memspan.tasks.metrics import mean_and_spread
from memspan.training.build import build_task, count_parameters
from memspan.training.config import SCRATCH, TrainConfig
from memspan.training.fitting import fit
from memspan.training.loop import train
from memspan.training.report import Report

NONE = "no memory"


@dataclass(frozen=True)
class Contender:
    """The results of one kind of model.

    Attributes:
        figures: for each seed, the task's metrics, and the accuracy and bits of single target tokens.
        mean, spread: of the task's main metric over the seeds; the spread is the highest less the lowest.
        parameters: number of weights.
        state_bytes: bytes of one stream's state at its end.
        seconds: CPU time of the training, for each seed.
    """

    name: str
    figures: list[dict[str, float]]
    mean: float
    spread: float
    parameters: int
    state_bytes: int
    seconds: list[float]


@dataclass(frozen=True)
class Comparison:
    """The model with memory and the one without, in this order.

    Attributes:
        metric: name of the task's main metric.
        baselines: the same metric of methods without a neural network.
        baseline_figures: for each seed, the same of the baselines, where they differ by seed.
        intervals: 95 % intervals of the metric of contenders and baselines over the texts, where they were computed.
    """

    task: str
    metric: str
    lower_is_better: bool
    contenders: list[Contender]
    baselines: dict[str, float]
    baseline_figures: list[dict[str, float]] = field(default_factory=list)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """The mean with memory less the one without, positive where the memory is better."""
        difference = self.contenders[0].mean - self.contenders[1].mean
        return -difference if self.lower_is_better else difference

    @property
    def clear(self) -> bool:
        """Whether the memory is better by more than the spread of either over the seeds."""
        return self.gain > self._spread()

    def _spread(self) -> float:
        return max(contender.spread for contender in self.contenders)

    def verdict(self) -> str:
        seeds = len(self.contenders[0].figures)
        if f"{abs(self.gain):.4f}" == "0.0000":
            return f"The memory makes no difference in {self.metric}."
        how = "better" if self.gain > 0 else "worse"
        sure = "more" if abs(self.gain) > self._spread() else "less"
        spread = f", {sure} than the spread of {seeds} seeds" if seeds > 1 else ""
        return f"The memory makes {self.metric} {how} by {abs(self.gain):.4f}{spread}."

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "gain": self.gain, "clear": self.clear}


def compare(
    config: TrainConfig, seeds: Sequence[int], limit: int = 200, note: Callable[[str], None] | None = None
) -> Comparison:
    """Trains `config` and its twin without a memory, once for each seed.

    The twin's feed-forward layers are wider, so that it has as many parameters. Nothing is written.

    Args:
        limit: number of held-out records for the task's own metrics.
        note: called with one line of results after each run.

    Raises UsageError for a configuration without a mechanism.
    """
    if config.model.mechanism is None or config.model.name != SCRATCH:
        raise UsageError("There is no memory to compare: name a `mechanism` of a model from scratch.")
    task = build_task(config)
    require_installed(f"The baseline of the task '{config.task.name}' needs", *task.baseline_packages)
    contenders = []
    for name, variant in ((config.model.mechanism, config), (NONE, without_memory(config, task))):
        figures, seconds, report = [], [], None
        for seed in seeds:
            report = train(variant.replace(seed=seed, output=None, eval_every=10**9), task=task, limit=limit)
            figures.append(_figures(report))
            seconds.append(report.seconds)
            if note is not None:
                results = ", ".join(f"{key} {value:.4f}" for key, value in figures[-1].items())
                note(f"{name}, seed {seed}: {results}")
        assert report is not None
        middle = mean_and_spread([values[task.metric] for values in figures])
        parameters = sum(weight.numel() for weight in report.model.parameters())
        contenders.append(
            Contender(name, figures, middle["mean"], middle["spread"], parameters, report.score.state_bytes, seconds)
        )
    return Comparison(config.task.name, task.metric, task.lower_is_better, contenders, task.baselines(limit))


def compare_fitted(config: TrainConfig, seeds: Sequence[int], note: Callable[[str], None] | None = None) -> Comparison:
    """Fits a ranker of replies, and its twin that sees the last turn of a conversation alone, once for each seed.

    The twin has the same features, parameters and steps; its mechanism begins anew at each turn, and it compares a reply with
    the words of the last turn only. Beside the baselines of the task stands the ranker's network without shared words. Nothing
    is written.

    Raises UsageError for a task without such a ranker.
    """
    if task_class(config.task.name).fitted_by != ReplyRanker.kind:
        raise UsageError("A classifier over features has no memory to compare: leave out `features`.")
    task = build_task(config)
    contenders: list[Contender] = []
    baselines: dict[str, float] = {}
    for name, window in ((config.model.mechanism or OVER_TURNS, config.model.window), (NONE, 1)):
        figures, seconds, report = [], [], None
        for seed in seeds:
            report = fit(config.replace(seed=seed, output=None, window=window), None, task)
            figures.append(report.metrics)
            seconds.append(report.seconds)
            if note is not None:
                note(f"{name}, seed {seed}: {', '.join(f'{key} {value:.4f}' for key, value in report.metrics.items())}")
        assert report is not None
        middle = mean_and_spread([values[task.metric] for values in figures])
        parameters, nbytes = sum(weight.numel() for weight in report.model.parameters()), report.score.state_bytes
        contenders.append(
            Contender(
                name, figures, middle["mean"], middle["spread"], parameters, nbytes if window is None else 0, seconds
            )
        )
        others = report.details["baselines"]
        baselines = baselines or {key: other["metrics"][task.metric] for key, other in others.items()}
    return Comparison(config.task.name, task.metric, task.lower_is_better, contenders, baselines)


def without_memory(config: TrainConfig, task: Task) -> TrainConfig:
    """The twin whose layers see the current window alone, with feed-forward layers wider by the memory's parameters."""
    target = count_parameters(config, task)
    return of_parameters(config.replace(mechanism=None, mechanism_settings={}), task, target)


def of_parameters(config: TrainConfig, task: Task, target: int) -> TrainConfig:
    """The run with feed-forward layers of such a width that the model has `target` parameters, as nearly as that can be."""
    once, twice = (count_parameters(config.replace(feedforward=factor), task) for factor in (1.0, 2.0))
    return config.replace(feedforward=max(0.0, 1 + (target - once) / (twice - once)))


def _figures(report: Report) -> dict[str, float]:
    own, score = report.metrics, report.score
    return {**own, "accuracy" if "accuracy" not in own else "token accuracy": score.accuracy, "bits": score.bits}
