"""A folder that is replaced is there and whole at every moment: for readers, after a crash, after a power cut."""

import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memspan.errors import DamagedFolder, MemspanError
from memspan.models import folders
from memspan.models.folders import CHECKSUMS, discard, find, read_whole, replaced, tidy, verify

CALLS = {"open", "fsync", "close", "mkdir", "rename", "unlink"}


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing takes most of the time; what counts here is that it is called."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Crash(BaseException):
    """The process is dead: nothing may catch this, and no later call does anything."""


class Calls:
    """Stand-ins for `os`, `shutil` and `exchange` in memspan.models.folders that note each call, and die at one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, exchanges: bool, die_at: int | None = None) -> None:
        self.made: list[tuple[str, Any]] = []
        self.die_at, self.error = die_at, 0
        self.paths: dict[int, Path] = {}
        exchange = folders.exchange if exchanges else lambda *_: False
        monkeypatch.setattr(folders, "exchange", self.noted("exchange", exchange))
        monkeypatch.setattr(folders, "os", self.of(os, CALLS))
        monkeypatch.setattr(folders, "shutil", self.of(shutil, {"rmtree"}))

    def of(self, module: Any, names: set[str]) -> Any:
        class Module:
            def __getattr__(_, name: str) -> Any:
                real = getattr(module, name)
                return self.noted(name, real) if name in names else real

        return Module()

    def noted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if self.die_at is not None and len(self.made) >= self.die_at:
                if self.error:
                    self.die_at = None
                    raise OSError(self.error, os.strerror(self.error))
                if name == "rmtree" and len(self.made) == self.die_at:  # half of it is gone
                    for path in list(Path(args[0]).iterdir())[:1]:
                        path.unlink()
                raise Crash
            self.made.append((name, self.paths.get(args[0], args[0])))
            result = real(*args)
            if name == "open":
                self.paths[result] = Path(args[0])
            return result

        return call


def write(folder: Path, text: str) -> None:
    with replaced(folder) as new:
        for name in ("a", "b"):
            (new / name).write_text(text)


def contents(version: Path) -> set[str]:
    verify(version)
    return {(version / name).read_text() for name in ("a", "b")}


def whole(folder: Path) -> str:
    """The text of a version, all of whose files must be of that version."""
    (text,) = read_whole(folder, contents)
    return text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchanges(request: pytest.FixtureRequest) -> bool:
    if request.param and sys.platform != "linux":
        pytest.skip("this system cannot exchange two names")
    return bool(request.param)


@pytest.mark.parametrize("first", [True, False])
def test_a_crash_ahead_of_any_call_leaves_a_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, first: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls(patch, exchanges=exchanges)
        if not first:
            write(tmp_path / "count" / "best", "old")
        before = len(calls.made)
        write(tmp_path / "count" / "best", "new")
    count, seen = len(calls.made) - before, set()
    assert count > 10
    for number in range(count):
        folder = tmp_path / str(number) / "best"
        if not first:
            write(folder, "old")
        with pytest.MonkeyPatch.context() as patch:
            Calls(patch, exchanges=exchanges, die_at=number)
            with pytest.raises(Crash):
                write(folder, "new")
        if first and find(folder) is None:
            seen.add("none")
        else:
            seen.add(whole(folder))
            assert not exchanges or folder.is_dir()  # the name itself is always there
        write(folder, "next")  # the same command works again
        assert whole(folder) == "next"
        assert names(folder.parent) == ["best"]
    assert seen == ({"none", "new"} if first else {"old", "new"})


def test_an_error_at_any_call_leaves_a_whole_version(tmp_path: Path, exchanges: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls(patch, exchanges=exchanges)
        write(tmp_path / "count", "old")
        before = len(calls.made)
        write(tmp_path / "count", "new")
    for number in range(len(calls.made) - before):
        folder = tmp_path / str(number) / "best"
        write(folder, "old")
        with pytest.MonkeyPatch.context() as patch:
            Calls(patch, exchanges=exchanges, die_at=number).error = errno.EIO
            with pytest.raises(MemspanError, match="cannot be written"):
                write(folder, "new")
        assert whole(folder) in ("old", "new")
        write(folder, "next")
        assert whole(folder) == "next"
        assert names(folder.parent) == ["best"]


def test_everything_is_flushed_before_the_old_version_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    folder, new = tmp_path / "best", tmp_path / ".best.new"
    write(folder, "old")
    calls = Calls(monkeypatch, exchanges=exchanges)
    write(folder, "new")
    order = [call for call in calls.made if call[0] in ("fsync", "exchange", "rename", "rmtree")]
    kinds = [name for name, _ in order]
    first_change = next(number for number, name in enumerate(kinds) if name in ("exchange", "rename"))
    flushed = {path for name, path in order[:first_change] if name == "fsync"}
    assert {new, new / "a", new / "b", new / CHECKSUMS} <= flushed
    after = [(name, path) for name, path in order[first_change:] if name != "exchange" or exchanges]
    retired = new if exchanges else tmp_path / ".best.old"
    steps = [("exchange", new)] if exchanges else [("rename", folder), ("fsync", tmp_path), ("rename", new)]
    assert after == [*steps, ("fsync", tmp_path), ("rmtree", retired)]


def test_the_folders_above_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, exchanges=False)
    write(tmp_path / "runs" / "a" / "best", "first")
    flushed = [path for name, path in calls.made if name == "fsync"]
    assert {tmp_path, tmp_path / "runs", tmp_path / "runs" / "a"} <= set(flushed)


def test_a_reader_meets_no_moment_without_a_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    folder, problems, reads = tmp_path / "best", list[BaseException](), 0
    if not exchanges:
        monkeypatch.setattr(folders, "exchange", lambda *_: False)
    last = 200 if exchanges else 60
    write(folder, "0")
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        try:
            while not done.is_set():
                assert whole(folder).isdigit()
                reads += 1
        except BaseException as error:
            problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(last + 1):
        write(folder, str(number))
    done.set()
    reader.join()
    assert not problems, problems
    assert reads > 0
    assert whole(folder) == str(last)


def test_what_is_read_is_of_one_version(tmp_path: Path) -> None:
    folder, reads = tmp_path / "best", list[str]()
    write(folder, "old")

    def slow(version: Path) -> tuple[str, str]:
        first = (version / "a").read_text()
        if not reads:
            write(folder, "new")
        reads.append(first)
        return first, (version / "b").read_text()

    assert read_whole(folder, slow) == ("new", "new")
    assert reads == ["old", "new"]


def test_a_folder_that_never_rests_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "ATTEMPTS", 3)
    write(tmp_path / "best", "0")
    count = 0

    def read(version: Path) -> None:
        nonlocal count
        count += 1
        write(tmp_path / "best", str(count))

    with pytest.raises(MemspanError, match="was replaced at each of 3 attempts"):
        read_whole(tmp_path / "best", read)


def test_an_error_in_a_folder_that_rests_is_raised_at_once(tmp_path: Path) -> None:
    write(tmp_path / "best", "old")
    (tmp_path / "best" / "a").write_text("other")
    with pytest.raises(DamagedFolder, match="a is damaged"):
        whole(tmp_path / "best")


# ---- links


@pytest.mark.parametrize("name", ["best", ".best.new", ".best.old"])
def test_a_link_is_replaced_and_what_it_points_to_is_left(tmp_path: Path, exchanges: bool, name: str) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "run" / "best"
    write(victim, "precious")
    folder.parent.mkdir()
    if name != "best":
        write(folder, "old")
    (folder.parent / name).symlink_to(victim, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        Calls(patch, exchanges=exchanges)
        write(folder, "new")
    assert whole(folder) == "new"
    assert not folder.is_symlink()
    assert names(folder.parent) == ["best"]
    assert whole(victim) == "precious"


def test_links_within_a_folder_are_not_followed(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "best"
    write(victim, "precious")
    write(folder, "old")
    (folder / "a").unlink()
    (folder / "a").symlink_to(victim / "a")
    (folder / "linked").symlink_to(victim, target_is_directory=True)
    write(folder, "new")
    assert whole(folder) == "new"
    (folder / "linked").symlink_to(victim, target_is_directory=True)
    discard(folder)
    assert names(tmp_path) == ["victim"]
    assert whole(victim) == "precious"


def test_a_file_of_that_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "best").write_text("a note")
    with pytest.raises(MemspanError, match="a file has this name"):
        write(tmp_path / "best", "new")
    assert (tmp_path / "best").read_text() == "a note"
    assert names(tmp_path) == ["best"]


def test_leftovers_are_removed_and_a_retired_version_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    write(folder, "old")
    folder.rename(tmp_path / ".best.old")
    (tmp_path / ".best.new").mkdir()
    assert whole(folder) == "old"
    tidy(folder)
    assert names(tmp_path) == ["best"]
    assert whole(folder) == "old"


@pytest.mark.parametrize("name", ["a", CHECKSUMS])
def test_a_pipe_does_not_hold_up_the_check(tmp_path: Path, name: str) -> None:
    write(tmp_path / "best", "old")
    (tmp_path / "best" / name).unlink()
    os.mkfifo(tmp_path / "best" / name)
    with pytest.raises(DamagedFolder, match=name):
        verify(tmp_path / "best")
