"""How much of what was asked a model says rightly, how far back it lay, and what remembering it took.

Letters: B batch, T tokens.
"""

import inspect
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memspan.config import TrainConfig, read_yaml
from memspan.data.tokenizer import FILE as TOKENIZER
from memspan.errors import UsageError
from memspan.models.ensemble import open_models
from memspan.models.saved import check_holds
from memspan.models.scratch import grid
from memspan.pictures import new_figure
from memspan.state import detach, nbytes
from memspan.tasks import NOT_ASKED, Task, build, task_class

CONFIG = "config.yaml"  # the configuration of the run, beside the model that came of it
OF_ITS_DATA = ("data", "augment", "begin", "rehearse", "ewc")  # what a model that is trained needs no more
SEED = 2**31  # streams to measure on begin far from those to train on


@dataclass(frozen=True)
class Score:
    """What a model made of streams of one length.

    Attributes:
        segments: of a stream.
        distance: tokens of a stream, which is how far back what is asked for may lie.
        accuracy: the part of what was asked that the likeliest token answers rightly.
        loss: mean cross-entropy of what was asked, in nats.
        bits: the same in bits; per byte, where the task knows how many bytes a token has.
        asked: how many tokens that is the mean of.
        state_bytes: of the state of one stream after its end.
        tokens_per_second: read, all rows together.
        metrics: of the task's own, on records held out.
    """

    segments: int
    distance: int
    accuracy: float
    loss: float
    bits: float
    asked: int
    state_bytes: int
    tokens_per_second: float
    metrics: dict[str, float] = field(default_factory=dict)


def asked_from(targets: Tensor) -> int:
    """How many of the last tokens are needed, so that all that is asked is among them. targets (B, T) int64."""
    columns = (targets != NOT_ASKED).any(0).nonzero()
    return targets.shape[1] - int(columns[0]) if len(columns) else 0


def tally(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor] | None:
    """Summed loss and number of right answers, both (), over the tokens asked; None where nothing is asked.

    logits (B, T, V) on any device; targets (B, T) int64 on the CPU, so that finding what is asked waits for no device.
    `smoothing` is cross_entropy's `label_smoothing`.
    """
    places = (targets.flatten() != NOT_ASKED).nonzero().flatten()
    if not len(places):
        return None
    wanted = targets.flatten()[places].to(logits.device, non_blocking=True)
    said = logits.flatten(0, 1)
    if len(places) < len(said):
        said = said[places.to(logits.device, non_blocking=True)]
    said = said.float()
    return cross_entropy(said, wanted, reduction="sum", label_smoothing=smoothing), (
        said.detach().argmax(1) == wanted
    ).sum()


@torch.no_grad()
def measure(model: nn.Module, task: Task, segments: int, rows: int = 64, batches: int = 1, seed: int = SEED) -> Score:
    """Reads `batches` batches of `rows` streams segment by segment, so that memory does not grow with their length.

    `model` is `(ids, state, keep) -> (logits of the last keep tokens, state)`. Raises UsageError for a task with more tokens than the model knows.
    """
    generator, task = torch.Generator().manual_seed(seed), task.held_out()
    device = next(model.parameters()).device
    length = math.lcm(task.segment, grid(model))
    was_training, place, state = model.training, 0, None
    loss, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    asked = read = 0
    begun = time.perf_counter()
    model.eval()
    try:
        for _ in range(batches):
            batch, place = task.follow(place, rows, segments, generator)
            state = None if batch.fresh else state
            for ids, targets in zip(*(torch.split(one, length, 1) for one in (batch.ids, batch.targets)), strict=True):
                keep = asked_from(targets)
                logits, state = model(ids.to(device), state, keep)
                state = detach(state)
                counts = tally(logits, targets[:, targets.shape[1] - keep :])
                if counts is not None:
                    loss, right = loss + counts[0], right + counts[1]
            asked += int((batch.targets != NOT_ASKED).sum())
            read += batch.ids.numel()
    finally:
        model.train(was_training)
    if not asked:
        raise UsageError(f"In streams of {segments} segments this task asks nothing.")
    mean, seconds = loss.item() / asked, time.perf_counter() - begun
    return Score(
        segments=segments,
        distance=segments * task.segment,
        accuracy=right.item() / asked,
        loss=mean,
        bits=mean / math.log(2) / task.bytes_each,
        asked=asked,
        state_bytes=nbytes(state) // rows,
        tokens_per_second=read / seconds,
    )


def evaluate(
    checkpoint: str | Path,
    task: str | None = None,
    settings: dict[str, Any] | None = None,
    segments: Sequence[int] = (5, 16, 64, 256),
    rows: int = 64,
    batches: int = 1,
    seed: int = SEED,
    others: Sequence[str | Path] = (),
) -> list[Score]:
    """A trained model's scores on streams of each of these lengths.

    Args:
        checkpoint: a folder that training wrote, or `ScratchModel.save_pretrained`.
        task: its name; by default the one that the model was trained for.
        settings: of the task; by default those of the training, if it is the same task.
        others: further models; the mean of all their probabilities is measured.

    Raises:
        UsageError: no such model, task or setting, or a task with more tokens than the model knows.
    """
    if not segments or min(segments) < 1:
        raise UsageError("Streams have at least 1 segment: give lengths like 5,16,64.")
    if rows < 1 or batches < 1:
        raise UsageError(f"rows={rows}, batches={batches} cannot be: both are at least 1.")
    model: Any = open_models([checkpoint, *others])
    asked = make_task(Path(checkpoint), task, settings)
    if asked.vocabulary > model.config.vocabulary:
        raise UsageError(
            f"The task has {asked.vocabulary} different tokens, but the model knows {model.config.vocabulary}: "
            "it was trained for another task."
        )
    return [
        replace(measure(model, asked, length, rows, batches, seed), metrics=asked.score(model, length))
        for length in segments
    ]


def make_task(checkpoint: Path, name: str | None = None, settings: dict[str, Any] | None = None) -> Task:
    """The task that the model in `checkpoint` was trained for, or the named one; `settings` replace single ones."""
    learned = {"saved": str(checkpoint)} if (checkpoint / TOKENIZER).is_file() else {}
    if not (checkpoint / CONFIG).is_file():
        if name is None:
            raise UsageError(f"{checkpoint} does not say what the model was trained for: name a task.")
        return build(name, **(settings or {}), **learned)
    values = read_yaml(checkpoint / CONFIG)
    if name is not None and name != values.get("task"):
        if learned or _learns(name):
            raise UsageError(f"{checkpoint} was trained for {values.get('task')}, not for {name}.")
        return build(name, **(settings or {}))
    config = _config(checkpoint, values)
    if _learns(config.task):
        check_holds(checkpoint, TOKENIZER)
    return config.replace(task_settings={**config.task_settings, **(settings or {}), **learned}).make_task()


def _learns(task: str) -> bool:
    """Whether a task learns from its data what tokens mean."""
    return "saved" in inspect.signature(task_class(task)).parameters


def _config(checkpoint: Path, values: dict[str, Any]) -> TrainConfig:
    """The run of a checkpoint. Raises UsageError that names its file."""
    try:
        return TrainConfig.from_mapping(values)
    except UsageError as error:
        raise UsageError(f"{checkpoint / CONFIG} cannot be used: {error}") from error


def predict(
    checkpoint: str | Path,
    texts: Sequence[str],
    question: str = "",
    task: str | None = None,
    others: Sequence[str | Path] = (),
) -> list[str]:
    """What a trained model says to each of these texts.

    Args:
        checkpoint: a folder that training wrote.
        question: asked after each text, for tasks that have one.
        task: the task it should have been trained for, if that matters.
        others: further models; the mean of all their probabilities decides.

    Raises UsageError for a model that was trained for another task, or one that says nothing to texts.
    """
    model, made, config = reopen(checkpoint, task, others)
    said: list[str] = made.predict(model, list(texts), config.segments, question)
    return said


def reopen(
    checkpoint: str | Path, task: str | None = None, others: Sequence[str | Path] = ()
) -> tuple[nn.Module, Any, TrainConfig]:
    """A trained model in eval mode, its task as it learned it but without records, and what the training was.

    With `others` the model is the ensemble of all of them.

    Raises UsageError for a model that was trained for another task than `task`, or one that says nothing to texts.
    """
    checkpoint = Path(checkpoint)
    check_holds(checkpoint, CONFIG)
    values = read_yaml(checkpoint / CONFIG)
    if task is not None and task != values.get("task"):
        raise UsageError(f"{checkpoint} was trained for {values.get('task')}, not for {task}.")
    if not _learns(str(values.get("task"))):
        raise UsageError(f"{checkpoint} was trained for {values.get('task')}, which says nothing to texts.")
    kept = {name: value for name, value in values.items() if name not in OF_ITS_DATA}
    settings = values.get("task_settings") or {}
    if isinstance(settings, dict):
        settings = {**settings, "data": None, "test": [], "saved": str(checkpoint)}
    config = _config(checkpoint, {**kept, "task_settings": settings})
    made = build(config.task, **config.task_settings)
    model: Any = open_models([checkpoint, *others]).eval()
    if model.config.vocabulary != made.vocabulary:
        raise UsageError(
            f"The model in {checkpoint} knows {model.config.vocabulary} tokens, but by the files beside it there are "
            f"{made.vocabulary}: one of them is of another run."
        )
    return model, made, config


def back_translate(texts: Sequence[str], there: str | Path, back: str | Path) -> list[str]:
    """The texts in other words: translated by the model in `there`, and again by the one in `back` (Sennrich et al. 2016).

    As further records to train on; for changes while training it can be the `rewriter` of an `Augment`.
    """
    return predict(back, predict(there, texts))


def to_dict(scores: Sequence[Score]) -> list[dict[str, Any]]:
    return [asdict(score) for score in scores]


def plot(scores: Sequence[Score], path: str | Path) -> None:
    """Accuracy, and the bytes of the state, against distance: a picture. Raises UsageError without matplotlib."""
    figure = new_figure(9, 3.5)
    left, right = figure.subplots(1, 2)
    distances = [score.distance for score in scores]
    left.plot(distances, [score.accuracy for score in scores], marker="o")
    left.set(xlabel="distance, tokens", ylabel="accuracy", ylim=(-0.03, 1.03), xscale="log")
    right.plot(distances, [score.state_bytes for score in scores], marker="o")
    right.set(xlabel="distance, tokens", ylabel="bytes of the state", xscale="log", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"The plot cannot be written to {path}: {error}.") from error
