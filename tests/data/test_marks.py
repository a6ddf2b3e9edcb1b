"""Marks travel with the text by their characters, through chunks of any size and readings that were interrupted."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.data.chunking import in_chunks
from memspan.data.documents import Document
from memspan.data.marks import LONGEST_SPEAKERS, LONGEST_VALUE, SPEAKERS, Chunk, Mark, in_force, marks_of_passages

MARKS = st.builds(Mark, st.sampled_from(["heading", "speaker", "page"]), st.sampled_from(["A", "B", None]))
STREAM = st.lists(st.one_of(MARKS, st.sampled_from(["word ", "line\n", "par\n\n", "潮水。"])), max_size=40)


def placed(portions: list[str | Mark]) -> tuple[str, list[tuple[int, Mark]]]:
    """The text of a stream, and its marks by the offsets in the whole text."""
    text, marks = "", []
    for portion in portions:
        if isinstance(portion, Mark):
            marks.append((len(text), portion))
        else:
            text += portion
    return text, marks


@settings(deadline=None)
@given(STREAM, st.integers(4, 30))
def test_marks_keep_their_offsets_in_chunks_of_any_size(portions: list[str | Mark], limit: int) -> None:
    text, marks = placed(portions)
    chunks = list(in_chunks(portions, limit))
    assert "".join(chunks) == text
    starts = accumulate(map(len, chunks), initial=0)
    found = [
        (start + offset, mark) for start, chunk in zip(starts, chunks, strict=False) for offset, mark in chunk.marks
    ]
    assert found == (marks if text else [])


@settings(deadline=None)
@given(STREAM, st.integers(4, 30), st.integers(0, 60))
def test_passages_have_the_same_marks_whatever_the_chunks_and_the_interruption(
    portions: list[str | Mark], limit: int, read: int
) -> None:
    text, marks = placed(portions)
    read = min(read, len(text))
    passed, before, holding = 0, {}, {}
    for chunk in in_chunks(portions, limit):
        old = min(len(chunk), max(0, read - passed))
        passed += len(chunk)
        if old == len(chunk):
            before = in_force((mark for _, mark in chunk.marks), before)
            continue
        rest = chunk.behind(old, before)
        before = {}
        starts = list(range(len(rest)))
        passages, holding = marks_of_passages(rest, [*pairwise(starts), (len(rest) - 1, len(rest))], holding)
        for start, held in zip(range(passed - len(rest), passed), passages, strict=True):
            assert held == in_force(mark for offset, mark in marks if offset <= start)


def test_a_passage_has_the_marks_of_the_headings_with_which_it_begins() -> None:
    text = "\n# Four\n----\n\n[8 May 2023]\n\nAnn: hello\n\nBo: hi\n\nEnd"
    marks = [
        (1, Mark("heading", "Four")),
        (text.index("["), Mark("date", "8 May 2023")),
        (text.index("["), Mark("happened", 5.0)),
        (text.index("Ann"), Mark("speaker", "Ann")),
        (text.index("Bo"), Mark("speaker", "Bo")),
        (text.index("End"), Mark("heading", None)),
    ]
    end = text.index("Bo")
    (first, second), holding = marks_of_passages(Chunk(text, marks), [(0, end), (end, len(text))], {"page": 3})
    assert first == {"page": 3, "heading": "Four", "date": "8 May 2023", "happened": 5.0, "speaker": "Ann"}
    assert second == {**first, "speaker": "Bo"}
    assert holding == {kind: value for kind, value in second.items() if kind != "heading"}


def test_a_mark_in_the_middle_of_a_passage_holds_only_from_there() -> None:
    text = "A long first line of text.\nFour\nmore"
    (held,), holding = marks_of_passages(
        Chunk(text, [(text.index("Four"), Mark("heading", "Four"))]), [(0, len(text))], {}
    )
    assert (held, holding) == ({}, {"heading": "Four"})


def test_a_mark_keeps_a_heading_not_a_paragraph() -> None:
    assert in_force([Mark("heading", "x" * 999)]) == {"heading": "x" * LONGEST_VALUE}


@pytest.mark.parametrize("chunks", [["plain"], [Chunk("plain", [(0, Mark("page", 2))])]])
def test_every_document_yields_marked_chunks(chunks: list[str]) -> None:
    document = Document("book", lambda: iter(chunks), None)
    (chunk,) = document.marked_chunks()
    assert (chunk.text, chunk.marks) == ("plain", getattr(chunks[0], "marks", ()))


def test_a_passage_that_speakers_share_has_the_first_as_its_speaker_and_all_of_them() -> None:
    marks = [
        (0, Mark("speaker", "Ann")),
        (4, Mark("speaker", "Bo")),
        (8, Mark("speaker", "Ann")),
        (12, Mark("speaker", None)),
    ]
    chunk = Chunk("Yes\nNo.\nYes\nEnd\nX.\n", marks)
    passages, holding = marks_of_passages(chunk, [(0, 8), (8, 12), (12, 19)], {})
    assert passages == [{"speaker": "Ann", SPEAKERS: "Ann\nBo"}, {"speaker": "Ann"}, {}]
    assert holding == {}
    (later,), _ = marks_of_passages(Chunk("Go.\nNo.", [(4, Mark("speaker", "Bo"))]), [(0, 7)], {"speaker": "Cy"})
    assert later == {"speaker": "Cy", SPEAKERS: "Cy\nBo"}


def test_names_of_speakers_are_whole_and_have_a_limit() -> None:
    marks = [(2 * number, Mark("speaker", f"{number:02d}" * 90)) for number in range(20)]
    (passage,), _ = marks_of_passages(Chunk("a\n" * 20, marks), [(0, 40)], {})
    names = str(passage[SPEAKERS]).split("\n")
    assert names == [f"{number:02d}" * 90 for number in range(5)]
    assert len(str(passage[SPEAKERS])) <= LONGEST_SPEAKERS
