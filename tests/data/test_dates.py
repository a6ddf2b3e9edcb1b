"""Only whole dates are dates; what "yesterday" means follows from the day of the text."""

import time
from datetime import UTC, datetime

import pytest

from memspan.data.dates import date_of_line, day_of, moment
from memspan.data.relative_dates import resolved

MAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC).timestamp()  # a Monday


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1:56 pm on 8 May, 2023", (2023, 5, 8, 13, 56)),
        ("Monday, May 8th, 2023", (2023, 5, 8)),
        ("Sat, 3 Jan 2004 10:00:00 +0100", (2004, 1, 3, 9)),
        ("2023-05-08", (2023, 5, 8)),
        ("2023-05-08T13:56:00Z", (2023, 5, 8, 13, 56)),
        ("2023/5/8", (2023, 5, 8)),
        ("8.5.2023", (2023, 5, 8)),
        ("13/04/2023", (2023, 4, 13)),
        ("04/13/2023, 1:05 PM", (2023, 4, 13, 13, 5)),
        ("5/5/2023", (2023, 5, 5)),
        ("2023年5月8日", (2023, 5, 8)),
        ("2023年5月8日 星期一 下午3点20分", (2023, 5, 8, 15, 20)),
        ("12 March 1850", (1850, 3, 12)),
    ],
)
def test_a_whole_date_is_read(written: str, expected: tuple[int, ...]) -> None:
    assert moment(written) == datetime(*expected, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    "written",
    [
        "May",
        "10",
        "8 May",
        "May 2023",
        "2023",
        "2023-05",
        "14:30",
        "1.2.3",
        "03/04/2023",
        "31 February 2023",
        "12 34 5678",
        "1999 2000 2001",
        "May 8, 23",
        "2023年5月",
        "2023年13月8日",
        "8 May 2023 was fine",
        "Chapter 3 May 2023",
        "",
        "x" * 200,
    ],
)
def test_no_date_is_invented(written: str) -> None:
    assert moment(written) is None


@pytest.mark.parametrize(
    "line",
    [
        "[8 May, 2023]",
        "(8 May, 2023)",
        "8 May, 2023",
        "## 8 May, 2023",
        "Session 3 of 8 May, 2023:",
        "**8 May, 2023**",
        "Date: 8 May, 2023",
        "【8 May, 2023】",
    ],
)
def test_a_line_that_is_a_date_is_known_by_any_frame(line: str) -> None:
    assert date_of_line(line) == "8 May, 2023"


@pytest.mark.parametrize("line", ["It was 8 May, 2023.", "8 May, 2023 and after", "[laughs]", "2019 2020 2021", "May"])
def test_a_line_that_says_more_or_less_than_a_date_is_none(line: str) -> None:
    assert date_of_line(line) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yesterday I went.", {"yesterday": "Sunday, 7 May 2023"}),
        ("two weeks ago, 3 days ago", {"two weeks ago": "Monday, 24 April 2023", "3 days ago": "Friday, 5 May 2023"}),
        ("last week", {"last week": "Monday, 1 May 2023 to Sunday, 7 May 2023"}),
        ("last Friday and next monday", {"last friday": "Friday, 5 May 2023", "next monday": "Monday, 15 May 2023"}),
        ("last month, next year", {"last month": "April 2023", "next year": "2024"}),
        ("昨天去了，上周五也去了", {"昨天": "Sunday, 7 May 2023", "上周五": "Friday, 5 May 2023"}),
        ("三天前；去年；下个月", {"三天前": "Friday, 5 May 2023", "去年": "2022", "下个月": "June 2023"}),
        ("The last one is here.", {}),
    ],
)
def test_a_relative_date_is_resolved_against_the_day_of_the_text(text: str, expected: dict[str, str]) -> None:
    assert resolved(text, MAY) == expected


def test_a_day_beyond_the_calendar_is_none() -> None:
    assert day_of(1e30) is None
    assert resolved("yesterday", 1e30) == {}
    assert resolved("yesterday", datetime(1, 1, 1, tzinfo=UTC).timestamp()) == {}


@pytest.mark.parametrize("unit", ["2023 ", "may ", "1 2023 ", "[ ", "last "])
def test_no_line_takes_time_beyond_its_length(unit: str) -> None:
    began = time.process_time()
    line = (unit * 20000)[:100_000]
    assert date_of_line(line) == ""
    assert moment(line) is None
    resolved(line, MAY)
    assert time.process_time() - began < 1
