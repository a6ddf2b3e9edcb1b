"""A memory against none: the same task, the same time, as many parameters."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memspan.errors import UsageError
from memspan.tasks.metrics import mean_and_spread
from memspan.training.config import SCRATCH, TrainConfig
from memspan.training.loop import Report, train

NONE = "no memory"


@dataclass(frozen=True)
class Contender:
    """What one kind of model reached.

    Attributes:
        figures: of each seed: the task's metrics, and accuracy, loss and bits of what is asked token by token.
        mean, spread: of the metric that counts; the spread is the distance from the lowest to the highest.
        state_bytes: of the memory of one stream at its end.
        seconds: of CPU time for training, of each seed.
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
    """With memory first, then without.

    Attributes:
        metric: the one that counts.
        baselines: the same metric by ways that need no neural network.
    """

    task: str
    metric: str
    lower_is_better: bool
    contenders: list[Contender]
    baselines: dict[str, float]

    @property
    def gain(self) -> float:
        """By how much the memory is better; below 0, worse."""
        difference = self.contenders[0].mean - self.contenders[1].mean
        return -difference if self.lower_is_better else difference

    @property
    def clear(self) -> bool:
        """Whether the memory is better by more than either spreads from seed to seed."""
        return self.gain > max(one.spread for one in self.contenders)

    def verdict(self) -> str:
        seeds = len(self.contenders[0].figures)
        how = "better" if self.gain > 0 else "worse"
        sure = "more" if abs(self.gain) > max(one.spread for one in self.contenders) else "less"
        spread = f", {sure} than the spread of {seeds} seeds" if seeds > 1 else ""
        return f"The memory makes {self.metric} {how} by {abs(self.gain):.4f}{spread}."

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "gain": self.gain, "clear": self.clear}


def compare(
    config: TrainConfig, seeds: Sequence[int], limit: int = 200, note: Callable[[str], None] | None = None
) -> Comparison:
    """Trains `config` and its twin without a memory from each seed.

    The twin has a feed-forward part so much wider that it has as many parameters. Outputs are not written.

    Args:
        limit: records held out that the task's own metrics are measured on.
        note: called with a line after each run.

    Raises UsageError for a configuration without a mechanism.
    """
    if config.mechanism is None or config.model != SCRATCH:
        raise UsageError("There is no memory to compare: name a `mechanism` of a model from scratch.")
    task = config.make_task()
    contenders = []
    for name, one in ((config.mechanism, config), (NONE, without_memory(config))):
        figures, seconds, report = [], [], None
        for seed in seeds:
            report = train(one.replace(seed=seed, output=None, eval_every=10**9))
            figures.append(_figures(report, limit))
            seconds.append(report.seconds)
            if note is not None:
                told = ", ".join(f"{key} {value:.4f}" for key, value in figures[-1].items())
                note(f"{name}, seed {seed}: {told}")
        assert report is not None
        middle = mean_and_spread([each[task.metric] for each in figures])
        parameters = sum(weight.numel() for weight in report.model.parameters())
        contenders.append(
            Contender(name, figures, middle["mean"], middle["spread"], parameters, report.score.state_bytes, seconds)
        )
    return Comparison(config.task, task.metric, task.lower_is_better, contenders, task.baselines(limit))


def without_memory(config: TrainConfig) -> TrainConfig:
    """The twin that sees the current window alone, its feed-forward part wider by what the memory weighs."""
    wanted = _parameters(config)
    bare = config.replace(mechanism=None, settings={})
    one, two = (_parameters(bare.replace(feedforward=factor)) for factor in (1.0, 2.0))
    return bare.replace(feedforward=max(0.0, 1 + (wanted - one) / (two - one)))


def _parameters(config: TrainConfig) -> int:
    return sum(one.numel() for one in config.make_model(config.make_task()).parameters())


def _figures(report: Report, limit: int) -> dict[str, float]:
    task = report.config.make_task()
    score = report.score
    own = task.score(report.model, report.config.segments, limit)
    return {**own, "accuracy" if "accuracy" not in own else "token accuracy": score.accuracy, "bits": score.bits}
