"""The two classifiers of a monitor: one says what a text is about, the other how it speaks of it."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from memspan.apps.monitor.entries import Opinion
from memspan.data.columns import text_column
from memspan.data.corpora import Record
from memspan.data.datasets import read
from memspan.errors import UsageError
from memspan.evaluation.predict import reopen
from memspan.models.folders import find, replaced
from memspan.pretrained.feature_classifier import FeatureClassifier
from memspan.pretrained.hub import DEFAULT
from memspan.tasks import Classification, Prediction, require
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.fitting import fit, with_suitable_features
from memspan.training.report import BEST, Report

TOPIC, SENTIMENT = "topic", "sentiment"
HEADS = (TOPIC, SENTIMENT)
SEGMENT, SEGMENTS = 128, 256  # tokens of a segment, and segments, as in `memspan train`
_NAMES = {
    TOPIC: ("topic", "subject", "theme", "category", "主题", "话题", "类别"),
    SENTIMENT: ("sentiment", "opinion", "polarity", "attitude", "情感", "情绪", "倾向", "态度"),
}
_NEGATIVE = ("negative", "neg", "bad", "unfavourable", "负面", "消极", "负", "差评", "贬义")


class Head:
    """A trained classifier."""

    def __init__(self, checkpoint: Path) -> None:
        """Raises UsageError for a folder that holds no classifier of texts."""
        model, task, config = reopen(checkpoint)
        self.task = require(
            task, Classification, f"{checkpoint} must hold a classifier of texts, got {config.task.name}."
        )
        self.model, self.segments = model, config.task.segments

    @property
    def labels(self) -> Sequence[str]:
        return self.task.class_names()

    def predictions(self, texts: Sequence[str]) -> list[Prediction]:
        """The label of each text with its calibrated probability."""
        model: nn.Module = self.model
        if isinstance(model, FeatureClassifier):  # of the texts as they are, without a way through tokens
            return self.task.decoded(torch.from_numpy(model.log_probabilities(texts)))
        return self.task.predictions(model, texts, self.segments)


class Heads:
    """Both classifiers of a monitor."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for a folder without them."""
        self.topic, self.sentiment = (Head(checkpoint_of(folder, name)) for name in HEADS)

    def opinions(self, texts: Sequence[str]) -> list[Opinion]:
        """What each text is about, and how it speaks of it."""
        if not texts:
            return []
        pairs = zip(self.topic.predictions(texts), self.sentiment.predictions(texts), strict=True)
        return [
            Opinion(topic.text, topic.probability or 0.0, sentiment.text, sentiment.probability or 0.0)
            for topic, sentiment in pairs
        ]


def checkpoint_of(folder: Path, name: str) -> Path:
    """The model of a head in the folder of a monitor."""
    return folder / name / BEST


def model_in(run: Path) -> Path:
    """The model of a run, of which the folder or the model itself is named. Raises UsageError where there is none."""
    found = find(run / BEST) or find(run)
    if found is None:
        raise UsageError(f"There is no run in {run}: give the output folder of `memspan train --task classification`.")
    return found


def copy(run: Path, folder: Path, name: str) -> None:
    """Copy a trained classifier into the folder of a monitor. Raises UsageError for anything else."""
    source = model_in(run)
    Head(source)
    (folder / name).mkdir(parents=True, exist_ok=True)
    with replaced(checkpoint_of(folder, name)) as new:
        shutil.copytree(source, new, dirs_exist_ok=True)


def prepare(
    folder: Path,
    data: Path,
    columns: Mapping[str, str | None],
    features: Sequence[str],
    model: str | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, tuple[TrainConfig, Classification]]:
    """The run of each head, with its data read.

    Args:
        columns: the columns with the text, the topic and the sentiment; None for those to be guessed.
        features: kinds of features; "auto" for those that suit the texts.
        model: of whose hidden states features are made; None for $MEMSPAN_MODEL, else the embedded one.
        note: called with what was guessed, and with the rows that are not used.

    Raises UsageError for a table without such columns.
    """
    named = _columns(read([data], ()), data, columns)
    guessed = {ours: theirs for ours, theirs in named.items() if columns.get(ours) is None}
    if guessed and note is not None:
        shown = ", ".join(f"{ours} is '{theirs}'" for ours, theirs in guessed.items())
        options = ", ".join(f"--{ours}-column" for ours in guessed)
        note(f"The columns of {data} are guessed: {shown}; {options} would name others.")
    runs = {}
    for head in HEADS:
        rename = {named["text"]: "text", named[head]: "label"}
        config = TrainConfig.of(
            task="classification",
            data=[str(data)],
            task_settings={"segment": SEGMENT, "rename": rename},
            segments=SEGMENTS,
            model=model or os.environ.get("MEMSPAN_MODEL") or DEFAULT,
            features=list(features),
            precision="auto",
            output=str(folder / head),
        )
        task = require(build_task(config), Classification, "The heads of a monitor must be classifiers.")
        config, left_out = with_suitable_features(config, task)
        if note is not None and head == TOPIC:
            for sentence in task.left_out:
                note(sentence)
            if left_out:
                reasons = "; ".join(f"{name}, since {reason}" for name, reason in left_out.items())
                note(f"Features: {', '.join(config.model.features)}. Not taken: {reasons}. --features names others.")
        runs[head] = config, task
    return runs


def train(
    runs: Mapping[str, tuple[TrainConfig, Classification]],
    on_progress: Callable[[str, int, int], None] | None = None,
    replace: bool = False,
) -> dict[str, Report]:
    """Fit both heads, and measure them on the records held out."""
    return {name: fit(config, on_progress, task, replace) for name, (config, task) in runs.items()}


def negative_label(labels: Sequence[str], given: str | None) -> str:
    """The label of negative texts. Raises UsageError where none is given and none has such a name, or for an unknown one."""
    if given is not None and given not in labels:
        raise UsageError(f"--negative must be one of the sentiments {', '.join(labels)}, got '{given}'.")
    by_name = {label.casefold(): label for label in labels}
    found = given or next((by_name[name] for name in _NEGATIVE if name in by_name), None)
    if found is None:
        raise UsageError(f"Which of the sentiments {', '.join(labels)} is the negative one? Name it with --negative.")
    return found


def _columns(records: Sequence[Record], data: Path, given: Mapping[str, str | None]) -> dict[str, str]:
    present = list(records[0])
    found: dict[str, str] = {}
    for head in HEADS:
        named = next((name for name in present if any(word in name.casefold() for word in _NAMES[head])), None)
        found[head] = given.get(head) or named or ""
    rest = [{name: row[name] for name in present if name not in found.values()} for row in records[:1000]]
    found["text"] = given.get("text") or text_column(rest) or ""
    for ours, theirs in found.items():
        if theirs not in present:
            wanted = f"'{theirs}'" if theirs else f"whose name says that it holds the {ours}"
            raise UsageError(
                f"In {data} there is no column {wanted}, only {', '.join(present)}: name it with --{ours}-column."
            )
    return {name: found[name] for name in ("text", *HEADS)}
