"""Folders are whole or refused: any change of any byte of any file is seen before the file is used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memspan.errors import DamagedFolder, MemspanError
from memspan.models.folders import CHECKSUMS, find, replaced, verify, write_checksums
from memspan.models.saved import open_model
from memspan.training.config import TrainConfig
from memspan.training.loop import train


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a short run of a task that learns a tokenizer and labels."""
    folder = tmp_path_factory.mktemp("folders") / "run"
    settings = {"limit": 12, "segment": 8, "vocabulary": 300}
    train(
        TrainConfig.of(
            task="classification",
            task_settings=settings,
            mechanism="delta",
            width=16,
            depth=1,
            batch_size=4,
            steps=2,
            output=str(folder),
        )
    )
    return folder


def damages(content: bytes) -> list[bytes]:
    """The content with one bit flipped at up to 60 places, cut at several lengths, and with bytes behind it."""
    step = max(1, len(content) // 60)
    flipped = [
        content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :] for at in range(0, len(content), step)
    ]
    lengths = {0, 1, len(content) // 2, len(content) - 1}
    return [*flipped, *(content[:length] for length in lengths), content + b"\n", content + b"\0"]


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_every_flip_and_cut_of_every_file_is_refused(run_folder: Path, checkpoint: str) -> None:
    folder = run_folder / checkpoint
    verify(folder)
    names = sorted(path.name for path in folder.iterdir())
    assert {CHECKSUMS, "config.yaml", "config.json", "model.safetensors", "tokenizer.json", "labels.json"} <= set(names)
    count = 0
    for name in names:
        content = (folder / name).read_bytes()
        for damaged in damages(content):
            (folder / name).write_bytes(damaged)
            with pytest.raises(DamagedFolder, match=name):
                verify(folder)
            count += 1
        (folder / name).unlink()
        with pytest.raises(DamagedFolder, match=name):
            verify(folder)
        (folder / name).write_bytes(content)
    verify(folder)
    assert count > 300


def test_who_opens_a_model_or_resumes_a_run_sees_it(run_folder: Path) -> None:
    config = TrainConfig.load(run_folder / "last" / "config.yaml")
    for checkpoint, name, use in (
        ("best", "model.safetensors", lambda: open_model(run_folder / "best")),
        ("best", "config.json", lambda: open_model(run_folder / "best")),
        ("last", "config.yaml", lambda: train(config, resume=True)),
        ("last", "training.safetensors", lambda: train(config, resume=True)),
    ):
        use_it: Callable[[], object] = use
        path = run_folder / checkpoint / name
        content = path.read_bytes()
        path.write_bytes(content[:-20])  # a configuration cut here is still valid YAML
        with pytest.raises(DamagedFolder, match=f"{name} is damaged"):
            use_it()
        path.write_bytes(content)


def test_only_what_is_read_is_checked(tmp_path: Path) -> None:
    for name in ("small.json", "large.safetensors"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path)
    (tmp_path / "large.safetensors").write_text("changed")
    verify(tmp_path, lambda name: name.endswith(".json"))
    with pytest.raises(DamagedFolder, match=r"large\.safetensors is damaged"):
        verify(tmp_path)


def test_a_recorded_name_stays_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_text("s")
    write_checksums(tmp_path)
    record = (tmp_path / CHECKSUMS).read_text("utf-8").replace('"secret"', '"../secret"')
    (tmp_path / "inner" / CHECKSUMS).write_text(record)
    with pytest.raises(DamagedFolder, match="is damaged"):
        verify(tmp_path / "inner")


def test_a_folder_that_was_not_written_to_its_end_leaves_the_old_one(tmp_path: Path) -> None:
    with replaced(tmp_path / "last") as folder:
        (folder / "a").write_text("old")

    def interrupted() -> None:
        with replaced(tmp_path / "last") as folder:
            (folder / "a").write_text("new")
            raise OSError("the disk is full")

    with pytest.raises(MemspanError, match="cannot be written"):
        interrupted()
    assert (tmp_path / "last" / "a").read_text() == "old"
    verify(tmp_path / "last")
    (tmp_path / "last").rename(tmp_path / ".last.old")  # killed between two renames
    assert find(tmp_path / "last") == tmp_path / ".last.old"
