"""Learning from texts that nobody labelled: a model's confident predictions become records for the next one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from memspan.errors import MemspanError, UsageError
from memspan.tasks import IGNORE_INDEX, Task
from memspan.tasks.text.base import TextTask
from memspan.training.config import TrainConfig
from memspan.training.distributed import check_alone
from memspan.training.loop import Report, TrainProgress, train

ADDED = "added.json"
ROWS = 32


@dataclass(frozen=True)
class Added:
    """A text, what the first model says to it, and the probability that it gives to that."""

    text: str
    said: str
    confidence: float


@dataclass(frozen=True)
class SelfTraining:
    """The run on the records alone, the texts that came in, and the run on both. Without any text, they are one run."""

    teacher: Report
    added: list[Added]
    student: Report


def self_train(
    config: TrainConfig,
    texts: Sequence[str],
    confidence: float = 0.9,
    on_progress: Callable[[TrainProgress], None] | None = None,
    resume: bool = False,
) -> SelfTraining:
    """Trains, lets the model label `texts`, and trains another one, from nothing, also on what it was sure of.

    Pseudo-labels (Lee 2013) in one round: chosen once, each weighing as much as a record. With an output folder, the runs
    are in `teacher` and `student` there, and the texts that came in between are in added.json.

    Raises UsageError for a task whose records are more than a text and what is said to it.
    """
    check_alone("Self-training")
    if not 0 <= confidence <= 1:
        raise UsageError(f"confidence={confidence} cannot be: it is between 0 and 1.")
    first, second = (
        config if config.output is None else config.replace(output=str(Path(config.output) / name))
        for name in ("teacher", "student")
    )
    _columns(first.make_task())
    teacher = train(first, on_progress, resume)
    kept = None if config.output is None else Path(config.output) / ADDED
    if resume and kept is not None and kept.is_file():
        added = [Added(**one) for one in json.loads(kept.read_text("utf-8"))]
    else:
        added = [one for one in label(teacher.model, first, texts) if one.confidence >= confidence]
        if kept is not None:
            try:
                kept.write_text(json.dumps([vars(one) for one in added], ensure_ascii=False, indent=1) + "\n", "utf-8")
            except OSError as error:
                raise MemspanError(f"The labelled texts cannot be written to {kept}: {error.strerror}.") from error
    if not added:
        return SelfTraining(teacher, added, teacher)
    second = second.replace()  # with a task of its own
    task = second.make_task()
    source, target = _columns(task)
    task.records = [*task.records, *({source: one.text, target: one.said} for one in added)]  # type: ignore[attr-defined]
    return SelfTraining(teacher, added, train(second, on_progress, resume))


def label(model: nn.Module, config: TrainConfig, texts: Sequence[str]) -> list[Added]:
    """What `model` says to each text, and how probable that is to it: the product over the tokens of the answer."""
    task = config.make_task()
    source, target = _columns(task)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    labelled: list[Added] = []
    try:
        said = task.predict(model, list(texts), config.segments)  # type: ignore[attr-defined]
        pairs = [(text, one) for text, one in zip(texts, said, strict=True) if text and one]
        for first in range(0, len(pairs), ROWS):
            some = pairs[first : first + ROWS]
            batch = task.streams([{source: text, target: one} for text, one in some], config.segments)  # type: ignore[attr-defined]
            with torch.no_grad():
                logits, _ = model(batch.ids.to(device), None, None)
                losses = cross_entropy(
                    logits.float().transpose(1, 2),
                    batch.targets.to(device),
                    ignore_index=IGNORE_INDEX,
                    reduction="none",
                )
            sure = (-losses.sum(1)).exp().tolist()
            labelled += [Added(text, one, share) for (text, one), share in zip(some, sure, strict=True)]
    finally:
        model.train(was_training)
    return labelled


def _columns(task: Task) -> tuple[str, str]:
    if not isinstance(task, TextTask) or len(task.columns) != 2:
        raise UsageError("Only a task of texts and what is said to each, like classification, can label further texts.")
    return task.columns[0], task.columns[1]
