"""Passages and chunks tile the text, respect the limit, and end where a reader would end them."""

import time
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.data.chunking import hard_cut, in_chunks, is_joined, sentence_ends, split_passages
from memspan.data.marks import Chunk, Mark

ENGLISH = "The tide was out. Nobody came to the landing, for once! Who could blame them? "
CHINESE = "潮水退了。今天没有人上岸，真安静！“谁能怪他们呢？”船长说；他关上了门。"

ALPHABET = st.sampled_from(
    [*"ab A1.,!?;\n\r\t \"'#-", *"潮水。！？；，”“」…　", "\u0301", "\u200d", "👩", "\ufe0f", "\ud83d"]
)
PROSE = st.sampled_from(
    [ENGLISH, CHINESE, "\n\n", "\n", "# Log\n", "Chapter 2\n\n", "a", "  ", "e\u0301", '"Yes."\n\n']
)
TEXTS = st.one_of(st.text(ALPHABET, max_size=200), st.lists(PROSE, max_size=30).map("".join), st.text(max_size=100))


def passages(text: str, limit: int) -> list[str]:
    return [text[start:end] for start, end in split_passages(text, limit)]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 300))
def test_passages_tile_the_text_within_the_limit(text: str, limit: int) -> None:
    spans = split_passages(text, limit)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(0 < end - start <= limit for start, end in spans)
    assert all(one[1] == next_one[0] for one, next_one in pairwise(spans))
    assert spans == split_passages(text, limit)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "e\u0301", "潮", "。", " ", "\r\n", "👩\u200d👧"]), max_size=60), st.integers(4, 30)
)
def test_no_cluster_is_torn(clusters: list[str], limit: int) -> None:
    whole = {0, *accumulate(map(len, clusters))}
    starts = {start for start, _ in split_passages("".join(clusters), limit)}
    assert starts <= whole


def test_an_empty_text_has_no_passages() -> None:
    assert split_passages("", 100) == []


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split_passages("text", limit)


def test_an_ordinary_paragraph_is_a_passage_of_its_own() -> None:
    first, second, third = (ENGLISH.strip() + "\n\n" for _ in range(3))
    assert passages(first + second + third, 300) == [first, second, third]


def test_a_heading_goes_with_what_follows_it() -> None:
    one = ENGLISH.strip() + "\n\n"
    text = f"# Spring\n\n{one}Chapter Two\n\n{one}第三章\n\n{one}"
    assert passages(text, 120) == [f"# Spring\n\n{one}", f"Chapter Two\n\n{one}", f"第三章\n\n{one}"]


def test_a_markdown_heading_begins_a_passage_without_a_blank_line() -> None:
    body = ENGLISH.strip() + "\n"
    assert passages(f"# A\n{body}# B\n{body}", 120) == [f"# A\n{body}", f"# B\n{body}"]


def test_lines_of_dialogue_are_joined_up_to_the_limit() -> None:
    lines = [f'"Is it {number}?"\n\n' for number in range(10)]
    assert passages("".join(lines), 100) == ["".join(lines[:8]), "".join(lines[8:])]


def test_a_passage_has_at_most_one_ordinary_paragraph() -> None:
    ordinary, short = "word " * 20 + "end.\n\n", "Aye.\n\n"
    assert passages(ordinary + short + ordinary, 400)[0] == ordinary + short


def test_lines_are_paragraphs_where_there_are_no_blank_lines() -> None:
    lines = [CHINESE * count + "\n" for count in (3, 2, 3, 2)]
    assert passages("".join(lines), 130) == lines


@pytest.mark.parametrize("text", [ENGLISH * 10, CHINESE * 20], ids=["english", "chinese"])
def test_a_long_paragraph_becomes_roughly_equal_parts_that_end_with_sentences(text: str) -> None:
    parts = passages(text, 200)
    assert all(part.rstrip().endswith((".", "!", "?", "。", "！", "？", "；", "”")) for part in parts)
    assert min(map(len, parts)) > 100


def test_wrapped_prose_is_cut_at_sentences_not_at_line_ends() -> None:
    text = (ENGLISH * 8).replace("came to", "came\nto").replace("blame them", "blame\nthem")
    assert all(part.rstrip().endswith((".", "!", "?")) for part in passages(text, 200))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said "Stop." Then he left. 9', ['He said "Stop." ', "Then he left. ", "9"]),
        ("Mr. Smith met J. Doe vs. Dr. Who. End.", ["Mr. Smith met J. Doe vs. Dr. Who. ", "End."]),
        ("It cost 3.50, e.g. in May. End.", ["It cost 3.50, e.g. in May. ", "End."]),
        ("“走吧！”她说。“好……”他答。", ["“走吧！”", "她说。", "“好……”", "他答。"]),
        ("甲；乙？！丙", ["甲；", "乙？！", "丙"]),
    ],
)
def test_sentence_ends(text: str, expected: list[str]) -> None:
    ends = [0, *sentence_ends(text, 0, len(text)), len(text)]
    assert [text[start:end] for start, end in pairwise(ends) if start < end] == expected


def test_without_sentences_a_clause_then_white_space_then_anything_ends_a_part() -> None:
    assert passages("one two three, four five six", 20) == ["one two three, ", "four five six"]
    assert passages("one two three four five six", 20) == ["one two three ", "four five six"]
    assert passages("x" * 30, 20) == ["x" * 15, "x" * 15]


def test_a_code_point_that_leans_on_the_one_before_is_joined_to_it() -> None:
    family = "👩\u200d👧"
    assert [is_joined(family, position) for position in range(4)] == [False, True, True, False]
    assert [is_joined("e\u0301\r\nx", position) for position in range(6)] == [False, True, False, True, False, False]
    assert hard_cut("abce\u0301", 0, 4) == 3


def test_a_cluster_longer_than_the_limit_is_cut_all_the_same() -> None:
    assert max(map(len, passages("e" + "\u0301" * 9, 4))) <= 4


HOSTILE = [
    "." * 10,
    "\n" * 10,
    " " * 10,
    "a" * 10,
    '. "',
    "\n ",
    "e\u0301",
    "\u0301" * 10,
    "A. ",
    "#\n",
    "ab\n\n",
    CHINESE,
]


def test_three_megabytes_of_prose_take_well_under_two_seconds() -> None:
    assert seconds(ENGLISH * 8 + "\n\n", 3_000_000) < 2


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_takes_time_beyond_its_length(unit: str) -> None:
    assert seconds(unit, 300_000) < 2  # quadratic work would take minutes


def seconds(unit: str, length: int) -> float:
    text = unit * (length // len(unit))
    began = time.process_time()
    split_passages(text, 1000)
    return time.process_time() - began


# --- chunks -------------------------------------------------------------------------------------------------------------

CHUNK_ENDS = st.sampled_from(
    ["\n\n", "\n", ". ", "! ", "。", "！”", "？", " ", "e\u0301", "word", "潮水退了", "\u0301", "👩\u200d👧"]
)
STREAMS = st.one_of(st.lists(CHUNK_ENDS, max_size=60).map("".join), st.text(max_size=200))


@settings(deadline=None)
@given(STREAMS, st.integers(1, 100), st.integers(1, 50))
def test_joined_chunks_are_the_text(text: str, limit: int, portion: int) -> None:
    portions = [text[start : start + portion] for start in range(0, len(text), portion)]
    chunks = list(in_chunks(portions, limit))
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= limit for chunk in chunks)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("A. b\n\nC d\nE. f g", "A. b\n\n"),
        ("A. b c d\nE. f ghijk", "A. b c d\n"),
        ('A "b." C d e f g h', 'A "b." '),
        ("潮水退了。船长说“走吧！”我们就走了", "潮水退了。船长说“走吧！”"),
        ("one two three four five", "one two three "),
        ("x" * 20, "x" * 14),
        ("x" * 13 + "e\u0301" + "x" * 9, "x" * 13),
    ],
)
def test_a_chunk_ends_at_the_best_position_there_is(text: str, first: str) -> None:
    assert next(in_chunks([text], limit=14)) == first


def turns(*lengths: int) -> Chunk:
    """A dialogue of turns of so many characters each, with marks of their speakers."""
    text, marks = "", []
    for number, length in enumerate(lengths):
        marks.append((len(text), Mark("speaker", f"S{number}")))
        text += f"S{number}: {'word ' * length}"[: length - 2] + "\n\n"
    return Chunk(text, marks)


def test_turns_of_a_dialogue_share_a_passage_up_to_a_quarter_of_the_limit_each() -> None:
    chunk = turns(240, 240, 240, 240, 240, 300, 300)
    assert [end - start for start, end in split_passages(chunk, 1_000)] == [960, 540, 300]
    assert [end - start for start, end in split_passages(chunk.text, 1_000)] == [240] * 5 + [300] * 2


def test_a_turn_of_several_paragraphs_stays_whole() -> None:
    text = f"Ann: {'a' * 300}\n\n{'b' * 300}\n\nBo: {'c' * 400}\n\n"
    chunk = Chunk(text, [(0, Mark("speaker", "Ann")), (text.index("Bo"), Mark("speaker", "Bo"))])
    assert split_passages(chunk, 1_000) == [(0, text.index("Bo")), (text.index("Bo"), len(text))]


def test_another_day_and_another_heading_begin_a_passage() -> None:
    text = "a b.\n\nc d.\n\ne f.\n\ng h.\n\n"
    day = 86_400.0
    marks = [
        (0, Mark("happened", 10.0)),
        (6, Mark("happened", 20.0)),
        (12, Mark("happened", day)),
        (18, Mark("heading", "x")),
    ]
    assert split_passages(Chunk(text, marks), 1_000) == [(0, 12), (12, 18), (18, 24)]
    assert split_passages(Chunk(text, [*marks[:3], (18, Mark("line", 4)), marks[3]]), 1_000) == [(0, 12), (12, 24)]


@pytest.mark.parametrize("kind", ["heading", "date"])
def test_a_section_under_a_heading_is_a_passage_where_it_fits(kind: str) -> None:
    """The note of a day, a short chapter: its paragraphs are about one thing. One that is too long is cut at these."""
    paragraphs = [f"{letter * 150}.\n\n" for letter in "abcd"]
    day = "# Monday\n\n" + "".join(paragraphs)
    for letters, expected in ((4, [len(day)] * 2), (8, [len("# Monday\n\n") + 153, *[153] * 7] * 2)):
        section = "# Monday\n\n" + "".join(f"{letter * 150}.\n\n" for letter in "abcdefgh"[:letters])
        marks = [
            (start, mark) for start in (0, len(section)) for mark in (Mark("heading", "Monday"), Mark("speaker", None))
        ]
        spans = split_passages(Chunk(section * 2, marks), 1024)
        assert [end - start for start, end in spans] == expected


def test_where_nobody_speaks_text_is_cut_at_its_paragraphs() -> None:
    text = "".join(f"{letter * 150}.\n\n" for letter in "abcd")
    assert split_passages(Chunk(text, [(0, Mark("speaker", None))]), 1024) == split_passages(text, 1024)
    assert len(split_passages(text, 1024)) == 4


def test_behind_the_last_speaker_text_is_ordinary_again() -> None:
    turn, rest = f"Ann: {'x' * 300}.\n\n{'y' * 300}.\n\n", [f"{letter * 200}.\n\n" for letter in "abc"]
    text = turn + "".join(rest)
    chunk = Chunk(text, [(0, Mark("speaker", "Ann")), (len(turn), Mark("speaker", None))])
    assert [end - start for start, end in split_passages(chunk, 1024)] == [len(turn), *map(len, rest)]


def test_short_sections_under_headings_do_not_share_a_passage() -> None:
    sections = ["# Rain\n\nIt rained.\n\n", "# Snow\n\nIt snowed.\n\n"]
    marks = [(0, Mark("heading", "Rain")), (len(sections[0]), Mark("heading", "Snow"))]
    assert passages(Chunk("".join(sections), marks), 1000) == sections
