"""Training of extractive models, which are fitted at once: a linear model over features of words of a text."""

import random
import time
from typing import Any

from memspan.assistant.extracts.model import ExtractiveModel
from memspan.plugins import require_installed
from memspan.tasks import Task, TextTask, require
from memspan.training.build import build_extractive, build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import checkpoint_of
from memspan.training.report import HeldOut, Report, report_fitted, save_fitted

MEASURED = 100  # held-out records that a report measures on
SHOWN = 200  # characters of a text in a report
MOST_WRONG = 10


def fit_extract(config: TrainConfig, task: Task | None = None, resume: bool = False) -> Report:
    """Fits an extractive model to the training records, and measures it on held-out ones.

    Args:
        task: the run's task, where it was built before; None builds it from `config`.
        resume: fit anew where the output folder holds a run.

    Raises UsageError for a task whose answers are no words of its texts, and for an output folder that holds a run.
    """
    require_installed("An extractive model needs", "sklearn", "scipy")
    checkpoint_of(config, resume)
    began = time.process_time()
    texts = _task_on_texts(build_task(config) if task is None else task)
    model = fitted(config, texts)
    records = texts.held_out_records[:MEASURED]
    examples = [texts.example(record) for record in records]
    predictions = model.extract([(example.source, example.question) for example in examples])
    measured = texts.compute_metrics(records, predictions)
    by_record = [
        texts.compute_metrics([record], [text])[texts.metric] for record, text in zip(records, predictions, strict=True)
    ]
    worst = sorted(range(len(records)), key=lambda index: by_record[index])[:MOST_WRONG]
    value = measured[texts.metric]
    held_out = HeldOut(measured, value, 1 - value, len(records))
    details = {
        "texts": {"trained on": len(texts.records), "held out": len(records)},
        "metric": texts.metric,
        "baselines": texts.with_records(held_out=records).baselines(),
        "extract": {"kind": model.config.extract, "words": model.config.length},
        "worst": [_shown(texts, records[index], predictions[index], by_record[index]) for index in worst],
    }
    report = report_fitted(config, model, held_out, time.process_time() - began, details)
    save_fitted(report, texts)
    return report


def fitted(config: TrainConfig, task: TextTask, lm: Any = None) -> ExtractiveModel:
    """An extractive model for a task, fitted to its training records; `lm` is the language model, where it is loaded."""
    model = build_extractive(config, task, lm)
    assert isinstance(model, ExtractiveModel)
    records = list(task.records)
    random.Random(config.run.seed).shuffle(records)
    examples = [(task.example(record), task.targets(record)) for record in records]
    model.fit([(example.source, example.question, targets) for example, targets in examples])
    return model


def _task_on_texts(task: Task) -> TextTask:
    return require(task, TextTask, "`extract` answers with words of a text: choose a task on texts.")


def _shown(task: TextTask, record: Any, prediction: str, value: float) -> dict[str, Any]:
    example = task.example(record)
    return {
        "question": example.question,
        "target": " ".join(example.target.split())[:SHOWN],
        "prediction": " ".join(prediction.split())[:SHOWN],
        task.metric: round(value, 3),
    }
