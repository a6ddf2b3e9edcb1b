"""The form of its lines shows the headings, dates and speakers of a plain text; the text stays as it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.data import headings
from memspan.data.chunking import split_passages
from memspan.data.headings import with_headings
from memspan.data.marks import Mark

BODY = "The tide was out, and nobody came to the landing for once.\n\n"


def shown(text: str, *kinds: str) -> list[tuple[str, object]]:
    return [(m.kind, m.value) for m in with_headings([text]) if isinstance(m, Mark) and (not kinds or m.kind in kinds)]


@pytest.mark.parametrize(
    ("lines", "kind", "value"),
    [
        ("## The landing ##\n", "heading", "The landing"),
        ("The landing\n===========\n", "heading", "The landing"),
        ("The landing\n---\n", "heading", "The landing"),
        ("2.1 The landing\n\n", "heading", "2.1 The landing"),
        ("3. The landing\n\n", "heading", "3. The landing"),
        ("II. THE LANDING\n\n", "heading", "II. THE LANDING"),
        ("Chapter 3\n\n", "chapter", "Chapter 3"),
        ("CHAPTER III.\nThe Landing\n\n", "chapter", "CHAPTER III. The Landing"),
        ("# Part One: The landing\n", "chapter", "Part One: The landing"),
        ("第三回 登岸\n\n", "chapter", "第三回 登岸"),
    ],
)
def test_a_heading_is_known_by_its_form(lines: str, kind: str, value: str) -> None:
    assert (kind, value) in shown(f"{BODY}{lines}{BODY}", "heading", "chapter")


@pytest.mark.parametrize(
    "lines",
    [
        "Chapter 3 was long and wet.\n\n",
        "1. Buy milk\n\n2. Buy eggs\n\n",
        "```\n# a comment\n```\n\n",
        "3. She came, and stayed.\n\n",
        "#hashtag\n\n",
        "The landing\n\n",
        "in 2.1 litres\n\n",
        "---\n\n",
    ],
)
def test_what_only_looks_like_a_heading_is_none(lines: str) -> None:
    assert shown(f"{BODY}{lines}{BODY}", "heading", "chapter") == []


def test_a_chapter_ends_the_heading_before_it() -> None:
    assert shown("# Tides\n\nChapter 2\n\n", "heading") == [("heading", "Tides"), ("heading", None)]


def test_a_date_holds_until_a_heading_of_the_level_it_stands_under() -> None:
    text = f"{BODY * 6}## One\n\n[8 May 2023]\n\n{BODY}### Below\n\n{BODY}## Two\n\n{BODY}"
    assert shown(text, "date") == [("date", "8 May 2023"), ("date", None)]
    assert [value for _, value in shown(text, "happened")] == [1683504000.0, None]


def test_the_date_at_the_head_of_a_text_holds_for_all_of_it() -> None:
    text = f"# Log\n\n8 May 2023\n\n{BODY * 6}# Two\n\n9 May 2023\n\n{BODY}# Three\n\n{BODY}"
    dates = [value for _, value in shown(text, "date")]
    assert dates == ["8 May 2023", "8 May 2023", "9 May 2023", "8 May 2023"]


def test_front_matter_gives_title_and_date() -> None:
    text = f'---\ntitle: "High tide"\ndate: 2023-05-08\ntags: [a]\n---\n\n{BODY}'
    assert shown(text) == [("title", "High tide"), ("date", "2023-05-08"), ("happened", 1683504000.0)]
    assert shown(f"---\ndate: soon\n---\n{BODY}") == []


def test_the_turns_of_a_dialogue_have_speakers() -> None:
    text = "Ann: Hello there.\nBo Li: Hi.\n[13:56] Ann: And?\nBo Li (later): Nothing: it rains.\n**Ann:** Oh.\n"
    assert [value for _, value in shown(text)] == ["Ann", "Bo Li", "Ann", "Bo Li", "Ann"]
    assert [value for _, value in shown("小明：你好。\n小红：早。\n小明：再见。\n小红：嗯。\n")] == ["小明", "小红"] * 2


def test_a_note_with_a_colon_is_no_dialogue() -> None:
    assert shown(f"{BODY * 20}Note: it rains.\n\nNote: it pours.\n\nWarning: run.\n\nWarning: hide.\n\n") == []


TEXTS = st.lists(
    st.sampled_from(
        [BODY, "# A\n", "Chapter 2\n\n", "[8 May 2023]\n", "Ann: hi\n", "Bo: ho\n", "---\n", "\n", "```\n", "x", " "]
    ),
    max_size=30,
).map("".join)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.integers(1, 80))
def test_the_text_stays_as_it_is(text: str, portion: int, block: int) -> None:
    portions = [text[start : start + portion] for start in range(0, len(text), portion)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headings, "BLOCK", block)
        assert "".join(item for item in with_headings(portions) if isinstance(item, str)) == text


@pytest.mark.parametrize(
    "line", ["[1:56 pm on 8 May, 2023]", "(8 May 2023)", "8 May 2023", "## 8 May 2023", "Session of 8 May 2023:"]
)
@pytest.mark.parametrize("break_", ["\n", "\n\n"])
def test_a_passage_does_not_end_with_the_date_of_what_follows(line: str, break_: str) -> None:
    turns = "".join(f"Ann: This is turn {number}.{break_}Bo: Yes.{break_}" for number in range(3))
    text = f"{turns}{line}{break_}{turns}"
    passages = [text[start:end] for start, end in split_passages(text, 1000)]
    assert len(passages) == 2
    assert passages[1].startswith(line)
