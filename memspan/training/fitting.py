"""Training of classifiers that are fitted at once: frozen features, and a linear model over them."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from memspan.plugins import require_installed
from memspan.pretrained.feature_classifier import FeatureClassifier
from memspan.pretrained.feature_regressor import FeatureRegressor
from memspan.pretrained.feature_tagger import FeatureTagger
from memspan.pretrained.features import AUTO, choose
from memspan.pretrained.reply_ranker import DEFAULT as REPLY_FEATURES
from memspan.pretrained.reply_ranker import ReplyRanker
from memspan.pretrained.segment_classifier import Reading, SegmentClassifier, fit_suitable
from memspan.tasks import Classification, Labelled, Task, require, task_class
from memspan.tasks.text.dialogue import Dialogue
from memspan.training.build import build_model, build_task, sources_of
from memspan.training.config import RECOMMENDER, TrainConfig
from memspan.training.loop import checkpoint_of
from memspan.training.report import HeldOut, Report, report_fitted, save_fitted
from memspan.training.summary import summary

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
    labelled = labelled_of(config, build_task(config) if task is None else task)
    config, _ = with_suitable_features(config, labelled)
    model = build_model(config, labelled)
    texts, targets = labelled.labelled_texts(labelled.records)
    details: dict[str, Any]
    if isinstance(model, FeatureTagger | FeatureRegressor):
        details = {"settings": model.fit_targets(texts, targets, labelled.balance, on_progress)}
    else:
        assert isinstance(model, FeatureClassifier)
        classification = require(labelled, Classification, _NO_CLASSES.format(config.task.name))
        model, details = _fit_labels(model, classification, reading(config, classification, first_alone), on_progress)
    report = _report(config, labelled, model, details, time.process_time() - began)
    save_fitted(report, labelled)
    return report


_NO_CLASSES = "The task '{}' writes texts; `features` are for tasks whose answers are classes."


def _fit_labels(
    model: FeatureClassifier, task: Classification, way: Reading, on_progress: Progress | None
) -> tuple[FeatureClassifier, dict[str, Any]]:
    """The fitted model, with the threshold below which a text has none of the labels; and what a report says of it."""
    model, fitted = fit_suitable(model, *task.labelled_texts(task.records), way, task.balance, on_progress)
    if task.outside is not None:
        model.config = replace(model.config, outside=task.outside, threshold=fitted.threshold(task.reject))
    settings = {"strength": fitted.strength, "balanced": fitted.balanced, "threshold": model.config.threshold}
    return model, {
        "settings": settings,
        **({"segments": model.described()} if isinstance(model, SegmentClassifier) else {}),
    }


def labelled_of(config: TrainConfig, task: Task) -> Labelled:
    """The task of a run, whose answers are labels or numbers. Raises UsageError for another."""
    return require(task, Labelled, _NO_CLASSES.format(config.task.name))


def classification_of(config: TrainConfig, task: Task) -> Classification:
    """The task of a run, whose answers are classes. Raises UsageError for another."""
    return require(task, Classification, _NO_CLASSES.format(config.task.name))


def with_suitable_features(config: TrainConfig, task: Task) -> tuple[TrainConfig, dict[str, str]]:
    """The run with kinds of features in place of "auto": those that suit the texts; and why the other kinds do not."""
    if list(config.model.features) != [AUTO]:
        return config, {}
    if task.fitted_by == ReplyRanker.kind:
        dialogue = require(task, Dialogue, "Only a dialogue has replies to rank.")
        turns = list(dialogue.texts(dialogue.records))
        kinds, left_out = choose(turns, sources_of(config), REPLY_FEATURES)
        return config.replace(features=kinds), left_out
    labelled = labelled_of(config, task)
    texts, _ = labelled.labelled_texts(labelled.records)
    kinds, left_out = choose(texts, sources_of(config))
    return config.replace(features=kinds), left_out


def reading(config: TrainConfig, task: Classification, first_alone: bool = False) -> Reading:
    """How the run reads texts that are longer than a segment of its task."""
    mechanism = config.model.mechanism
    named = {} if mechanism is None else {"name": mechanism, **config.model.mechanism_settings}
    return Reading(task.segment, named, first_alone, config.run.seed)


def _report(
    config: TrainConfig, task: Labelled, model: FeatureClassifier, details: dict[str, Any], seconds: float
) -> Report:
    began = time.process_time()
    texts, targets = task.labelled_texts(task.held_out_records)
    scores = torch.from_numpy(model.log_probabilities(texts))
    predictions = task.decoded(scores)
    seconds += time.process_time() - began
    wrong = len(task.mistakes(task.held_out_records, predictions))
    metrics = task.compute_metrics(task.held_out_records, [prediction.text for prediction in predictions])
    held_out = HeldOut(metrics, 1 - wrong / len(texts), task.loss(scores, targets), len(texts))
    details = {**summary(task, predictions), "features": list(config.model.features), **details}
    return report_fitted(config, model, held_out, seconds, details)
