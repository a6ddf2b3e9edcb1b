"""What a classifier is worth on its held-out records: metrics beside baselines, confused labels, the surest wrong answers."""

from collections.abc import Sequence
from typing import Any

from memspan.data.corpora import Record
from memspan.tasks import Labelled, Prediction
from memspan.training.report import Report

MOST_WRONG = 10  # that a report shows
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)  # probabilities
SHOWN = 200  # characters of a text in it


def summary(task: Labelled, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The details of a report, of the predictions for all held-out records."""
    records = task.held_out_records
    texts = [prediction.text for prediction in predictions]
    return {
        "texts": {"trained on": len(task.records), "held out": len(records)},
        "metric": task.metric,
        "intervals": task.intervals(records, texts),
        "baselines": {
            name: {"metrics": task.compute_metrics(records, others), "intervals": task.intervals(records, others)}
            for name, others in task.baseline_predictions(records).items()
        },
        "left out": task.left_out,
        "sure": _sure(task, predictions),
        "confused": task.confused(records, texts),
        "wrong": _worst(task.mistakes(records, predictions)),
    }


def summarised(report: Report, task: Labelled) -> Report:
    """The report of a training run, in memory and in its folder, with the summary of all held-out records."""
    texts, _ = task.labelled_texts(task.held_out_records)
    predictions = task.predictions(report.model.eval(), texts, report.config.task.segments)
    report.metrics.update(task.compute_metrics(task.held_out_records, [found.text for found in predictions]))
    report.details.update(summary(task, predictions))
    if report.folder is not None:
        report.save(report.folder)
    return report


def _sure(task: Labelled, predictions: Sequence[Prediction]) -> list[list[float]]:
    """A probability, the share of the texts whose predictions have at least that, and the share of these that are right."""
    wrong = {id(found) for _, found in task.mistakes(task.held_out_records, predictions)}
    rows = []
    for threshold in THRESHOLDS:
        sure = [found for found in predictions if found.probability is not None and found.probability >= threshold]
        if sure:
            right = sum(id(found) not in wrong for found in sure)
            rows.append([threshold, len(sure) / len(predictions), right / len(sure)])
    return rows


def _worst(mistakes: Sequence[tuple[Record, Prediction]]) -> list[dict[str, Any]]:
    """The first of them, each text with its label once."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for record, prediction in mistakes:
        if len(first) == MOST_WRONG:
            break
        first.setdefault((str(record["text"]), str(record["label"])), _wrong(record, prediction))
    return list(first.values())


def _wrong(record: Record, prediction: Prediction) -> dict[str, Any]:
    share = prediction.probability
    return {
        "text": " ".join(str(record["text"]).split())[:SHOWN],
        "label": str(record["label"]),
        "prediction": prediction.text,
        "probability": None if share is None else round(share, 3),
    }
