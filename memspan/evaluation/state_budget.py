"""Every mechanism at one budget: at most so many bytes of state, as many weights and seconds of training, the same tasks.

A mechanism gets the largest state that fits the bytes and the weights (`Resizable.settings_of_size`: a recurrent network pays for a
large state with weights, a window does not); feed-forward layers take up the weights that are left. What cannot be compared is
named with the reason.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import torch

from memspan.errors import UsageError
from memspan.evaluation.ablation import of_parameters
from memspan.mechanisms import KVMechanism, Mechanism, mechanism_class, mechanism_names
from memspan.models.scratch import grid
from memspan.state import State, detach, nbytes
from memspan.tasks import Task
from memspan.training.build import build_model, build_task, count_parameters
from memspan.training.config import SCRATCH, TrainConfig
from memspan.training.figures import new_figure
from memspan.training.loop import train
from memspan.training.measure import Score, measure

SIZES: Final = tuple(sorted({2**power for power in range(13)} | {3 * 2**power for power in range(11)}))
ACCURACY: Final = "accuracy"
LEAST_FEEDFORWARD: Final = (
    0.5  # inner width of the feed-forward layers, as a multiple of the width, of a model that fits
)


@dataclass(frozen=True)
class Budget:
    """What a model may have: bytes of the state of one stream, and weights."""

    state_bytes: int
    parameters: int = 300_000

    def __post_init__(self) -> None:
        if self.state_bytes < 1 or self.parameters < 1:
            raise UsageError(
                f"state_bytes and parameters must be at least 1, got {self.state_bytes} and {self.parameters}."
            )


@dataclass(frozen=True)
class Sized:
    """A mechanism with the largest state within the budget.

    Attributes:
        settings: of the mechanism.
        state_bytes: of one stream, at the end of the longest stream that is measured.
    """

    mechanism: str
    settings: dict[str, Any]
    config: TrainConfig
    state_bytes: int


@dataclass(frozen=True)
class Outcome:
    """A mechanism on a task, the mean over the seeds.

    Attributes:
        value: the task's main metric; of a task measured by accuracy, the mean over the lengths.
        spread: the highest of the seeds less the lowest.
        accuracy: by the tokens of a stream.
        state_bytes: by the tokens of a stream.
        training_speed: tokens a second of CPU time.
        steps: optimizer steps of a seed.
    """

    task: str
    mechanism: str
    settings: dict[str, Any]
    value: float
    spread: float
    accuracy: dict[int, float]
    state_bytes: dict[int, int]
    parameters: int
    training_speed: float
    steps: int


@dataclass(frozen=True)
class BudgetComparison:
    """All mechanisms on all tasks.

    Attributes:
        metrics: by task, the name of its main metric and whether a lower value is better.
        outcomes: those of a task together, the best first.
        left_out: by task, why a mechanism is not compared.
    """

    budget: Budget
    metrics: dict[str, tuple[str, bool]]
    outcomes: list[Outcome]
    left_out: dict[str, dict[str, str]]

    @property
    def choice(self) -> str | None:
        """The mechanism of the best mean rank over the tasks that it was compared on; None where there is none."""
        ranks: dict[str, list[int]] = {}
        for task in self.metrics:
            for rank, outcome in enumerate(self.of(task)):
                ranks.setdefault(outcome.mechanism, []).append(rank)
        everywhere = {name: values for name, values in ranks.items() if len(values) == len(self.metrics)} or ranks
        return min(everywhere, key=lambda name: statistics.mean(everywhere[name]), default=None)

    def of(self, task: str) -> list[Outcome]:
        """The outcomes of a task, the best first."""
        return [outcome for outcome in self.outcomes if outcome.task == task]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "choice": self.choice}


def compare_at_budget(
    config: TrainConfig,
    budget: Budget,
    tasks: Sequence[str],
    lengths: Sequence[int],
    seeds: Sequence[int],
    limit: int = 200,
    note: Callable[[str], None] | None = None,
) -> BudgetComparison:
    """Trains every mechanism that fits, once for each task and seed. Nothing is written.

    Args:
        config: of each run but for the task, the mechanism and the seed.
        tasks: names; they share the settings and data of `config`.
        lengths: segments of the held-out streams; the state must fit the budget in the longest.
        limit: held-out records for a task's own metrics.
        note: called with a line of results after each run.

    Raises UsageError for a pretrained model, for settings of a mechanism, and for tasks, lengths or seeds that are none.
    """
    _check(config, tasks, lengths, seeds)
    metrics, outcomes, left_out = {}, [], {}
    for name in tasks:
        of_task = config.replace(task=name)
        task = build_task(of_task)
        metrics[name] = task.metric, task.lower_is_better
        left_out[name] = dict[str, str]()
        fitting = []
        for mechanism in mechanism_names():
            try:
                fitting.append(fit(of_task, task, mechanism, budget, max(lengths)))
            except UsageError as error:
                left_out[name][mechanism] = str(error)
        results = []
        for sized in fitting:
            try:
                results.append(_outcome(sized, task, budget.parameters, lengths, seeds, limit))
            except UsageError as error:
                left_out[name][sized.mechanism] = str(error)
                continue
            if note is not None:
                note(f"{name}, {sized.mechanism}: {task.metric} {results[-1].value:.4f}")
        outcomes += sorted(results, key=lambda result: result.value if task.lower_is_better else -result.value)
    return BudgetComparison(budget, metrics, outcomes, left_out)


def fit(config: TrainConfig, task: Task, mechanism: str, budget: Budget, segments: int) -> Sized:
    """The mechanism with the largest state that fits the budget at the end of a stream of so many segments.

    A mechanism over keys and values sees the current segment by itself, and stands alone in its layer.

    Raises UsageError for one that does not suit the task, or whose smallest state or model is too large.
    """
    cls = mechanism_class(mechanism)
    if task.causal and issubclass(cls, Mechanism) and not cls.causal:
        raise UsageError("It sees later tokens, and the task is to be solved from left to right.")
    alone: dict[str, Any] = {"window": 0} if issubclass(cls, KVMechanism) and config.model.window is None else {}
    best, reason = None, "its settings do not suit this model"
    sizes = _settings(cls)
    while sizes:  # bisection: weights and state grow with the size
        middle = len(sizes) // 2
        sized = config.replace(mechanism=mechanism, mechanism_settings=sizes[middle], **alone)
        try:
            weights = count_parameters(sized.replace(feedforward=LEAST_FEEDFORWARD), task)
            used = state_bytes(sized, task, segments) if weights <= budget.parameters else 0
        except UsageError:  # a size that does not go with the width
            del sizes[middle]
            continue
        if weights > budget.parameters:
            reason, sizes = f"its smallest model has {weights:,} weights", sizes[:middle]
        elif used > budget.state_bytes:
            reason, sizes = f"its smallest state has {used:,} bytes", sizes[:middle]
        else:
            best, sizes = Sized(mechanism, sizes[middle], sized, used), sizes[middle + 1 :]
    if best is None:
        raise UsageError(f"It does not fit: {reason}.")
    return best


def _settings(cls: Any) -> list[dict[str, Any]]:
    """The settings of a class by size, the smallest first; those by default where no setting bounds the state."""
    by_size = takewhile(lambda settings: settings is not None, map(cls.settings_of_size, SIZES))
    return list(by_size) or [{}]


@torch.no_grad()
def state_bytes(config: TrainConfig, task: Task, segments: int) -> int:
    """The bytes of a stream's state behind so many segments, of a model that is built for it and dropped."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(config, task).eval()
        ids = torch.randint(task.vocabulary, (1, segments * task.segment))
    state: State = None
    step = task.segment if task.segment % grid(model) == 0 else ids.shape[1]
    for part in torch.split(ids, step, 1):
        _, state = model(part, state, 0)
    return nbytes(detach(state))  # as it is measured


def _outcome(
    sized: Sized, task: Task, parameters: int, lengths: Sequence[int], seeds: Sequence[int], limit: int
) -> Outcome:
    """The mechanism trained from each seed and measured."""
    config = of_parameters(sized.config, task, parameters)
    scores: list[list[Score]] = []
    values, speeds, steps, weights = [], [], [], 0
    for seed in seeds:
        report = train(config.replace(seed=seed, output=None, eval_every=10**9), task=task, limit=limit)
        scores.append([measure(report.model, task, length, config.optimisation.batch_size) for length in lengths])
        own = {} if task.metric == ACCURACY else report.metrics
        values.append(own.get(task.metric, _mean(scores[-1], task.metric)))
        speeds.append(report.tokens / report.seconds)
        steps.append(report.step)
        weights = sum(weight.numel() for weight in report.model.parameters())
    columns = list(zip(*scores, strict=True))
    return Outcome(
        task=config.task.name,
        mechanism=sized.mechanism,
        settings=sized.settings,
        value=statistics.mean(values),
        spread=max(values) - min(values),
        accuracy={column[0].distance: statistics.mean(score.accuracy for score in column) for column in columns},
        state_bytes={column[0].distance: column[0].state_bytes for column in columns},
        parameters=weights,
        training_speed=statistics.mean(speeds),
        steps=round(statistics.mean(steps)),
    )


def _mean(scores: Sequence[Score], metric: str) -> float:
    """The mean over the lengths of a figure that every score has."""
    return statistics.mean(float(getattr(score, metric)) for score in scores)


def _check(config: TrainConfig, tasks: Sequence[str], lengths: Sequence[int], seeds: Sequence[int]) -> None:
    if config.model.name != SCRATCH:
        raise UsageError(f"Mechanisms are compared in a model from scratch, got the model '{config.model.name}'.")
    if config.model.mechanism is not None or config.model.layers:
        raise UsageError("All mechanisms are compared: leave out `mechanism`, its settings, and `layers`.")
    if not (tasks and lengths and seeds) or min(lengths) < 1:
        raise UsageError(f"There must be tasks, seeds and lengths of at least 1 segment, got lengths={list(lengths)}.")


def plot(comparison: BudgetComparison, path: str | Path) -> None:
    """Accuracy against the length of a stream, a panel for each task. Raises UsageError without matplotlib."""
    tasks = list(comparison.metrics)
    figure = new_figure(5.5 * len(tasks), 4)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for number, outcome in enumerate(comparison.of(task)):
            style = "-" if number < 10 else "--"
            axes.plot(
                list(outcome.accuracy), list(outcome.accuracy.values()), style, marker="o", label=outcome.mechanism
            )
        axes.set(title=task, xlabel="tokens of a stream", ylabel="accuracy", xscale="log", ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"The plot cannot be written to {path}: {error}.") from error
