"""Rises are found soon after they begin, and what is no rise is not taken for one."""

from random import Random
from typing import Any

import pytest

from memspan.apps.monitor.detection import Count, Detector, Settings, detect, search, surprise


def series(shares: list[float], texts: int, seed: int = 0) -> list[Count]:
    draw = Random(seed)
    return [Count(day, texts, sum(draw.random() < share for _ in range(texts))) for day, share in enumerate(shares)]


CALM, RISE = [0.2] * 60, [0.55] * 8


@pytest.mark.parametrize("find", [detect, search])
def test_a_rise_is_found_where_it_begins(find: Any) -> None:
    (rise,) = find(series(CALM + RISE + CALM, 80))
    assert rise.first == 60
    assert rise.expected == pytest.approx(0.2, abs=0.05)
    assert rise.share > 0.4
    assert (rise.last <= 61) == (find is detect)


def test_hindsight_knows_the_end_of_a_rise() -> None:
    (rise,) = search(series(CALM + RISE + CALM, 80))
    assert rise.last == 67


@pytest.mark.parametrize("find", [detect, search])
@pytest.mark.parametrize(
    "shares",
    [
        CALM * 2,
        [0.2 + 0.0004 * day for day in range(150)],  # slow
        CALM + [0.08] * 10 + CALM,  # a fall, and back
        CALM + [0.26] * 10 + CALM,  # smaller than counts
    ],
)
def test_what_is_no_sudden_rise_gives_no_alert(find: Any, shares: list[float]) -> None:
    assert find(series(shares, 80)) == []


def test_a_lasting_rise_gives_one_alert_and_a_second_rise_another() -> None:
    found = detect(series(CALM + RISE * 2 + CALM + RISE + CALM, 80))
    assert [rise.last // 10 for rise in found] == [6, 13]
    found = detect(series(CALM + [0.55] * 120, 80))
    assert len(found) == 1  # what lasts is what is expected
    assert len(detect(series(CALM + [0.5] * 90 + [0.9] * 5, 80))) == 2


def test_a_calm_day_within_a_rise_does_not_begin_another() -> None:
    counts = series(CALM + [0.6] * 4 + [0.2] + [0.6] * 4 + CALM, 80)
    assert len(detect(counts)) == 1


def test_many_texts_on_a_day_are_no_rise() -> None:
    draw = Random(1)
    counts = [Count(day, 400 if day in (30, 31) else 80, 0) for day in range(60)]
    counts = [count._replace(negative=sum(draw.random() < 0.2 for _ in range(count.texts))) for count in counts]
    assert detect(counts) == []


def test_days_without_texts_and_short_series_count_nothing() -> None:
    detector = Detector()
    assert all(detector.update(Count(day, 0, 0)) is None for day in range(100))
    assert detect(series([0.2] * 5 + [0.9] * 5, 50)) == []  # before there is anything to compare with
    assert search(series([0.2] * 3, 50)) == []


def test_surprise_knows_how_few_texts_there_are() -> None:
    assert surprise(2, 2, 400, 80) < surprise(20, 20, 400, 80)
    assert surprise(100, 20, 400, 80) == pytest.approx(0, abs=0.1)
    assert surprise(100, 40, 400, 80) > 3
    assert surprise(1000, 1000, 400, 80) == 8
    assert surprise(1000, 0, 400, 80) == -8


def test_the_smallest_rise_is_a_setting() -> None:
    shares = CALM + [0.3] * 10
    assert detect(series(shares, 800), Settings(smallest=0.2)) == []
    assert len(detect(series(shares, 800), Settings(smallest=0.05))) == 1
