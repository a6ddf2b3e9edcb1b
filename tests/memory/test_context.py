"""The context line says what the text of a passage does not."""

import math
from dataclasses import replace

import pytest

from memspan.memory.context import context_of, date_in_words, with_context
from memspan.memory.store.snapshot import Passage

MAY = 1683554160.0  # 8 May 2023, 13:56 UTC


def test_the_parts_stand_from_the_widest_to_the_narrowest() -> None:
    marks = {
        "speaker": "Ann",
        "date": "8 May, 2023",
        "heading": "The\nTide",
        "page": 3,
        "chapter": "Chapter 3",
        "line": 7,
    }
    assert context_of(marks) == "Chapter 3 | The Tide | 8 May, 2023 | Ann"


def test_nothing_known_is_an_empty_line() -> None:
    assert context_of({}) == context_of({"page": 3, "line": 7, "file": "a.txt"}) == ""


@pytest.mark.parametrize("written", ["8 May, 2023", "2023年5月8日"])
def test_a_date_in_words_is_shown_as_it_is_written(written: str) -> None:
    assert context_of({"date": written}, MAY) == written


@pytest.mark.parametrize("marks", [{}, {"date": "2023-05-08T13:56:00Z"}])
def test_any_other_date_is_shown_in_words(marks: dict[str, str]) -> None:
    assert context_of(marks, MAY) == "8 May 2023"


def test_what_the_text_says_itself_and_what_is_said_twice_is_left_out() -> None:
    assert context_of({"title": "Tides", "heading": "Tides", "speaker": "Ann"}, None, "Ann: hello") == "Tides"


@pytest.mark.parametrize(("happened", "expected"), [(-1e9, "24 April 1938"), (1e30, ""), (math.nan, "")])
def test_days_before_1970_have_words_and_impossible_ones_none(happened: float, expected: str) -> None:
    assert date_in_words(happened) == expected


def test_the_line_stands_before_the_text_and_a_passage_without_marks_stays_as_it_is() -> None:
    passage = Passage(0, "s", 0, 4, "text", 1, 0.0)
    assert with_context(passage) == "text"
    assert with_context(replace(passage, marks={"page": 4})) == "text"
    assert with_context(replace(passage, marks={"speaker": "Ann"}, happened=MAY)) == "8 May 2023 | Ann\ntext"
