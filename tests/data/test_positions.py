"""The page, the time and the box of any words of a passage are those that stood ahead of them in the text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.data.marks import Chunk, Mark, Value, marks_of_passages
from memspan.data.positions import LONGEST_CHANGES, Box, box_of, box_within, changes_of, clock, value_at


def passages(chunk: Chunk, *ends: int) -> list[dict[str, Value]]:
    spans = list(zip((0, *ends), (*ends, len(chunk)), strict=True))
    return marks_of_passages(chunk, spans, {})[0]


def test_each_word_of_a_passage_has_its_time_and_page() -> None:
    marks = [(0, Mark("page", 3)), (0, Mark("time", 1.0)), (4, Mark("time", 2.5)), (8, Mark("page", 4))]
    first, second = passages(Chunk("one two three four", [*marks, (8, Mark("time", 90.0))]), 13)
    assert (first["page"], first["pages"], first["times"]) == (3, "0 3\n8 4", "0 1\n4 2.5\n8 90")
    assert [value_at(first, "time", offset) for offset in (0, 3, 4, 7, 8, 12)] == [1, 1, 2.5, 2.5, 90, 90]
    assert [value_at(first, "page", offset) for offset in (0, 8)] == [3, 4]
    assert second == {"page": 4, "time": 90.0}
    assert value_at(second, "time", 3) == 90.0
    assert value_at({}, "time", 0) is None


def test_the_box_of_a_passage_is_around_all_that_is_on_its_first_page() -> None:
    boxes = ["10 20 100 12", "10 40.5 120 12", "5 5 50 50"]
    marks = [(4 * number, Mark("box", box)) for number, box in enumerate(boxes)]
    (held,) = passages(Chunk("one two six", [(0, Mark("page", 1)), *marks, (8, Mark("page", 2))]))
    assert held["box"] == "10 20 120 32.5"
    assert box_within(held, 0, 3) == Box(10, 20, 100, 12)
    assert box_within(held, 4, 7) == Box(10, 40.5, 120, 12)
    assert box_within(held, 4, 11) == Box(10, 40.5, 120, 12)
    assert box_within(held, 8, None) == Box(5, 5, 50, 50)


def test_words_behind_those_with_a_box_have_none() -> None:
    (held,) = passages(Chunk("one two", [(0, Mark("box", "1 2 3 4")), (4, Mark("box", None))]))
    assert box_within(held, 4, None) is None
    assert box_within(held, 0, 3) == Box(1, 2, 3, 4)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 2_000), st.sampled_from(["time", "box"]))
def test_however_many_changes_there_are_they_fit_and_none_is_far_off(count: int, kind: str) -> None:
    value = (lambda k: float(k)) if kind == "time" else (lambda k: str(Box(0, k, 10, 1)))
    (held,) = passages(Chunk("x" * count, [(k, Mark(kind, value(k))) for k in range(count)]))
    assert len(str(held.get(f"{kind}s", ""))) <= LONGEST_CHANGES
    if kind == "box":
        assert held["box"] == str(Box(0, 0, 10, count))
    else:
        step = 1 if count < 100 else 64
        assert all(0 <= k - float(value_at(held, "time", k) or 0) < step for k in range(count))


@pytest.mark.parametrize("written", ["", "x", "1 2 3", "1 2 3 nan", "1 2 3 4 5", 4, None])
def test_what_is_no_box_is_none(written: object) -> None:
    assert box_of(written) is None


@pytest.mark.parametrize("written", ["x", "0", "0 x", "-", "0 nan\n4 inf", "1 2\nx"])
def test_changes_that_cannot_be_read_do_not_count(written: str) -> None:
    for kind in ("page", "time", "box"):
        marks: dict[str, Value] = {kind: "9 9 9 9", f"{kind}s": written}
        list(changes_of(marks))
        value_at(marks, kind, 3)
        assert box_within(marks, 0, None) in (None, Box(9, 9, 9, 9))


def test_a_time_is_shown_as_players_do() -> None:
    assert [clock(seconds) for seconds in (0, 59.9, 725, 360_000)] == ["00:00:00", "00:00:59", "00:12:05", "100:00:00"]
