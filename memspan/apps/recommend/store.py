"""What a recommend folder keeps: a SQLite file with items, events and the states of users.

One process writes at a time, and each change is one transaction: after a crash at any moment all of it is there, or none of it.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from memspan.apps.database import Database
from memspan.apps.recommend.steps import Step, UserState
from memspan.apps.recommend.tables import EventRow, ItemRow
from memspan.errors import DamagedFolder, UsageError

FILE = "recommend.sqlite"
VERSION = 1  # of the tables

_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    id TEXT PRIMARY KEY, number INTEGER UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL, genres TEXT NOT NULL, vector BLOB
);
CREATE TABLE events (
    number INTEGER PRIMARY KEY, user TEXT NOT NULL, item TEXT NOT NULL, time REAL NOT NULL, type TEXT NOT NULL, rating REAL,
    UNIQUE (user, time, item, type)
);
CREATE TABLE states (
    user TEXT PRIMARY KEY, numbers BLOB NOT NULL, weights BLOB NOT NULL, last TEXT
);
"""


class StoredItem(NamedTuple):
    """An item as it is kept.

    Attributes:
        number: in the model; None for an item that the model was not fitted on.
        vector: of its text, float16 (E,) of length one; None where it has no text.
    """

    row: ItemRow
    number: int | None
    vector: np.ndarray | None


class Store(Database):
    """The file of a recommend folder. It may be open in several processes; each call is one transaction."""

    @classmethod
    def open(cls, folder: Path, create: bool = False) -> Self:
        """The file, made where it does not exist and `create` says so.

        Raises UsageError for an absent file and one of a newer version, DamagedFolder for what is no such file.
        """
        path = folder / FILE
        if not create and not path.is_file():
            raise UsageError(f"{folder} is no recommend folder: `memspan recommend build` makes one.")
        return cls.connected(path, "a file of events", _TABLES, VERSION)

    # ---- settings

    def settings(self) -> dict[str, Any]:
        """What a build has set, JSON values by name."""
        return {row["name"]: json.loads(row["value"]) for row in self.rows("SELECT * FROM settings")}

    def set(self, values: Mapping[str, Any]) -> None:
        """Within `writing`."""
        rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in values.items()]
        self._connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    # ---- items

    def add_items(self, items: Iterable[ItemRow]) -> None:
        """Within `writing`: items by their ids; what is known of an item is replaced, and its vector taken away if it changes."""
        self._connection.executemany(
            "INSERT INTO items (id, title, text, genres) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "vector = CASE WHEN title = excluded.title AND text = excluded.text AND genres = excluded.genres THEN vector END, "
            "title = excluded.title, text = excluded.text, genres = excluded.genres",
            [(item.id, item.title, item.text, item.genres) for item in items],
        )

    def items(self) -> list[StoredItem]:
        """All items: those of the model in the order of their numbers, then the others in the order of their ids."""
        rows = self.rows("SELECT * FROM items ORDER BY number IS NULL, number, id")
        return [
            StoredItem(
                ItemRow(row["id"], row["title"], row["text"], row["genres"]),
                row["number"],
                None if row["vector"] is None else np.frombuffer(row["vector"], np.float16),
            )
            for row in rows
        ]

    def number_items(self, ids: Sequence[str]) -> None:
        """Within `writing`: give the items of a model their numbers, and all others none."""
        self._connection.execute("UPDATE items SET number = NULL")
        self._connection.executemany("UPDATE items SET number = ? WHERE id = ?", list(enumerate(ids)))

    def set_vectors(self, vectors: Mapping[str, np.ndarray | None]) -> None:
        """Within `writing`: the vectors of items by their ids."""
        rows = [
            (None if value is None else value.astype(np.float16).tobytes(), name) for name, value in vectors.items()
        ]
        self._connection.executemany("UPDATE items SET vector = ? WHERE id = ?", rows)

    # ---- events

    def add_events(self, events: Iterable[EventRow]) -> list[EventRow]:
        """Within `writing`: those of the events that were not known, which are added; their items too."""
        added = []
        for event in events:
            done = self._connection.execute(
                "INSERT OR IGNORE INTO events (user, item, time, type, rating) VALUES (?, ?, ?, ?, ?)",
                event_values(event),
            )
            if done.rowcount:
                added.append(event)
        names = {(event.item,) for event in added}
        self._connection.executemany(
            "INSERT OR IGNORE INTO items (id, title, text, genres) VALUES (?, '', '', '')", names
        )
        return added

    def events(self, user: str | None = None) -> list[EventRow]:
        """All events, or those of a user, in the order of time; of equal times in the order in which they were added."""
        if user is None:
            rows = self.rows("SELECT user, item, time, type, rating FROM events ORDER BY time, number")
        else:
            rows = self.rows(
                "SELECT user, item, time, type, rating FROM events WHERE user = ? ORDER BY time, number", user
            )
        return [EventRow(row["user"], row["item"], row["time"], row["type"], row["rating"]) for row in rows]

    def newest(self, user: str) -> float:
        """The time of the newest event of a user; -inf without any."""
        (row,) = self.rows("SELECT max(time) AS time FROM events WHERE user = ?", user)
        return -math.inf if row["time"] is None else float(row["time"])

    # ---- users

    def state(self, user: str, decays: int) -> UserState:
        """The state of a user, with so many decays; that of a user without one is empty."""
        rows = self.rows("SELECT * FROM states WHERE user = ?", user)
        if not rows:
            return UserState()
        numbers = np.frombuffer(rows[0]["numbers"], np.int32).copy()
        weights = np.frombuffer(rows[0]["weights"], np.float32).copy()
        if weights.size != decays * numbers.size:
            raise DamagedFolder(f"{self.path} holds a state of another model for '{user}': build the folder again.")
        last = None
        if rows[0]["last"] is not None:
            *event, weight = json.loads(rows[0]["last"])
            last = Step(EventRow(*event), weight)
        return UserState(numbers, weights.reshape(decays, -1), last)

    def set_states(self, states: Mapping[str, UserState], replace: bool = False) -> None:
        """Within `writing`: the states of users; with `replace` all others are deleted."""
        if replace:
            self._connection.execute("DELETE FROM states")
        rows = [
            (
                user,
                state.numbers.astype(np.int32).tobytes(),
                state.values.astype(np.float32).tobytes(),
                None if state.last is None else json.dumps([*state.last.event, state.last.weight]),
            )
            for user, state in states.items()
        ]
        self._connection.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", rows)

    def forget(self, user: str) -> int:
        """Delete all that is kept of a user; the number of their events. Raises UsageError if there is none."""
        with self.writing():
            count = self._connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount
            self._connection.execute("DELETE FROM states WHERE user = ?", (user,))
            if not count:
                raise UsageError(f"Nothing is kept of a user '{user}'.")
        return count

    def counts(self) -> dict[str, int]:
        """How many users, items and events there are, and items that the model was fitted on."""
        row = self.rows(
            "SELECT (SELECT count(DISTINCT user) FROM events) users, (SELECT count(*) FROM items) items, "
            "(SELECT count(*) FROM events) events, (SELECT count(number) FROM items) fitted"
        )[0]
        return dict(row)


def event_values(event: EventRow) -> tuple[Any, ...]:
    """An event as a row of the table."""
    return (event.user, event.item, event.time, event.type, event.rating)
