"""What is kept of customers: a SQLite file with their turns and entities, what was handed over to a person, and past answers.

One process writes at a time, and each change is one transaction: what was confirmed is kept whatever happens afterwards, and an
interrupted change leaves nothing.
"""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from memspan.apps.database import Database
from memspan.apps.support.entities import Entity
from memspan.apps.support.past_answers import DIALOGUES, PastAnswer, as_past_answer
from memspan.errors import UsageError

FILE = "customers.sqlite"  # in a support folder
VERSION = 1  # of the tables
TRANSCRIPT = 10  # turns that a person is shown
RECENT = 3  # intents of a customer that a reply tells

_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE customers (id TEXT PRIMARY KEY, first REAL NOT NULL, last REAL NOT NULL, pending TEXT);
CREATE TABLE entities (
    customer TEXT NOT NULL REFERENCES customers ON DELETE CASCADE, kind TEXT NOT NULL, value TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (customer, kind, value));
CREATE TABLE hand_overs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT NOT NULL REFERENCES customers ON DELETE CASCADE, time REAL NOT NULL,
    message TEXT NOT NULL, reason TEXT NOT NULL, intent TEXT, answer TEXT, answered REAL, delivered REAL);
CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT NOT NULL REFERENCES customers ON DELETE CASCADE, time REAL NOT NULL,
    message TEXT NOT NULL, reply TEXT NOT NULL, kind TEXT NOT NULL, intent TEXT, confidence REAL, sources TEXT NOT NULL,
    hand_over INTEGER REFERENCES hand_overs ON DELETE SET NULL);
CREATE TABLE past_answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, customer TEXT NOT NULL, intent TEXT NOT NULL,
    message TEXT NOT NULL, reply TEXT NOT NULL);
CREATE INDEX turns_of ON turns (customer, id);
CREATE INDEX hand_overs_of ON hand_overs (customer, answered);
"""


@dataclass(frozen=True)
class HandOver:
    """A question that a person answers.

    Attributes:
        id: its number in the queue.
        reason: why nothing else answered it.
        intent: the known intent of the message; None for a message of none.
        answer: of the person; None while it is open.
        transcript: the last turns of the customer, each with "time", "message" and "reply"; empty unless asked for.
    """

    id: int
    customer: str
    time: float
    message: str
    reason: str
    intent: str | None
    answer: str | None
    transcript: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Customer:
    """What is known of a customer before a message.

    Attributes:
        pending: the intent whose reply waits for an entity; None without one.
        entities: {kind: value}, the latest of each kind.
        intents: of the last turns, the latest first.
        open: the hand-over that waits for a person; None without one.
        answered: hand-overs whose answers the customer has not seen.
        turns: number of them so far.
    """

    id: str
    pending: str | None = None
    entities: Mapping[str, str] = field(default_factory=dict)
    intents: tuple[str, ...] = ()
    open: HandOver | None = None
    answered: tuple[HandOver, ...] = ()
    turns: int = 0


@dataclass(frozen=True)
class Turn:
    """A message and its reply, as they are kept.

    Attributes:
        kind: of the reply, see `memspan.apps.support.reply`.
        reason: why it is handed over to a person; None if it is not.
        pending: the intent whose reply now waits for an entity.
        delivered: hand-overs whose answers are shown with the reply.
    """

    customer: str
    message: str
    reply: str
    kind: str
    intent: str | None = None
    confidence: float | None = None
    sources: Sequence[Mapping[str, Any]] = ()
    entities: Sequence[Entity] = ()
    reason: str | None = None
    pending: str | None = None
    delivered: Sequence[int] = ()


class Store(Database):
    """The file of a support folder. It may be open in several processes; each call is one transaction."""

    @classmethod
    def open(cls, path: Path, create: bool = False) -> Self:
        """The file, made where it does not exist and `create` says so.

        Raises UsageError for an absent file and one of a newer version, DamagedFolder for what is no such file.
        """
        if not create and not path.is_file():
            raise UsageError(f"{path.parent} is no support folder: `memspan support build` makes one.")
        return cls.connected(path, "a file of customers", _TABLES, VERSION)

    # ---- settings

    def settings(self) -> dict[str, Any]:
        """What `memspan support build` set, JSON values by name."""
        return {row["name"]: json.loads(row["value"]) for row in self.rows("SELECT * FROM settings")}

    def built(self, settings: Mapping[str, Any], answers: Sequence[PastAnswer]) -> None:
        """Put settings, and past answers from dialogues, into the position of the earlier ones. Equal answers keep their ids."""
        wanted = {(answer.customer, answer.intent, answer.message, answer.reply) for answer in answers}
        with self.writing() as database:
            database.execute("DELETE FROM settings")
            rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in settings.items()]
            database.executemany("INSERT INTO settings VALUES (?, ?)", rows)
            present = {}
            for row in database.execute("SELECT * FROM past_answers WHERE origin = ?", (DIALOGUES,)).fetchall():
                present[row["customer"], row["intent"], row["message"], row["reply"]] = row["id"]
            gone = [(number,) for key, number in present.items() if key not in wanted]
            database.executemany("DELETE FROM past_answers WHERE id = ?", gone)
            for answer in answers:
                if (answer.customer, answer.intent, answer.message, answer.reply) not in present:
                    _insert_answer(database, answer)

    def past_answers(self) -> dict[int, PastAnswer]:
        """All past answers by their ids."""
        rows = self.rows("SELECT * FROM past_answers ORDER BY id")
        return {
            row["id"]: PastAnswer(row["message"], row["reply"], row["intent"], row["customer"], row["origin"])
            for row in rows
        }

    def newest_answer(self) -> tuple[int, int]:
        """How many past answers there are, and the number of the newest: they change with every change of them."""
        rows = self.rows("SELECT count(*) AS number, coalesce(max(id), 0) AS newest FROM past_answers")
        return rows[0]["number"], rows[0]["newest"]

    # ---- customers

    def customer(self, name: str) -> Customer:
        """What is known of a customer; nothing of a new one."""
        found = self.rows("SELECT * FROM customers WHERE id = ?", name)
        if not found:
            return Customer(name)
        values = self.rows("SELECT kind, value FROM entities WHERE customer = ? ORDER BY time, rowid", name)
        intents = self.rows(
            "SELECT intent FROM turns WHERE customer = ? AND intent IS NOT NULL ORDER BY id DESC LIMIT ?", name, RECENT
        )
        waiting = self.rows("SELECT * FROM hand_overs WHERE customer = ? AND delivered IS NULL ORDER BY id", name)
        turns = self.rows("SELECT count(*) AS number FROM turns WHERE customer = ?", name)
        return Customer(
            name,
            found[0]["pending"],
            {row["kind"]: row["value"] for row in values},
            tuple(row["intent"] for row in intents),
            next((_hand_over(row) for row in waiting if row["answer"] is None), None),
            tuple(_hand_over(row) for row in waiting if row["answer"] is not None),
            turns[0]["number"],
        )

    def record(self, turn: Turn) -> int | None:
        """Keep a turn, with all that follows from it; the number of its hand-over, if a person is to answer.

        A customer has one open hand-over at most: further messages become part of it. The reply may hold `{ticket}`, which is
        replaced by its number.
        """
        now = time.time()
        with self.writing() as database:
            database.execute(
                "INSERT INTO customers VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET last = excluded.last, "
                "pending = excluded.pending",
                (turn.customer, now, now, turn.pending),
            )
            for entity in turn.entities:
                database.execute(
                    "INSERT OR REPLACE INTO entities VALUES (?, ?, ?, ?)",
                    (turn.customer, entity.kind, entity.value, now),
                )
            number = None if turn.reason is None else _queued(database, turn, now)
            reply = turn.reply if number is None else turn.reply.replace("{ticket}", str(number))
            sources = json.dumps([dict(source) for source in turn.sources], ensure_ascii=False)
            database.execute(
                "INSERT INTO turns (customer, time, message, reply, kind, intent, confidence, sources, hand_over) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (turn.customer, now, turn.message, reply, turn.kind, turn.intent, turn.confidence, sources, number),
            )
            shown = [(now, delivered) for delivered in turn.delivered]
            database.executemany("UPDATE hand_overs SET delivered = ? WHERE id = ?", shown)
        return number

    def turns(self, customer: str, last: int = TRANSCRIPT) -> list[dict[str, Any]]:
        """The last turns of a customer, the oldest first."""
        rows = self.rows("SELECT * FROM turns WHERE customer = ? ORDER BY id DESC LIMIT ?", customer, last)
        return [{**dict(row), "sources": json.loads(row["sources"])} for row in reversed(rows)]

    def forget(self, customer: str) -> dict[str, int]:
        """Delete everything that is kept of a customer; the number of turns, hand-overs and past answers that were.

        Raises UsageError if there is nothing.
        """
        with self.writing() as database:
            counts = {
                name: database.execute(f"SELECT count(*) FROM {name} WHERE customer = ?", (customer,)).fetchone()[0]  # nosec B608: names of tables
                for name in ("turns", "hand_overs", "past_answers")
            }
            found = database.execute("DELETE FROM customers WHERE id = ?", (customer,)).rowcount
            database.execute("DELETE FROM past_answers WHERE customer = ?", (customer,))
            if not found and not counts["past_answers"]:
                raise UsageError(f"Nothing is kept of a customer '{customer}'.")
        return counts

    # ---- hand-overs

    def queue(self, answered: bool = False) -> list[HandOver]:
        """The open hand-overs, the oldest first, with transcripts; with `answered` also the others."""
        which = "" if answered else "WHERE answer IS NULL"
        rows = self.rows(f"SELECT * FROM hand_overs {which} ORDER BY id")  # nosec B608: a constant
        return [_hand_over(row, self.turns(row["customer"])) for row in rows]

    def answer(self, number: int, text: str, intent: str | None = None) -> tuple[HandOver, bool]:
        """Keep a person's answer to a hand-over; it, and whether the answer became a past answer, too.

        Raises UsageError for a number that is not in the queue, and for one that was answered.
        """
        with self.writing() as database:
            row = database.execute("SELECT * FROM hand_overs WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise UsageError(f"There is no question {number} in the queue: `memspan support queue` lists them.")
            if row["answer"] is not None:
                raise UsageError(f"Question {number} was answered: {row['answer']}")
            intent = intent or row["intent"] or ""
            database.execute(
                "UPDATE hand_overs SET answer = ?, answered = ?, intent = ? WHERE id = ?",
                (text, time.time(), intent or None, number),
            )
            known = database.execute(
                "SELECT value, kind FROM entities WHERE customer = ?", (row["customer"],)
            ).fetchall()
            past = as_past_answer(row["message"], text, intent, row["customer"], dict(known))
            if past is not None:
                _insert_answer(database, past)
        hand_over = _hand_over(row)
        return HandOver(**{**vars(hand_over), "answer": text, "intent": intent or None}), past is not None


def _queued(database: sqlite3.Connection, turn: Turn, now: float) -> int:
    """The number of the open hand-over of a customer, which is made if there is none."""
    row = database.execute(
        "SELECT id FROM hand_overs WHERE customer = ? AND answer IS NULL ORDER BY id", (turn.customer,)
    ).fetchone()
    if row is not None:
        return int(row["id"])
    made = database.execute(
        "INSERT INTO hand_overs (customer, time, message, reason, intent) VALUES (?, ?, ?, ?, ?)",
        (turn.customer, now, turn.message, turn.reason, turn.intent),
    )
    return int(made.lastrowid or 0)


def _insert_answer(database: sqlite3.Connection, answer: PastAnswer) -> None:
    database.execute(
        "INSERT INTO past_answers (origin, customer, intent, message, reply) VALUES (?, ?, ?, ?, ?)",
        (answer.origin, answer.customer, answer.intent, answer.message, answer.reply),
    )


def _hand_over(row: sqlite3.Row, transcript: Sequence[Mapping[str, Any]] = ()) -> HandOver:
    turns = tuple({name: turn[name] for name in ("time", "message", "reply")} for turn in transcript)
    names = ("id", "customer", "time", "message", "reason", "intent", "answer")
    return HandOver(**{name: row[name] for name in names}, transcript=turns)
