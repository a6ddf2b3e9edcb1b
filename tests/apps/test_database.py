"""The SQLite file of a program: another program's file is refused, and an interrupted change leaves nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from memspan.apps.database import Database
from memspan.errors import DamagedFolder, MemoryLocked

TABLES = "CREATE TABLE notes (text TEXT NOT NULL); CREATE INDEX of_text ON notes (text)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.sqlite"


def opened(path: Path) -> Database:
    return Database.connected(path, "a file of notes", TABLES, 1)


def test_tables_are_made_once(path: Path) -> None:
    with closing(opened(path)) as first:
        with first.writing() as connection:
            connection.execute("INSERT INTO notes VALUES ('mill')")
        with closing(opened(path)) as second:
            assert [row["text"] for row in second.rows("SELECT * FROM notes WHERE text = ?", "mill")] == ["mill"]


def test_an_interrupted_change_leaves_nothing(path: Path) -> None:
    with closing(opened(path)) as database:
        change = database.writing()
        change.__enter__().execute("INSERT INTO notes VALUES ('mill')")
        change.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert database.rows("SELECT * FROM notes") == []


def test_the_file_of_another_program_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE letters (text TEXT)")
    before = path.read_bytes()
    with pytest.raises(DamagedFolder, match="something else"):
        opened(path)
    assert path.read_bytes() == before


def test_a_writer_waits_for_another_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.apps.database.WAIT", 0.01)
    with closing(opened(path)) as first, closing(opened(path)) as second, first.writing():
        waiting = second.writing()
        with pytest.raises(MemoryLocked, match="Another process writes"):
            waiting.__enter__()
