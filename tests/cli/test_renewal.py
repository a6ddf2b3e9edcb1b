"""Folders that change: what is gone is forgotten, and a watch reads what changes."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memspan import load_memory
from tests.commands import Run, snapshot


@pytest.fixture
def notes(run: Run, tiny_model: Path, tmp_path: Path) -> Path:
    """A folder of three notes, which the memory "m" holds beside a chat's exchange and a document from elsewhere."""
    folder = tmp_path / "notes"
    (folder / "old").mkdir(parents=True)
    for name in ("a.md", "b.md", "old/c.md"):
        (folder / name).write_text(f"The boat {name} is green.\n", "utf-8")
    (tmp_path / "notes.md").write_text("A document beside the folder.", "utf-8")
    assert run("read", "notes", "notes.md", "--into", "m", "--model", str(tiny_model)).code == 0
    return folder


def test_what_is_gone_from_the_folder_is_forgotten_in_one_commit(run: Run, notes: Path, tmp_path: Path) -> None:
    (notes / "b.md").unlink()
    (tmp_path / "notes.md").unlink()  # not of the folder
    before = load_memory(tmp_path / "m").generation
    dry = run("read", "notes", "--into", "m", "--update", "--prune", "--dry-run")
    assert dry.out == "Would forget notes/b.md.\n"
    assert load_memory(tmp_path / "m").generation == before
    outcome = run("read", "notes", "--into", "m", "--update", "--prune")
    assert outcome.code == 0
    assert "forgot notes/b.md: its file is gone" in outcome.err
    memory = load_memory(tmp_path / "m")
    assert list(memory.sources) == ["notes/a.md", "notes/old/c.md", "notes.md"]
    assert memory.generation == before + 1
    assert "notes/b.md" not in {source for source, _, _ in snapshot(tmp_path / "m")}


def test_what_cannot_be_looked_into_is_not_taken_for_gone(run: Run, notes: Path, tmp_path: Path) -> None:
    (notes / "old").rename(tmp_path / "elsewhere")
    (notes / "old").symlink_to(tmp_path / "nowhere")  # as a disk that is not mounted
    (notes / "a.md").write_bytes(bytes(100))
    assert run("read", "notes", "--into", "m", "--update", "--prune").code == 0
    assert "notes/a.md" in load_memory(tmp_path / "m").sources
    assert "notes/old/c.md" in load_memory(tmp_path / "m").sources


@pytest.mark.parametrize(
    ("paths", "options", "sentence"),
    [
        (["notes"], ["--prune"], "belongs to --update"),
        (["notes"], ["--update", "--dry-run"], "belongs to --prune"),
        (["notes.md"], ["--update", "--prune"], "name a folder"),
        (["."], ["--update", "--prune"], "needs a folder by its name"),
        (["missing"], ["--update", "--prune"], "no file or folder"),
        (["notes"], ["--watch"], "belongs to --update"),
        (["-"], ["--update", "--watch"], "standard input"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, notes: Path, tmp_path: Path, paths: list[str], options: list[str], sentence: str
) -> None:
    before = snapshot(tmp_path / "m")
    outcome = run("read", *paths, "--into", "m", *options)
    assert outcome.code == 2
    assert sentence in outcome.sentence
    assert snapshot(tmp_path / "m") == before


def test_an_empty_folder_is_no_reason_to_forget_everything(run: Run, notes: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path / "m")
    notes.rename(tmp_path / "moved")
    notes.mkdir()
    outcome = run("read", "notes", "notes.md", "--into", "m", "--update", "--prune")
    assert outcome.code == 2
    assert "holds no readable document, so nothing was read or forgotten" in outcome.sentence
    assert "memspan forget m --source 'notes/*'" in outcome.sentence
    assert snapshot(tmp_path / "m") == before


def watchfiles(steps: "list[Callable[[], Any]]") -> ModuleType:
    """A module that reports a change after each of these steps, and then Ctrl-C; a timeout comes first."""
    module = ModuleType("watchfiles")

    def watch(*paths: Path, watch_filter: object, **options: Any) -> Iterator[set[Any]]:
        assert all(path.is_absolute() for path in paths)
        assert options["yield_on_timeout"]
        yield set()
        for step in steps:
            yield set()
            step()
            yield {("modified", "file")}

    module.__dict__.update(watch=watch, DefaultFilter=lambda ignore_paths: ignore_paths)
    return module


def test_a_watch_reads_what_changes_and_survives_a_bad_file(
    run: Run, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Callable[[], Any]] = [
        lambda: (notes / "a.md").write_text("The boat is red now.\n", "utf-8"),
        lambda: (notes / "b.md").write_bytes(bytes(100)),
        lambda: (shutil.rmtree(notes), notes.mkdir()),
        lambda: (notes / "d.md").write_text("The last boat.\n", "utf-8"),
    ]
    monkeypatch.setitem(sys.modules, "watchfiles", watchfiles(steps))
    outcome = run("read", "notes", "--into", "m", "--update", "--watch", "--prune")
    assert outcome.code == 0
    texts = [text for _, text, _ in snapshot(tmp_path / "m")]
    assert texts == ["A document beside the folder.", "The last boat.\n"]
    assert "Read 1 document" in outcome.out
    assert outcome.err.count("holds no readable document") == 1  # the folder was empty for a moment
    assert outcome.out.count("nothing new") == 1  # of the first reading; later ones without news say nothing


def test_a_watch_without_its_package(run: Run, notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    outcome = run("read", "notes", "--into", "m", "--update", "--watch")
    assert "pip install 'memspan[watch]'" in outcome.sentence
