"""Blind ratings: people compare two answers to a question without knowing which system wrote which.

Which answer stands on which side is drawn by chance when a pair is kept. The file of a rating names the systems; what a person
who rates is shown does not.
"""

import json
import secrets
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from memspan.errors import MemoryLocked, MemspanError, UsageError

LEFT, RIGHT, TIE = "left", "right", "tie"
CHOICES = (LEFT, RIGHT, TIE)
WAIT = 10.0  # seconds that a writer waits for another

_TABLES = """
CREATE TABLE IF NOT EXISTS pairs (
    id TEXT PRIMARY KEY, time REAL NOT NULL, question TEXT NOT NULL,
    left_system TEXT NOT NULL, left_answer TEXT NOT NULL, right_system TEXT NOT NULL, right_answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ratings (
    pair TEXT NOT NULL REFERENCES pairs ON DELETE CASCADE, rater TEXT NOT NULL, choice TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (pair, rater));
"""


@dataclass(frozen=True)
class Pair:
    """A question with two answers, as a person who rates sees them."""

    id: str
    question: str
    left: str
    right: str


@dataclass(frozen=True)
class WinRate:
    """How often the answers of one system were preferred to those of another.

    Attributes:
        first, second: the systems.
        wins, losses, ties: ratings for the first, for the second, and for neither.
        rate: wins, and half of the ties, of all ratings.
        low, high: the interval of 95 % (Wilson) of the wins among the ratings that are no ties; 0 and 1 without any.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """What the ratings say.

    Attributes:
        ratings, raters: how many.
        rates: of each two systems that were compared.
        agreement: the share of equal choices among all two ratings of the same pair; None where no pair has two.
        alpha: Krippendorff's alpha of the choices (nominal): 1 for full agreement, 0 for that of chance; None where it is
            not defined.
    """

    ratings: int
    raters: int
    rates: tuple[WinRate, ...]
    agreement: float | None
    alpha: float | None


class Ratings:
    """The pairs and ratings in a SQLite file, which is made where there is none. Each change is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as database:
            database.executescript(_TABLES)

    def add(self, question: str, answers: Sequence[tuple[str, str]]) -> Pair:
        """Keep a question with two answers, each (system, text), on sides drawn by chance.

        Raises UsageError if there are not two answers of different systems.
        """
        systems = [system for system, _ in answers]
        if len(systems) != 2 or systems[0] == systems[1]:
            raise UsageError(f"A pair must have answers of two different systems, got {', '.join(systems) or 'none'}.")
        left, right = answers if secrets.randbelow(2) else reversed(answers)
        pair = Pair(secrets.token_hex(8), question, left[1], right[1])
        with self._open() as database:
            database.execute(
                "INSERT INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?)", (pair.id, time.time(), question, *left, *right)
            )
        return pair

    def next(self, rater: str) -> Pair | None:
        """The oldest pair that this person has not rated; None if there is none."""
        with self._open() as database:
            row = database.execute(
                "SELECT id, question, left_answer, right_answer FROM pairs WHERE id NOT IN "
                "(SELECT pair FROM ratings WHERE rater = ?) ORDER BY time, id LIMIT 1",
                (rater,),
            ).fetchone()
        return None if row is None else Pair(*row)

    def rate(self, pair: str, rater: str, choice: str) -> None:
        """Keep a choice; a second one of the same person for the same pair takes the first one's stead.

        Raises UsageError for an unknown pair or choice, or a person without a name.
        """
        if choice not in CHOICES:
            raise UsageError(f"The choice must be {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, got {choice!r}.")
        if not rater.strip():
            raise UsageError("A rating needs the name of the person who rates, so that agreement can be measured.")
        with self._open() as database:
            if database.execute("SELECT 1 FROM pairs WHERE id = ?", (pair,)).fetchone() is None:
                raise UsageError(f"There is no pair {pair!r}.")
            database.execute("INSERT OR REPLACE INTO ratings VALUES (?, ?, ?, ?)", (pair, rater, choice, time.time()))

    def lines(self) -> Iterator[str]:
        """The ratings as JSON Lines: question, answers, systems, person, choice and the system that was preferred."""
        for row in self._rated():
            yield json.dumps(row, ensure_ascii=False) + "\n"

    def results(self) -> Results:
        """Win rates of all systems that were compared, and how far the people who rated agree."""
        rated = self._rated()
        counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for row in rated:
            first, second = sorted((str(row["left_system"]), str(row["right_system"])))
            counts[first, second][str(row["preferred"] or TIE)] += 1
        rates = tuple([_win_rate(first, second, counts[first, second]) for first, second in sorted(counts)])
        raters = len({row["rater"] for row in rated})
        return Results(len(rated), raters, rates, *_agreement(rated))

    def _rated(self) -> list[dict[str, str | float | None]]:
        with self._open() as database:
            database.row_factory = sqlite3.Row
            rows = database.execute(
                "SELECT pairs.id AS pair, question, left_system, left_answer, right_system, right_answer, rater, choice, "
                "ratings.time AS time FROM ratings JOIN pairs ON pairs.id = ratings.pair ORDER BY ratings.time, pair"
            ).fetchall()
        preferred = {LEFT: "left_system", RIGHT: "right_system"}
        return [
            dict(row) | {"preferred": row[preferred[row["choice"]]] if row["choice"] in preferred else None}
            for row in rows
        ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=WAIT)
            try:
                with database:
                    database.execute("PRAGMA foreign_keys = ON")
                    yield database
            finally:
                database.close()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise MemoryLocked(f"Another process writes to {self.path}; try again.") from error
            raise MemspanError(f"The ratings in {self.path} could not be reached: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise MemspanError(f"{self.path} is no file of ratings, or it is damaged: {error}.") from error


def _win_rate(first: str, second: str, counts: Counter[str]) -> WinRate:
    from scipy.stats import binomtest

    wins, losses, ties = counts[first], counts[second], counts[TIE]
    low, high = 0.0, 1.0
    if wins + losses:
        interval = binomtest(wins, wins + losses).proportion_ci(method="wilson")
        low, high = float(interval.low), float(interval.high)
    return WinRate(first, second, wins, losses, ties, (wins + ties / 2) / (wins + losses + ties), low, high)


def _agreement(rated: Sequence[dict[str, str | float | None]]) -> tuple[float | None, float | None]:
    """The share of equal choices among two ratings of a pair, and Krippendorff's alpha."""
    import krippendorff
    import numpy as np

    choices: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rated:
        choices[str(row["pair"])][str(row["rater"])] = CHOICES.index(str(row["choice"]))
    equal = [first == second for of in choices.values() for first, second in combinations(of.values(), 2)]
    if not equal:
        return None, None
    raters = sorted({str(row["rater"]) for row in rated})
    table = np.array([[of.get(rater, np.nan) for of in choices.values()] for rater in raters])
    share = sum(equal) / len(equal)
    if len(np.unique(table[~np.isnan(table)])) < 2:  # without a second value, chance agrees always
        return share, None
    return share, float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def as_json(results: Results) -> dict[str, object]:
    """JSON values."""
    return asdict(results)
