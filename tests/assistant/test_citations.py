"""Marks `[n]` in answers: every one that is left stands for a passage of the prompt."""

import random

import pytest

from memspan.assistant.citations import Citation, citations, resolved, resolved_parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("In Oslo [1].", "In Oslo [1]."),
        ("In Oslo [4].", "In Oslo."),
        ("In Oslo [1, 4][2; 9] [7]!", "In Oslo [1][2]!"),
        ("In 1893[3] and 1894[8].", "In 1893[3] and 1894."),
        ("rows[7] of f(x)[9]", "rows[7] of f(x)[9]"),
        ("[9] Yes [no] [] [0]", " Yes [no] [] [0]"),
    ],
)
def test_marks_without_a_passage_are_taken_out(text: str, expected: str) -> None:
    assert resolved(text, 3) == expected


def test_citations_are_spans_of_the_answer() -> None:
    text = "Oslo [2], Bergen[1, 3]."
    found = citations(text, (1, 2, 3))
    assert found == (Citation(5, 8, (1,)), Citation(16, 22, (0, 2)))
    assert [text[mark.start : mark.end] for mark in found] == ["[2]", "[1, 3]"]
    assert citations("rows[7]", (1, 2, 3)) == ()


def test_a_stream_is_resolved_as_the_whole_text_is() -> None:
    rng = random.Random(1)
    parts = ["Oslo", " ", "[", "1", "2", "]", ", ", "[3]", "a[", " [1", "\n", "x", "(y)", "; 4"]
    for _ in range(300):
        chosen = rng.choices(parts, k=rng.randrange(14))
        whole = "".join(chosen)
        shown = "".join(resolved_parts(iter(chosen), 3))
        assert shown == resolved(whole, 3), chosen
        for mark in citations(shown, (1, 2, 3)):
            assert all(0 <= number < 3 for number in mark.passages)


def test_text_without_marks_is_passed_on_at_once() -> None:
    stream = iter(["The", " light", " [", "1] burns", "."])
    assert list(resolved_parts(stream, 1)) == ["The", " light", " [1] burns", "."]


def test_passages_that_were_quoted_as_one_text_are_cited_together() -> None:
    (mark,) = citations("It was Ann [2].", (2, 1, 2))
    assert mark.passages == (0, 2)
