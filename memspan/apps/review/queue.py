"""The queue of answers for review: a SQLite file with the flagged answers, and what persons have decided on them.

One process writes at a time, and each change is one transaction: what was confirmed is kept whatever happens afterwards, and an
interrupted change leaves nothing. A decision can be replaced by a later one; the earlier ones stay on record.
"""

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from memspan.apps.database import WAIT, Database
from memspan.errors import DamagedFolder, UsageError

if TYPE_CHECKING:
    from memspan.assistant.screen import Flagged

APPROVED, REJECTED, EDITED = "approved", "rejected", "edited"
VERSION: Final = 1  # of the tables
APPLICATION: Final = 0x6D656D72  # "memr", which tells a queue from other files of SQLite
MODE: Final = 0o600

_TABLES = """
CREATE TABLE queue (name TEXT NOT NULL);
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, last REAL NOT NULL, times INTEGER NOT NULL, command TEXT NOT NULL,
    memory TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, passages TEXT NOT NULL, reason TEXT NOT NULL,
    confidence REAL, withheld INTEGER NOT NULL);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL REFERENCES items ON DELETE CASCADE, time REAL NOT NULL,
    person TEXT NOT NULL, decision TEXT NOT NULL, text TEXT, note TEXT);
CREATE INDEX decisions_on ON decisions (item, id);
"""


@dataclass(frozen=True)
class Decision:
    """What a person has decided on an answer.

    Attributes:
        decision: "approved", "rejected" or "edited".
        text: the right answer, of one that was edited.
        time: unix seconds.
    """

    decision: str
    person: str
    time: float
    text: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Item:
    """An answer for review.

    Attributes:
        time: unix seconds when it was first flagged.
        times: how often the same answer to the same question was flagged while it was open.
        command: what gave the answer.
        passages: behind the answer, each with "source", "start", "end", "text" and "confidence".
        is_withheld: whether the answer was not shown.
        decisions: of persons, the latest last; none for an open answer.
    """

    id: int
    time: float
    times: int
    command: str
    memory: str
    question: str
    answer: str
    passages: tuple[dict[str, Any], ...]
    reason: str
    confidence: float | None
    is_withheld: bool
    decisions: tuple[Decision, ...] = ()

    @property
    def decision(self) -> Decision | None:
        """The decision that counts; None for an open answer."""
        return self.decisions[-1] if self.decisions else None

    @property
    def right_answer(self) -> str | None:
        """What a person stands for: the answer if it was approved, the edited text; None without either."""
        latest = self.decision
        if latest is None or latest.decision == REJECTED:
            return None
        return self.answer if latest.text is None else latest.text

    def to_dict(self) -> dict[str, Any]:
        """JSON values; "decision", "text", "by", "decided" and "note" are those of the decision that counts, or None."""
        latest = self.decision
        values = {name: value for name, value in asdict(self).items() if name != "decisions"}
        return values | {
            "passages": list(self.passages),
            "decision": None if latest is None else latest.decision,
            "text": self.right_answer,
            "by": None if latest is None else latest.person,
            "decided": None if latest is None else latest.time,
            "note": None if latest is None else latest.note,
            "earlier_decisions": [asdict(earlier) for earlier in self.decisions[:-1]],
        }


class Queue(Database):
    """The file of a queue. It may be open in several processes; each call is one transaction."""

    @classmethod
    def open(cls, path: Path, create: bool = False) -> Self:
        """The queue in a file, which is made where it does not exist and `create` says so, for this user alone.

        Raises UsageError for an absent file, one that holds something else, and one of a newer version; DamagedFolder for
        what cannot be read.
        """
        if create:
            with suppress(FileExistsError):
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
                except FileNotFoundError as error:
                    raise UsageError(f"The folder of the review queue {path} does not exist: make it first.") from error
                except PermissionError as error:
                    raise UsageError(f"The review queue {path} cannot be made: {error.strerror}.") from error
        if not path.is_file():
            raise UsageError(f"There is no review queue {path}: `memspan ask ... --review {path}` makes it.")
        try:
            connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
            connection.execute("PRAGMA synchronous = FULL")
            queue = cls(path, connection)
            version = queue._made(create)
        except sqlite3.DatabaseError as error:
            raise DamagedFolder(f"{path} cannot be opened as a review queue: {error}.") from error
        if version > VERSION:
            raise UsageError(f"{path} is of version {version}, made by a newer memspan; this one reads {VERSION}.")
        return queue

    def _made(self, create: bool) -> int:
        """The version of the tables, which are made in an empty file. Raises UsageError for a file with something else."""
        database = self._connection

        def is_empty() -> bool:
            return not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

        if create and is_empty():
            with self.writing():
                if is_empty():  # another process may have been faster
                    for statement in filter(str.strip, _TABLES.split(";")):
                        database.execute(statement)
                    database.execute("INSERT INTO queue VALUES (?)", (uuid.uuid4().hex[:8],))
                    database.execute(f"PRAGMA application_id = {APPLICATION}")
                    database.execute(f"PRAGMA user_version = {VERSION}")
        if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise UsageError(f"{self.path} is no review queue: name another file.")
        return int(database.execute("PRAGMA user_version").fetchone()[0])

    @property
    def name(self) -> str:
        """A name that no other queue has."""
        return str(self.rows("SELECT name FROM queue")[0]["name"])

    def add(self, flagged: "Flagged", command: str, memory: str) -> int:
        """Keep an answer for review; its number. The same open answer to the same question is counted, not kept again."""
        passages = [
            {name: getattr(passage, name) for name in ("source", "start", "end", "text", "confidence")}
            for passage in flagged.passages
        ]
        now, kept = time.time(), json.dumps(passages, ensure_ascii=False)
        with self.writing() as database:
            same = database.execute(
                "SELECT id FROM items WHERE memory = ? AND question = ? AND answer = ? AND reason = ? AND withheld = ? "
                "AND id NOT IN (SELECT item FROM decisions)",
                (memory, flagged.question, flagged.answer, flagged.reason, flagged.is_withheld),
            ).fetchone()
            if same is not None:
                database.execute("UPDATE items SET last = ?, times = times + 1 WHERE id = ?", (now, same["id"]))
                return int(same["id"])
            values = (now, now, command, memory, flagged.question, flagged.answer, kept, flagged.reason)
            made = database.execute(
                "INSERT INTO items (time, last, times, command, memory, question, answer, passages, reason, confidence, "
                "withheld) VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, flagged.confidence, flagged.is_withheld),
            )
            return int(made.lastrowid or 0)

    def items(self, decided: bool | None = None) -> list[Item]:
        """The answers, the oldest first: the open ones, with `decided` the others, with None all."""
        which = {None: "", True: "WHERE id IN (SELECT item FROM decisions)"}.get(
            decided, "WHERE id NOT IN (SELECT item FROM decisions)"
        )
        rows = self.rows(f"SELECT * FROM items {which} ORDER BY id")  # nosec B608: a constant
        return [self._item(row) for row in rows]

    def item(self, number: int) -> Item:
        """One answer. Raises UsageError if there is none with this number."""
        rows = self.rows("SELECT * FROM items WHERE id = ?", number)
        if not rows:
            raise UsageError(
                f"There is no answer {number} in {self.path}: `memspan review list {self.path}` lists them."
            )
        return self._item(rows[0])

    def decide(self, number: int, decision: Decision) -> Item:
        """Keep a decision on an answer, which counts from now on. Raises UsageError if there is no such answer."""
        self.item(number)
        with self.writing() as database:
            database.execute(
                "INSERT INTO decisions (item, time, person, decision, text, note) VALUES (?, ?, ?, ?, ?, ?)",
                (number, decision.time, decision.person, decision.decision, decision.text, decision.note),
            )
        return self.item(number)

    def forget(self, numbers: Sequence[int]) -> None:
        """Delete answers with their questions, passages and decisions. Raises UsageError, and deletes none, if one is absent."""
        for number in numbers:
            self.item(number)
        with self.writing() as database:
            database.executemany("DELETE FROM items WHERE id = ?", [(number,) for number in numbers])

    def _item(self, row: sqlite3.Row) -> Item:
        decided = self.rows("SELECT * FROM decisions WHERE item = ? ORDER BY id", row["id"])
        names = ("id", "time", "times", "command", "memory", "question", "answer", "reason", "confidence")
        return Item(
            **{name: row[name] for name in names},
            passages=tuple(json.loads(row["passages"])),
            is_withheld=bool(row["withheld"]),
            decisions=tuple(
                Decision(each["decision"], each["person"], each["time"], each["text"], each["note"]) for each in decided
            ),
        )
