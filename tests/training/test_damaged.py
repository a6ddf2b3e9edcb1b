"""A flipped bit in any file of any folder that training writes: everything that reads the file names it, and uses nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memspan.cli import run as command
from memspan.errors import DamagedFolder
from memspan.evaluation.evaluate import evaluate
from memspan.evaluation.predict import predict
from memspan.explain import explain
from memspan.explain.trace import trace_model
from memspan.models.ensemble import average, open_models
from memspan.models.saved import open_model
from memspan.tasks import build
from memspan.training.build import task_of_checkpoint
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.pseudo_labels import PSEUDO_LABELS, self_train

FIELDS: dict[str, Any] = {
    "task": "classification", "task_settings": {"limit": 12, "segment": 8, "vocabulary": 300}, "mechanism": "delta",
    "width": 8, "depth": 1, "batch_size": 2, "steps": 1, "segments": 2, "device": "cpu",
}  # fmt: skip
LEARNED = ["tokenizer.json", "labels.json"]
SMALL = ["config.json", *LEARNED]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a task that learns a tokenizer and labels and a copy of it, one of recommendation, and one of self-training."""
    folder = tmp_path_factory.mktemp("runs")
    train(TrainConfig.of(**FIELDS, output=str(folder / "a")))
    shutil.copytree(folder / "a", folder / "b")
    items = {**FIELDS, "task": "recommendation", "task_settings": {"segment": 8, "vocabulary": 300}}
    train(TrainConfig.of(**items, output=str(folder / "items")))
    texts = ["We cannot come on Friday.", "A room for two, please."]
    self_train(TrainConfig.of(**FIELDS, output=str(folder / "self")), texts, confidence=0.0)
    return folder


def flip(path: Path) -> None:
    """Flips a bit in the middle of a file: of a number, a name or a weight."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def resumed(run: Path) -> object:
    return train(TrainConfig.of(**FIELDS, output=str(run)), resume=True)


def begun(run: Path, **changes: Any) -> object:
    return train(TrainConfig.of(**{**FIELDS, "init_from": str(run / "last"), **changes}))


TEXT = "We cannot come on Friday."
READERS: dict[str, tuple[str, list[str], Callable[[Path], object]]] = {
    "open_model": ("a", ["model.safetensors", *SMALL], lambda run: open_model(run / "last")),
    "predict": ("a", ["config.yaml", "model.safetensors", *SMALL], lambda run: predict(run / "last", [TEXT])),
    "evaluate": ("a", ["config.yaml", "model.safetensors", *SMALL], lambda run: evaluate(run / "last", segments=[2])),
    "explain": ("a", ["config.yaml", "model.safetensors", *SMALL], lambda run: explain(run / "last", TEXT)),
    "trace": ("a", ["model.safetensors", *SMALL], lambda run: trace_model(run / "last", TEXT)),
    "the task": ("a", ["config.yaml", *LEARNED], lambda run: task_of_checkpoint(run / "last")),
    "saved=": ("a", LEARNED, lambda run: build("classification", data=None, saved=str(run / "last"))),
    "an ensemble": (
        "a",
        ["model.safetensors", *SMALL],
        lambda run: open_models([run.parent / "b" / "last", run / "last"]),
    ),
    "an average": (
        "a",
        ["model.safetensors", *SMALL],
        lambda run: average([run.parent / "b" / "last", run / "last"], run.parent / "mean"),
    ),
    "resume": (
        "a",
        ["config.yaml", "model.safetensors", "training.json", "training.safetensors", *SMALL],
        resumed,
    ),
    "init_from": ("a", ["model.safetensors", *SMALL], begun),
    "replay": ("a", ["config.yaml", "model.safetensors", *SMALL], lambda run: begun(run, replay=0.5)),
    "ewc": ("a", ["config.yaml", "model.safetensors", *SMALL], lambda run: begun(run, ewc=1.0)),
    "recommended": ("items", ["items.json", "tokenizer.json"], lambda run: predict(run / "last", ["a 1\nb 2"])),
    "self-training": (
        "self",
        [PSEUDO_LABELS, "teacher/last/labels.json", "teacher/last/model.safetensors", "student/last/tokenizer.json"],
        lambda run: self_train(TrainConfig.of(**FIELDS, output=str(run)), [TEXT], resume=True),
    ),
}


@pytest.mark.parametrize(
    ("reader", "name"), [(reader, name) for reader, (_, names, _) in READERS.items() for name in names]
)
def test_a_flipped_bit_is_named(runs: Path, tmp_path: Path, reader: str, name: str) -> None:
    run, _, read = READERS[reader]
    shutil.copytree(runs / run, tmp_path / run)
    shutil.copytree(runs / "b", tmp_path / "b")
    flip(tmp_path / run / (name if "/" in name or run == "self" else f"last/{name}"))
    with pytest.raises(DamagedFolder, match=Path(name).name):
        read(tmp_path / run)
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("name", ["config.yaml", "training.json"])
def test_the_command_that_resumes_names_it(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(runs / "a", tmp_path / "a")
    flip(tmp_path / "a" / "last" / name)
    assert command(["train", "--resume", "--output", str(tmp_path / "a")]) == 1
    assert f"{name} is damaged, its SHA-256 is not the recorded one" in capsys.readouterr().err


def test_labels_that_were_not_written_to_their_end_are_made_again(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "self", tmp_path / "self")
    whole = json.loads((tmp_path / "self" / PSEUDO_LABELS).read_text("utf-8"))
    (tmp_path / "self" / "checksums.json").unlink()
    (tmp_path / "self" / PSEUDO_LABELS).write_text("[{", "utf-8")
    texts = ["We cannot come on Friday.", "A room for two, please."]
    again = self_train(TrainConfig.of(**FIELDS, output=str(tmp_path / "self")), texts, 0.0, resume=True)
    assert [vars(label) for label in again.pseudo_labels] == whole


def test_nothing_is_written_where_an_average_fails(runs: Path, tmp_path: Path) -> None:
    mean = average([runs / "a" / "last", runs / "b" / "last"], tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean"]
    assert predict(tmp_path / "mean", [TEXT])
    assert mean.config == open_model(tmp_path / "mean").config
