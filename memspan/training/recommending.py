"""Training of recommenders that are fitted at once: on the histories of a task, and the vectors of its items' texts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from memspan.data.corpora import Record
from memspan.errors import UsageError
from memspan.models.next_item import Events
from memspan.models.recommender import MOST_ITEMS, Recommender, RecommenderConfig
from memspan.plugins import require_installed
from memspan.pretrained import encoders
from memspan.pretrained.features import Sources
from memspan.tasks import Recommendation, Task, require
from memspan.training.build import build_model, build_task, sources_of
from memspan.training.config import TrainConfig
from memspan.training.loop import checkpoint_of
from memspan.training.measure import measure
from memspan.training.report import HeldOut, Report, report_fitted, save_fitted

Progress = Callable[[str, int, int], None]  # what is computed, how much of it is done, and all of it

ALONE = "last item alone"  # the same model without a memory of what came before the last item
DRAWS = 2000  # of the bootstrap


def build_recommender(task: Task) -> Recommender:
    """The recommender of a task, before it is fitted. Raises UsageError for a task without items, or with too many."""
    recommendation = require(
        task, Recommendation, "A recommender needs histories of items: use the task recommendation."
    )
    items = len(recommendation.catalogue.items)
    if items > MOST_ITEMS:
        raise UsageError(
            f"A recommender takes {MOST_ITEMS:,} items at most, got {items:,}: leave out rare ones with min_item_events, or "
            "train a model from scratch with --from-scratch."
        )
    return Recommender(RecommenderConfig(recommendation.tokenizer.size, items))


def fit_recommender(
    config: TrainConfig, on_progress: Progress | None = None, task: Task | None = None, resume: bool = False
) -> Report:
    """Fits a recommender and measures it on the held-out events beside the baselines; arguments as `fitting.fit` takes them.

    Raises UsageError for a task without items, and for an output folder that holds a run.
    """
    require_installed("A recommender needs", "scipy")
    checkpoint_of(config, resume)
    began = time.process_time()
    built = build_task(config) if task is None else task
    model = build_model(config, built)
    assert isinstance(built, Recommendation)
    assert isinstance(model, Recommender)
    histories = built.training_histories()
    events = Events(
        [built.item_numbers(history) for history in histories],
        [[event.time for event in history] for history in histories],
        [[event.weight for event in history] for history in histories],
    )
    texts = _text_vectors(built, sources_of(config), on_progress)
    if texts is not None:
        model.config = replace(model.config, text_size=texts.shape[1])
    settings = model.fit(events, texts, on_progress)
    seconds = time.process_time() - began
    alone = Recommender(replace(model.config, decays=[0.0]))
    alone.fit(events, texts, None if on_progress is None else lambda _, done, total: on_progress(ALONE, done, total))
    report = _report(config, built, model.eval(), alone.eval(), seconds)
    report.details["settings"] = {**settings, "weights": model.weights.tolist()}
    save_fitted(report, built)
    return report


def _text_vectors(task: Recommendation, sources: Sources, on_progress: Progress | None) -> Tensor | None:
    """The vector of each item's title and genres, float32 (N, E) of length one; None without texts or an encoder."""
    texts = [f"{item.title} {item.genres}".strip() for item in task.catalogue.items]
    if not any(texts) or sources.encoder == encoders.NONE:
        return None
    from memspan.pretrained.features.sentences import Sentences

    progress = None if on_progress is None else lambda done, total: on_progress("titles", done, total)
    vectors = torch.from_numpy(Sentences(sources).vectors(texts, progress))
    return normalize(vectors - vectors.mean(0), dim=1)


def _report(
    config: TrainConfig, task: Recommendation, model: Recommender, alone: Recommender, seconds: float
) -> Report:
    records, segments = task.held_out_records, config.task.segments
    examples = [task.example(record) for record in records]
    predictions = task.generate(model, examples, segments)
    others = {ALONE: task.generate(alone, examples, segments), **task.baseline_predictions(records)}
    gains = {name: _gains(task, records, values) for name, values in {"this model": predictions, **others}.items()}
    users = [str(record["user"]) for record in records]
    mine = gains["this model"]
    options = config.run
    score = measure(
        model, task, segments, options.eval_batch_size or config.optimisation.batch_size, options.eval_batches
    )
    metrics = task.compute_metrics(records, predictions)
    held_out = HeldOut(metrics, score.accuracy, score.loss, len(records), score.state_bytes)
    details = {
        "noun": "event",
        "texts": {"trained on": sum(map(len, task.training_histories())), "held out": len(records)},
        "users": {"trained on": len(task.records), "held out": len(set(users))},
        "items": len(task.catalogue.items),
        "metric": task.metric,
        "intervals": {task.metric: interval(mine, users)},
        "baselines": {
            name: {
                "metrics": task.compute_metrics(records, values),
                "intervals": {task.metric: interval(gains[name], users)},
            }
            for name, values in others.items()
        },
        "gain intervals": {name: interval(mine - gains[name], users) for name in others},
        "confused": [],
        "sure": [],
        "wrong": [],
    }
    return report_fitted(config, model, held_out, seconds, details)


def _gains(task: Recommendation, records: Sequence[Record], predictions: Sequence[str]) -> np.ndarray:
    pairs = zip(records, predictions, strict=True)
    return np.array([task.compute_metrics([record], [prediction])[task.metric] for record, prediction in pairs])


def interval(values: np.ndarray, users: Sequence[str]) -> list[float]:
    """The 95 % interval of the mean of values, by a bootstrap that draws whole users."""
    _, numbers = np.unique(np.array(users), return_inverse=True)
    sums, counts = np.bincount(numbers, values), np.bincount(numbers)
    draws = np.random.default_rng(0).integers(0, len(counts), (DRAWS, len(counts)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    return [float(value) for value in np.quantile(means, (0.025, 0.975))]
