"""A run that fails before its first checkpoint leaves no folder, whatever the reason: the same command works again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memspan.cli import run
from memspan.errors import MemspanError, UsageError
from memspan.training import loop
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.training.test_loop import tiny


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["measure", "gather", "save_model", "save_checkpoint"])
@pytest.mark.parametrize(
    "error", [MemoryError(), KeyboardInterrupt(), UsageError("no"), OSError(28, "full"), RuntimeError("out of memory")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_fails_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    tracker = "tensorboard" if name == "save_model" else None
    config = tiny(output=str(tmp_path / "runs" / "a"), steps=1, tracker=tracker)
    with monkeypatch.context() as patch:
        patch.setattr(loop, name, raising(error))
        with pytest.raises((type(error), MemspanError)):
            train(config)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "classification", "task_settings": {}, "data": ["absent.csv"]},
        {"task": "classification", "task_settings": {"limit": 1}},
        {"task": "nothing"},
        {"mechanism": "nothing"},
        {"mechanism_settings": {"heads": 5}},
        {"init_from": "nowhere"},
        {"task": "recall", "task_settings": {"facts": 1, "segment": 8}, "segments": 1},
        {"model": "/nowhere/at/all"},
    ],
    ids=str,
)
def test_whatever_the_request_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        train(tiny(**{"output": "runs/a", **changes}))
    assert files(tmp_path) == []


def test_what_was_there_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "old").write_text("mine")
    config = tiny(output=str(tmp_path), steps=1)
    monkeypatch.setattr(loop, "measure", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert files(tmp_path) == ["best", "best/old", "notes.txt"]


def test_a_file_of_the_users_keeps_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        (tmp_path / "run" / "notes.txt").write_text("mine")
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(output=str(tmp_path / "run"), steps=1))
    assert files(tmp_path) == ["run", "run/notes.txt"]


def test_a_checkpoint_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny(output=str(tmp_path / "run"), eval_every=1), raising(KeyboardInterrupt()))
    assert {"best", "last"} <= set(files(tmp_path / "run"))
    assert train(tiny(output=str(tmp_path / "run"), eval_every=1), resume=True).step == 6


def test_the_search_and_the_comparison_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TrainConfig.of(task="classification", data=["absent.csv"], mechanism="gru").save("run.yaml")
    assert run(["tune", "run.yaml", "--search", "width=8,16", "--trials", "1", "--output", "runs/a"]) == 2
    assert run(["compare", "run.yaml", "--seeds", "1"]) == 2
    assert run(["train", "run.yaml", "--output", "runs/a", "--unlabelled", "run.yaml"]) == 2
    assert files(tmp_path) == ["run.yaml"]
