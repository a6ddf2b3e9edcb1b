"""Comparison of a classifier with a memory over the segments of long texts to its twin, which reads the first segment alone.

Both have the same pretrained features, the same mechanism with as many parameters, and as many steps of training.
"""

from collections.abc import Callable, Sequence

import numpy as np

from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE, Comparison, Contender
from memspan.plugins import require_installed
from memspan.pretrained.segment_classifier import MEAN, SegmentClassifier
from memspan.tasks import Classification
from memspan.tasks.metrics import mean_and_spread
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.fitting import classification_of, fit

SAME = "the same features"  # in the name of the baseline over them


def compare_over_segments(
    config: TrainConfig, seeds: Sequence[int], limit: int | None = None, note: Callable[[str], None] | None = None
) -> Comparison:
    """Fits both classifiers once for each seed. Nothing is written.

    A seed is that of the memory's training, and without test files also that of the records that are held out. The baselines
    are those of the task, and a linear model over the mean of the same features over all segments, each the mean over the
    seeds.

    Args:
        limit: maximum number of held-out records; None measures on all.
        note: called with one line of results after each measurement.

    Raises UsageError for a run without a mechanism.
    """
    if config.model.mechanism is None:
        raise UsageError(
            "A classifier over features has no memory to compare: name a `mechanism`, which reads the segments of a text."
        )
    figures: dict[str, list[dict[str, float]]] = {config.model.mechanism: [], NONE: []}
    seconds: dict[str, list[float]] = {name: [] for name in figures}
    sizes: dict[str, tuple[int, int]] = {}
    baselines: list[dict[str, float]] = []
    intervals: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        run = _of_seed(config, seed)
        task = _limited(classification_of(run, build_task(run)), limit)
        require_installed(f"The baseline of the task '{config.task.name}' needs", *task.baseline_packages)
        for name in figures:
            report = fit(run, task=task, first_alone=name == NONE)
            model = report.model
            assert isinstance(model, SegmentClassifier)
            sizes[name] = (model.memory_parameters, model.state_bytes(_held_out(task)))
            figures[name].append(report.metrics)
            seconds[name].append(report.seconds)
            intervals.setdefault(name, []).append(report.details["intervals"][task.metric])
            if name != NONE:
                baselines.append({})
                for other, predicted in _without_memory(task, model).items():
                    baselines[-1][other] = task.compute_metrics(task.held_out_records, predicted)[task.metric]
                    interval = task.intervals(task.held_out_records, predicted)[task.metric]
                    intervals.setdefault(other, []).append(interval)
            if note is not None:
                note(f"{name}, seed {seed}: {', '.join(f'{key} {value:.4f}' for key, value in report.metrics.items())}")
    contenders = [_contender(name, figures[name], task.metric, sizes[name], seconds[name]) for name in figures]
    means = {name: float(np.mean([values[name] for values in baselines])) for name in baselines[0]}
    limits = {name: (float(low), float(high)) for name, found in intervals.items() for low, high in [np.mean(found, 0)]}
    return Comparison(config.task.name, task.metric, task.lower_is_better, contenders, means, baselines, limits)


def _of_seed(config: TrainConfig, seed: int) -> TrainConfig:
    """The run with this seed, which also chooses the records that are held out where there are no test files."""
    settings = dict(config.task.settings)
    if not settings.get("test"):
        settings["split_seed"] = seed
    return config.replace(seed=seed, output=None, task_settings=settings)


def _limited(task: Classification, limit: int | None) -> Classification:
    return task if limit is None else task.with_records(held_out=task.some_held_out(limit))


def _without_memory(task: Classification, model: SegmentClassifier) -> dict[str, list[str]]:
    """The predictions of the task's baselines, and of the classifier without its memory."""
    mean = [task.labels[number] for number in model.without_memory(_held_out(task))]
    return {**task.baseline_predictions(task.held_out_records), f"{MEAN}, {SAME}": mean}


def _held_out(task: Classification) -> list[str]:
    return task.labelled_texts(task.held_out_records)[0]


def _contender(
    name: str, figures: list[dict[str, float]], metric: str, sizes: tuple[int, int], seconds: list[float]
) -> Contender:
    middle = mean_and_spread([values[metric] for values in figures])
    return Contender(name, figures, middle["mean"], middle["spread"], *sizes, seconds)
