"""The folder of a run: what it refuses, and that two processes do not share it."""

import sqlite3
from pathlib import Path

import pytest

from memspan.apps.desk.work import FILE, Work
from memspan.errors import MemoryLocked, SystemRefused, UsageError


def test_a_result_is_computed_once_for_the_same_inputs(tmp_path: Path) -> None:
    with Work(tmp_path / "work") as work:
        assert work.result("a", 0, ["x"], lambda: [1, "é"]) == [1, "é"]
        assert work.result("a", 0, ["x"], lambda: [2]) == [1, "é"]
        assert work.result("a", 0, ["y"], lambda: [3]) == [3]
        assert work.result("b", 0, ["x"], lambda: [4]) == [4]
        assert (work.computed, work.taken) == (3, 1)
    with Work(tmp_path / "work") as work:
        assert work.result("a", 0, ["y"], lambda: [5]) == [3]
        assert list(work.results("b", 1)) == [[4]]


def test_a_computation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with Work(tmp_path) as work:
        with pytest.raises(ZeroDivisionError):
            work.result("a", 0, [], lambda: 1 / 0)
        assert work.result("a", 0, [], lambda: 7) == 7


def test_only_one_process_works_in_a_folder(tmp_path: Path) -> None:
    with Work(tmp_path), pytest.raises(MemoryLocked, match="Another process works in"):
        Work(tmp_path)
    Work(tmp_path).close()


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(UsageError, match="delete it"):
        Work(tmp_path)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(UsageError, match="newer memspan"):
        Work(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemRefused, match="cannot be made"):
        Work(tmp_path / "file" / "work")
