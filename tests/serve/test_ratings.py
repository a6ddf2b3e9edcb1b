"""Blind ratings: sides drawn by chance, hidden systems, win rates and agreement as they are by hand."""

import json
import sqlite3
from pathlib import Path

import pytest

from memspan.errors import MemspanError, UsageError
from memspan.serve.ratings import LEFT, RIGHT, TIE, Pair, Ratings

FIRST, SECOND = ("memory/book", "In Ulm."), ("model", "I do not know.")


@pytest.fixture
def ratings(tmp_path: Path) -> Ratings:
    return Ratings(tmp_path / "owner" / "ratings.sqlite")


def side_of(pair: Pair, system: tuple[str, str]) -> str:
    return LEFT if pair.left == system[1] else RIGHT


def rate(ratings: Ratings, rater: str, winners: list[tuple[str, str] | None]) -> None:
    """The person rates the pairs as they come."""
    for winner in winners:
        pair = ratings.next(rater)
        assert pair is not None
        ratings.rate(pair.id, rater, TIE if winner is None else side_of(pair, winner))


def test_sides_are_drawn_by_chance(ratings: Ratings) -> None:
    sides = [side_of(ratings.add("Where?", [FIRST, SECOND]), FIRST) for _ in range(64)]
    assert 0 < sides.count(LEFT) < 64


def test_a_pair_shows_no_system(ratings: Ratings) -> None:
    ratings.add("Where?", [FIRST, SECOND])
    assert {"memory/book", "model"}.isdisjoint(vars(ratings.next("ada")).values())


def test_each_person_rates_each_pair_once(ratings: Ratings) -> None:
    pairs = [ratings.add(f"{number}?", [FIRST, SECOND]) for number in range(3)]
    rate(ratings, "ada", [FIRST, FIRST, None])
    assert ratings.next("ada") is None
    assert ratings.next("lin") == pairs[0]


def test_win_rates(ratings: Ratings) -> None:
    for number in range(4):
        ratings.add(f"{number}?", [FIRST, SECOND])
    rate(ratings, "ada", [FIRST, FIRST, SECOND, None])
    (rates,) = ratings.results().rates
    assert (rates.first, rates.second) == ("memory/book", "model")
    assert (rates.wins, rates.losses, rates.ties) == (2, 1, 1)
    assert rates.rate == pytest.approx(2.5 / 4)
    assert 0 < rates.low < 2 / 3 < rates.high < 1


def test_another_choice_takes_the_stead_of_the_first(ratings: Ratings) -> None:
    pair = ratings.add("Where?", [FIRST, SECOND])
    for winner in (FIRST, SECOND):
        ratings.rate(pair.id, "ada", side_of(pair, winner))
    (rates,) = ratings.results().rates
    assert (rates.wins, rates.losses) == (0, 1)


def test_agreement_by_hand(ratings: Ratings) -> None:
    """Two people, four pairs, of which they rate three alike."""
    for number in range(4):
        ratings.add(f"{number}?", [FIRST, SECOND])
    rate(ratings, "ada", [FIRST, FIRST, SECOND, None])
    rate(ratings, "lin", [FIRST, FIRST, SECOND, SECOND])
    results = ratings.results()
    assert (results.ratings, results.raters) == (8, 2)
    assert results.agreement == 3 / 4
    rows = [json.loads(line) for line in ratings.lines()]
    counts = {choice: sum(row["choice"] == choice for row in rows) for choice in (LEFT, RIGHT, TIE)}
    by_chance = sum(count * (8 - count) for count in counts.values()) / (8 * 7)  # expected disagreement
    assert results.alpha == pytest.approx(1 - (1 / 4) / by_chance)


def test_agreement_without_a_second_rating(ratings: Ratings) -> None:
    ratings.add("Where?", [FIRST, SECOND])
    rate(ratings, "ada", [FIRST])
    assert (ratings.results().agreement, ratings.results().alpha) == (None, None)


def test_lines_name_what_was_preferred(ratings: Ratings) -> None:
    ratings.add("Where? 在哪里？", [FIRST, SECOND])
    rate(ratings, "ada", [FIRST])
    (line,) = ratings.lines()
    row = json.loads(line)
    assert (row["preferred"], row["question"], row["rater"]) == ("memory/book", "Where? 在哪里？", "ada")
    assert "在哪里" in line


@pytest.mark.parametrize(
    ("pair", "rater", "choice", "sentence"),
    [
        ("none", "ada", LEFT, "no pair 'none'"),
        ("", "ada", "up", "must be left, right or tie"),
        ("", " ", LEFT, "name of the person"),
    ],
)
def test_what_cannot_be_rated(ratings: Ratings, pair: str, rater: str, choice: str, sentence: str) -> None:
    kept = ratings.add("Where?", [FIRST, SECOND])
    with pytest.raises(UsageError, match=sentence):
        ratings.rate(pair or kept.id, rater, choice)
    assert ratings.results().ratings == 0


def test_two_answers_of_one_system_are_no_pair(ratings: Ratings) -> None:
    with pytest.raises(UsageError, match="two different systems"):
        ratings.add("Where?", [FIRST, FIRST])


def test_another_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "ratings.sqlite"
    path.write_bytes(b"no database " * 100)
    with pytest.raises(MemspanError, match="no file of ratings"):
        Ratings(path)


def test_a_locked_file_is_reported(ratings: Ratings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.serve.ratings.WAIT", 0.01)
    other = sqlite3.connect(ratings.path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(MemspanError, match="Another process"):
        ratings.add("Where?", [FIRST, SECOND])
    other.close()
