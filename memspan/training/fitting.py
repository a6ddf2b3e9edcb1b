"""Training of classifiers that are fitted at once: frozen features, and a linear model over them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspan.models.folders import replaced
from memspan.plugins import require_installed
from memspan.pretrained.feature_classifier import FeatureClassifier
from memspan.pretrained.features import AUTO, choose
from memspan.pretrained.reply_ranker import DEFAULT as REPLY_FEATURES
from memspan.pretrained.reply_ranker import ReplyRanker
from memspan.pretrained.segment_classifier import Reading, SegmentClassifier, fit_suitable
from memspan.tasks import Classification, Task, require, task_class
from memspan.tasks.text.dialogue import Dialogue
from memspan.training.build import CONFIG, build_model, build_task, sources_of
from memspan.training.config import RECOMMENDER, TrainConfig
from memspan.training.loop import checkpoint_of
from memspan.training.measure import Score
from memspan.training.report import BEST, LAST, Report

MOST_WRONG, MOST_CONFUSED = 10, 10  # that a report shows
SHOWN = 200  # characters of a text in it

Progress = Callable[[str, int, int], None]  # what is computed, how many texts are done, and all of them


def fit(
    config: TrainConfig,
    on_progress: Progress | None = None,
    task: Task | None = None,
    resume: bool = False,
    first_alone: bool = False,
) -> Report:
    """Fits a classifier on the features that `config` names, and measures it on the held-out records.

    Features of texts are stored in the cache folder as they are computed, so that a call that was interrupted goes on where
    it was.

    Args:
        on_progress: called as features are computed.
        task: the run's task, where it was built before; None builds it from `config`.
        resume: fit anew where the output folder holds a run.
        first_alone: read the first segment of every text alone, as the twin without a memory does.

    Raises UsageError for a task whose answers are no classes, and for an output folder that holds a run.
    """
    if config.model.name == RECOMMENDER:
        from memspan.training.recommending import fit_recommender

        return fit_recommender(config, on_progress, task, resume)
    if task_class(config.task.name).fitted_by == ReplyRanker.kind:
        from memspan.training.reply_fitting import fit_replies

        task = build_task(config) if task is None else task
        return fit_replies(with_suitable_features(config, task)[0], on_progress, task, resume)
    require_installed("A classifier over features needs", "sklearn", "scipy")
    checkpoint_of(config, resume)
    began = time.process_time()
    classification = classification_of(config, build_task(config) if task is None else task)
    config, _ = with_suitable_features(config, classification)
    model = build_model(config, classification)
    assert isinstance(model, FeatureClassifier)
    way = reading(config, classification, first_alone)
    trained = classification.labelled_texts(classification.records)
    model, fitted = fit_suitable(model, *trained, way, classification.balance, on_progress)
    if classification.outside is not None:
        threshold = fitted.threshold(classification.reject)
        model.config = replace(model.config, outside=classification.outside, threshold=threshold)
    texts, labels = classification.labelled_texts(classification.held_out_records)
    logs = model.log_probabilities(texts)
    report = _report(config, classification, model, texts, np.array(labels), logs, time.process_time() - began)
    settings = {"strength": fitted.strength, "balanced": fitted.balanced, "threshold": model.config.threshold}
    report.details["settings"] = settings
    if isinstance(model, SegmentClassifier):
        report.details["segments"] = model.described()
    if report.folder is not None:
        _save(report, classification)
    return report


def classification_of(config: TrainConfig, task: Task) -> Classification:
    """The task of a run, whose answers are classes. Raises UsageError for another."""
    no_classes = f"The task '{config.task.name}' writes texts; `features` are for tasks whose answers are classes."
    return require(task, Classification, no_classes)


def with_suitable_features(config: TrainConfig, task: Task) -> tuple[TrainConfig, dict[str, str]]:
    """The run with kinds of features in place of "auto": those that suit the texts; and why the other kinds do not."""
    if list(config.model.features) != [AUTO]:
        return config, {}
    if task.fitted_by == ReplyRanker.kind:
        dialogue = require(task, Dialogue, "Only a dialogue has replies to rank.")
        turns = list(dialogue.texts(dialogue.records))
        kinds, left_out = choose(turns, sources_of(config), REPLY_FEATURES)
        return config.replace(features=kinds), left_out
    classification = classification_of(config, task)
    texts, _ = classification.labelled_texts(classification.records)
    kinds, left_out = choose(texts, sources_of(config))
    return config.replace(features=kinds), left_out


def reading(config: TrainConfig, task: Classification, first_alone: bool = False) -> Reading:
    """How the run reads texts that are longer than a segment of its task."""
    mechanism = config.model.mechanism
    named = {} if mechanism is None else {"name": mechanism, **config.model.mechanism_settings}
    return Reading(task.segment, named, first_alone, config.run.seed)


def _report(
    config: TrainConfig,
    task: Classification,
    model: FeatureClassifier,
    texts: Sequence[str],
    labels: NDArray[Any],
    logs: NDArray[np.float32],
    seconds: float,
) -> Report:
    predicted = logs.argmax(1)
    right = predicted == labels
    others = task.baseline_predictions(task.held_out_records)
    loss = float(-np.maximum(logs[np.arange(len(labels)), labels], -30.0).mean())
    names = [task.labels[number] for number in predicted]
    score = Score(
        segments=config.task.segments,
        distance=0,
        accuracy=float(right.mean()),
        loss=loss,
        bits=loss / np.log(2),
        targets=len(labels),
        state_bytes=0,
        tokens_per_second=0.0,
    )
    return Report(
        config=config,
        stopped="fitted",
        step=0,
        tokens=0,
        seconds=seconds,
        score=score,
        metrics=task.compute_metrics(task.held_out_records, names),
        best_step=0,
        best_loss=loss,
        history=[],
        folder=None if config.run.output is None else Path(config.run.output),
        model=model.eval(),
        details={
            "texts": {"trained on": len(task.records), "held out": len(texts)},
            "metric": task.metric,
            "intervals": task.intervals(task.held_out_records, names),
            "baselines": {
                name: {
                    "metrics": task.compute_metrics(task.held_out_records, baseline),
                    "intervals": task.intervals(task.held_out_records, baseline),
                }
                for name, baseline in others.items()
            },
            "features": list(config.model.features),
            "left out": task.left_out,
            "confused": _confused(task, labels, predicted),
            "wrong": _wrong(task, texts, labels, logs),
        },
    )


def _confused(task: Classification, labels: NDArray[Any], predicted: NDArray[Any]) -> list[list[Any]]:
    """The right label, the predicted one and how often, most frequent first."""
    pairs = Counter((int(a), int(b)) for a, b in zip(labels, predicted, strict=True) if a != b)
    return [[task.labels[a], task.labels[b], count] for (a, b), count in pairs.most_common(MOST_CONFUSED)]


def _wrong(
    task: Classification, texts: Sequence[str], labels: NDArray[Any], logs: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """The texts of which the model is surest of a wrong label."""
    predicted = logs.argmax(1)
    sure = np.exp(logs.max(1))
    wrong = sorted(np.flatnonzero(predicted != labels).tolist(), key=lambda index: -sure[index])[:MOST_WRONG]
    return [
        {
            "text": " ".join(texts[index].split())[:SHOWN],
            "label": task.labels[labels[index]],
            "prediction": task.labels[predicted[index]],
            "probability": round(float(sure[index]), 3),
        }
        for index in wrong
    ]


def _save(report: Report, task: Classification) -> None:
    assert report.folder is not None
    for name in (BEST, LAST):
        with replaced(report.folder / name) as folder:
            report.model.save_pretrained(folder)
            report.config.save(folder / CONFIG)
            task.save(folder)
    report.save(report.folder)
