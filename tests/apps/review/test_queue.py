"""The file of a queue: whole after a crash, in turns, and of this version."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from memspan.apps.review.queue import APPROVED, EDITED, REJECTED, Decision, Queue
from memspan.assistant.screen import Flagged
from memspan.errors import DamagedFolder, UsageError

FLAGGED = Flagged("Why?", "Because.", (), "no reason", 0.1, is_withheld=True)


def test_the_latest_decision_counts(tmp_path: Path) -> None:
    queue = Queue.open(tmp_path / "q", create=True)
    number = queue.add(FLAGGED, "ask", "library")
    answers = []
    for decision in (
        Decision(APPROVED, "ada", 1.0),
        Decision(REJECTED, "bob", 2.0, note="wrong"),
        Decision(EDITED, "ada", 3.0, text="Since."),
    ):
        answers.append(queue.decide(number, decision).right_answer)
    assert answers == ["Because.", None, "Since."]
    assert [item.id for item in queue.items(decided=True)] == [number]
    assert queue.items(decided=False) == []
    assert queue.add(FLAGGED, "ask", "library") == number + 1  # a decided answer is not an open one
    assert queue.add(FLAGGED, "chat", "library") == number + 1
    assert queue.item(number + 1).times == 2
    assert queue.add(FLAGGED, "ask", "another") == number + 2
    with pytest.raises(UsageError, match="There is no answer 9"):
        queue.forget([number, 9])
    assert len(queue.items()) == 3


CRASH = """
import os, sys
from pathlib import Path
from memspan.apps.review.queue import Queue
from types import SimpleNamespace
flagged = SimpleNamespace(question="Why?", answer="Because.", passages=(), reason="no reason", confidence=0.1, is_withheld=True)
queue = Queue.open(Path(sys.argv[1]), create=True)
queue.add(flagged, "ask", "confirmed")
assert "torch" not in sys.modules  # listing and deciding are quick
with queue.writing() as database:
    database.execute("UPDATE items SET memory = 'half done'")
    os._exit(9)
"""


def test_a_process_that_dies_leaves_what_was_confirmed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path / "q")], check=False)
    assert done.returncode == 9
    queue = Queue.open(tmp_path / "q")
    assert [item.memory for item in queue.items()] == ["confirmed"]
    assert queue.add(FLAGGED, "ask", "another") == 2


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a text that is no database" * 50, "utf-8")
    with pytest.raises(DamagedFolder, match="cannot be opened as a review queue"):
        Queue.open(tmp_path / "text", create=True)
    with sqlite3.connect(tmp_path / "other") as database:
        database.execute("CREATE TABLE notes (text TEXT)")
    with pytest.raises(UsageError, match="is no review queue"):
        Queue.open(tmp_path / "other", create=True)
    Queue.open(tmp_path / "new", create=True).close()
    with sqlite3.connect(tmp_path / "new") as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(UsageError, match="is of version 2, made by a newer memspan"):
        Queue.open(tmp_path / "new")
