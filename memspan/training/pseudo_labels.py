"""Self-training on unlabelled texts: confident predictions of one model become training records of the next."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import CHECKSUMS, read_json, verify, write_checksums
from memspan.tasks import IGNORE_INDEX, Task, TextTask, require
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.distributed import check_alone
from memspan.training.loop import train
from memspan.training.report import Report, TrainProgress

PSEUDO_LABELS = "pseudo_labels.json"
BATCH_SIZE = 32


@dataclass(frozen=True)
class PseudoLabel:
    """A text, the teacher's prediction for it, and the probability of that prediction."""

    text: str
    prediction: str
    confidence: float


@dataclass(frozen=True)
class SelfTraining:
    """The teacher's run on the records alone, the pseudo-labels, and the student's run on both.

    Without any pseudo-label, both are the teacher's run.
    """

    teacher: Report
    pseudo_labels: list[PseudoLabel]
    student: Report


def self_train(
    config: TrainConfig,
    texts: Sequence[str],
    confidence: float = 0.9,
    on_progress: Callable[[TrainProgress], None] | None = None,
    resume: bool = False,
) -> SelfTraining:
    """Trains a teacher, labels `texts` with it, and trains a student from scratch on records and confident labels.

    Pseudo-labels (Lee 2013) in one round: chosen once, each with the weight of a record. With an output folder, the runs
    are in `teacher` and `student` there, and the labels between them in pseudo_labels.json.

    Raises UsageError for a task whose records are more than a text and its label, or a confidence outside 0 to 1.
    """
    check_alone("Self-training")
    if not 0 <= confidence <= 1:
        raise UsageError(f"confidence must be from 0 to 1, got {confidence}.")
    output = None if config.run.output is None else Path(config.run.output)
    task = _labelling_task(build_task(config))
    teacher = train(_in_folder(config, "teacher"), on_progress, resume, task)
    path = None if output is None else output / PSEUDO_LABELS
    if resume and path is not None and (path.parent / CHECKSUMS).is_file():
        labels = _load(path)
    else:
        everything = label(teacher.model, task, texts, config.task.segments)
        labels = [pseudo for pseudo in everything if pseudo.confidence >= confidence]
        if path is not None:
            _save(labels, path)
    if not labels:
        return SelfTraining(teacher, labels, teacher)
    text_column, label_column = task.columns
    records = [*task.records, *({text_column: item.text, label_column: item.prediction} for item in labels)]
    student = train(_in_folder(config, "student"), on_progress, resume, task.with_records(records))
    return SelfTraining(teacher, labels, student)


def label(model: nn.Module, task: TextTask, texts: Sequence[str], segments: int) -> list[PseudoLabel]:
    """The model's prediction for each text, and its probability: the product over the tokens of the prediction."""
    text_column, label_column = task.columns
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    labels: list[PseudoLabel] = []
    try:
        predictions = task.predict(model, list(texts), segments)
        pairs = [(text, answer) for text, answer in zip(texts, predictions, strict=True) if text and answer]
        for first in range(0, len(pairs), BATCH_SIZE):
            rows = pairs[first : first + BATCH_SIZE]
            batch = task.streams([{text_column: text, label_column: answer} for text, answer in rows], segments)
            with torch.no_grad():
                logits, _ = model(batch.ids.to(device), None, None)
                losses = cross_entropy(
                    logits.float().transpose(1, 2),
                    batch.targets.to(device),
                    ignore_index=IGNORE_INDEX,
                    reduction="none",
                )
            confidences = (-losses.sum(1)).exp().tolist()
            labels += [PseudoLabel(*row, confidence) for row, confidence in zip(rows, confidences, strict=True)]
    finally:
        model.train(was_training)
    return labels


def _in_folder(config: TrainConfig, name: str) -> TrainConfig:
    output = config.run.output
    return config if output is None else config.replace(output=str(Path(output) / name))


def _load(path: Path) -> list[PseudoLabel]:
    """The pseudo-labels of an earlier call. Raises DamagedFolder, or UsageError, for a file that `_save` did not write."""
    way_out = f"delete {path.parent / CHECKSUMS}, and the texts are labelled again"
    verify(path.parent, {PSEUDO_LABELS}.__contains__, way_out)
    try:
        labels = [PseudoLabel(**record) for record in read_json(path)]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} holds no pseudo-labels: {way_out}.") from error
    if not all(isinstance(item.text, str) and isinstance(item.prediction, str) for item in labels):
        raise UsageError(f"{path} must hold texts and predictions: {way_out}.")
    return labels


def _save(labels: Sequence[PseudoLabel], path: Path) -> None:
    """Writes the labels, and then their checksum, without which they are not used."""
    try:
        (path.parent / CHECKSUMS).unlink(missing_ok=True)
        path.write_text(json.dumps([vars(item) for item in labels], ensure_ascii=False, indent=1) + "\n", "utf-8")
        write_checksums(path.parent)
    except OSError as error:
        raise MemspanError(f"The pseudo-labels cannot be written to {path}: {error.strerror}.") from error


def _labelling_task(task: Task) -> TextTask:
    sentence = "Self-training needs a task whose records are a text and its label, like classification."
    labelling = require(task, TextTask, sentence)
    if len(labelling.columns) != 2:
        raise UsageError(sentence)
    return labelling
