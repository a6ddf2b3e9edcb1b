"""What a monitor keeps: texts with their opinions, counts of each period, alerts, and how far each source is read.

One SQLite file, with one writer. What belongs together is written in one transaction: texts, counts, the position of
their source, and the alerts that they cause. After a crash at any moment all of it is there, or none of it.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from filelock import FileLock, Timeout

from memspan.apps.monitor.detection import Count
from memspan.apps.monitor.entries import Entry, Opinion, Position, Rejected
from memspan.apps.monitor.periods import Periods
from memspan.errors import MemspanError, UsageError

FILE, LOCK = "monitor.sqlite", "lock"
VERSION = 1
_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE texts (
    number INTEGER PRIMARY KEY, identity BLOB NOT NULL UNIQUE, source TEXT NOT NULL, given TEXT NOT NULL, time INTEGER NOT NULL,
    received INTEGER NOT NULL, period INTEGER NOT NULL, text TEXT NOT NULL, topic TEXT NOT NULL, topic_confidence REAL NOT NULL,
    sentiment TEXT NOT NULL, sentiment_confidence REAL NOT NULL
);
CREATE INDEX texts_of_a_period ON texts (topic, period, sentiment, sentiment_confidence);
CREATE TABLE counts (
    topic TEXT NOT NULL, period INTEGER NOT NULL, texts INTEGER NOT NULL, negative INTEGER NOT NULL,
    PRIMARY KEY (topic, period)
) WITHOUT ROWID;
CREATE TABLE sources (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, lines INTEGER NOT NULL, mark TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE rejected (
    source TEXT NOT NULL, number INTEGER NOT NULL, reason TEXT NOT NULL, received INTEGER NOT NULL,
    PRIMARY KEY (source, number, reason)
) WITHOUT ROWID;
CREATE TABLE alerts (
    number INTEGER PRIMARY KEY, topic TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, raised INTEGER NOT NULL,
    content TEXT NOT NULL, UNIQUE (topic, last)
);
CREATE TABLE deliveries (
    alert INTEGER NOT NULL, target TEXT NOT NULL, delivered INTEGER, problem TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (alert, target)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class MonitorSettings:
    """What a monitor was set up with.

    Attributes:
        period: whose texts are counted together: hour, day or week.
        negative: the label of negative texts.
        keep: days for which texts are kept; None for ever.
    """

    period: str
    negative: str
    keep: int | None = None


class StoredText(NamedTuple):
    """A text as it is stored."""

    source: str
    given: str
    time: int
    text: str
    topic: str
    sentiment: str
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class Alert(NamedTuple):
    """A stored alert; `content` is what is delivered."""

    number: int
    topic: str
    first: int
    last: int
    content: dict[str, Any]


class Store:
    """The open store of a monitor."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for a folder without a monitor, or with one of another version."""
        self.path = folder / FILE
        if not self.path.is_file():
            raise UsageError(
                f"{folder} holds no monitor: make one with `memspan monitor train` or `memspan monitor init`."
            )
        self._database = _connect(self.path)
        version = self._rows("PRAGMA user_version")[0][0]
        if version != VERSION:
            raise UsageError(f"{self.path} must be of version {VERSION}, got {version}: use the memspan that made it.")
        values = {name: json.loads(value) for name, value in self._rows("SELECT name, value FROM settings")}
        self.settings = MonitorSettings(values["period"], values["negative"], values["keep"])
        self.periods = Periods(self.settings.period)

    @classmethod
    def create(cls, folder: Path, settings: MonitorSettings) -> Self:
        """A new store. The folder may hold the models already."""
        Periods(settings.period)
        database = _connect(folder / FILE)
        with database:
            database.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {VERSION};COMMIT;")
        with database:
            rows = [(name, json.dumps(value)) for name, value in asdict(settings).items()]
            database.executemany("INSERT INTO settings VALUES (?, ?)", rows)
        database.close()
        return cls(folder)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Within, all is written or nothing. Raises MemspanError where the disk refuses it."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise MemspanError(f"{self.path} cannot be written: {error}.") from error
            raise

    def known(self, identities: Sequence[bytes]) -> set[bytes]:
        """Those of the identities that are stored."""
        found: set[bytes] = set()
        for first in range(0, len(identities), 500):
            part = identities[first : first + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT identity FROM texts WHERE identity IN ({marks})"  # nosec B608: only marks
            found |= {row[0] for row in self._rows(query, part)}
        return found

    def add(self, texts: Iterable[tuple[str, Entry, Opinion]], now: int) -> None:
        """Store new texts, each with its source and its opinion, and count them in their periods."""
        counts: dict[tuple[str, int], list[int]] = {}
        rows = []
        for source, entry, opinion in texts:
            moment = now if entry.time is None else entry.time
            period = self.periods.number(moment)
            rows.append((entry.identity, source, entry.given, moment, now, period, entry.text, *opinion))
            sums = counts.setdefault((opinion.topic, period), [0, 0])
            sums[0] += 1
            sums[1] += opinion.sentiment == self.settings.negative
        self._database.executemany(
            "INSERT INTO texts (identity, source, given, time, received, period, text, topic, topic_confidence, sentiment,"
            " sentiment_confidence) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._database.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET texts = texts + excluded.texts,"
            " negative = negative + excluded.negative",
            [(*key, *values) for key, values in counts.items()],
        )

    def reject(self, source: str, rejected: Iterable[Rejected], now: int) -> None:
        rows = [(source, number, reason, now) for number, reason in rejected]
        self._database.executemany("INSERT OR IGNORE INTO rejected VALUES (?, ?, ?, ?)", rows)

    def move(self, source: str, position: Position) -> None:
        """Note how far a source is read."""
        row = (source, position.offset, position.lines, position.mark)
        self._database.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?)", row)

    def add_alert(self, topic: str, first: int, last: int, now: int, content: Mapping[str, Any]) -> Alert | None:
        """Store an alert; None where there is one of this topic and period already."""
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO alerts (topic, first, last, raised, content) VALUES (?, ?, ?, ?, '{}')",
            (topic, first, last, now),
        )
        if not cursor.rowcount:
            return None
        number = int(cursor.lastrowid or 0)
        numbered = {"alert": number, **content}
        self._database.execute(
            "UPDATE alerts SET content = ? WHERE number = ?", (json.dumps(numbered, ensure_ascii=False), number)
        )
        return Alert(number, topic, first, last, numbered)

    def set(self, name: str, value: Any) -> None:
        self._database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def forget(self, period: int, shrink: bool = False) -> int:
        """Delete for good what is of the periods before this one; the number of texts. It is not taken in again.

        Args:
            shrink: give the space back to the system, which rewrites the whole file.
        """
        with self.transaction():
            texts = self._database.execute("DELETE FROM texts WHERE period < ?", (period,)).rowcount
            self._database.execute("DELETE FROM counts WHERE period < ?", (period,))
            self._database.execute("DELETE FROM rejected WHERE received < ?", (self.periods.begin(period),))
            self._database.execute(
                "DELETE FROM deliveries WHERE alert IN (SELECT number FROM alerts WHERE first < ?)", (period,)
            )
            self._database.execute("DELETE FROM alerts WHERE first < ?", (period,))
            self.set("forgotten", max(period, self.forgotten))
        if texts and shrink:
            self._database.execute("VACUUM")
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was forgotten is not left in the log either
        return texts

    # ---- deliveries

    def expect_delivery(self, alert: int, target: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO deliveries (alert, target) VALUES (?, ?)", (alert, target))

    def delivered(self, alert: int, target: str, now: int | None, problem: str = "") -> None:
        """Note that an alert has arrived; with `now` None, why it has not."""
        self._database.execute(
            "UPDATE deliveries SET delivered = ?, problem = ? WHERE alert = ? AND target = ?",
            (now, problem, alert, target),
        )

    def undelivered(self, target: str) -> list[Alert]:
        """The alerts that are still to be delivered to a target, the earliest first."""
        return self._alerts(
            "JOIN deliveries ON deliveries.alert = alerts.number WHERE target = ? AND delivered IS NULL", (target,)
        )

    # ---- reading

    def positions(self) -> dict[str, Position]:
        rows = self._rows("SELECT name, position, lines, mark FROM sources")
        return {name: Position(offset, lines, mark) for name, offset, lines, mark in rows}

    @property
    def texts(self) -> int:
        """The number of texts."""
        return int(self._rows("SELECT count(*) FROM texts")[0][0])

    @property
    def forgotten(self) -> int:
        """The number of the period before which everything was forgotten."""
        return int(self.value("forgotten", -1))

    def value(self, name: str, default: Any = None) -> Any:
        """A value that `set` stored."""
        rows = self._rows("SELECT value FROM settings WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else default

    def newest(self) -> int | None:
        """The last period with a text."""
        found = self._rows("SELECT max(period) FROM counts")[0][0]
        return None if found is None else int(found)

    def counts(self, after: int = -1, before: int | None = None) -> dict[str, list[Count]]:
        """The counts of each topic in the periods behind `after` and before `before`, in order."""
        found: dict[str, list[Count]] = {}
        limit = 2**62 if before is None else before
        query = (
            "SELECT topic, period, texts, negative FROM counts WHERE period > ? AND period < ? ORDER BY topic, period"
        )
        for topic, *count in self._rows(query, (after, limit)):
            found.setdefault(topic, []).append(Count(*count))
        return found

    def examples(self, topic: str, first: int, last: int, limit: int, sentiment: str | None = None) -> list[StoredText]:
        """Texts of a topic in the periods from `first` to `last`, negative ones and then those of high confidence first."""
        rows = self._rows(
            "SELECT source, given, time, text, topic, sentiment, sentiment_confidence FROM texts"
            " WHERE topic = ? AND period BETWEEN ? AND ? AND (? IS NULL OR sentiment = ?)"
            " ORDER BY sentiment = ? DESC, sentiment_confidence DESC, time, number LIMIT ?",
            (topic, first, last, sentiment, sentiment, self.settings.negative, limit),
        )
        return [StoredText(*row) for row in rows]

    def alerts(self) -> list[Alert]:
        """All alerts, in the order of their periods."""
        return self._alerts("", ())

    def rejected(self, limit: int | None = None) -> list[tuple[str, int, str]]:
        """The lines that were not used, as source, number and reason; the newest first."""
        query = "SELECT source, number, reason FROM rejected ORDER BY received DESC, source, number LIMIT ?"
        return self._rows(query, (-1 if limit is None else limit,))

    def _alerts(self, condition: str, values: Sequence[Any]) -> list[Alert]:
        query = f"SELECT alerts.number, topic, first, last, content FROM alerts {condition} ORDER BY last, topic"  # nosec B608
        return [
            Alert(number, topic, first, last, json.loads(content))
            for number, topic, first, last, content in self._rows(query, values)
        ]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise MemspanError(f"{self.path} cannot be read: {error}.") from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")  # what is forgotten is not left in free pages
    except sqlite3.Error as error:
        raise MemspanError(f"{path} cannot be opened: {error}.") from error
    return database


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within, no other process writes to the monitor. Raises MemspanError if one does."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MemspanError(f"Another process is writing to {folder}: wait until it has ended, or end it.") from None
    try:
        yield
    finally:
        lock.release()
