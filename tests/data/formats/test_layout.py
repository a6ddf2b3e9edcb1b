"""Lines of a page are put into reading order: columns, paragraphs, rows."""

from itertools import permutations

from memspan.data.formats.layout import Line, paragraphs
from memspan.data.positions import Box


def line(text: str, x: float, y: float, width: float, height: float = 20) -> Line:
    box = Box(x, y, width, height)
    return Line(text, box, box)


def texts(lines: list[Line]) -> list[str]:
    return ["/".join(" ".join(each.text for each in row) for row in paragraph) for paragraph in paragraphs(lines)]


def test_lines_below_one_another_are_paragraphs_where_space_is_between() -> None:
    lines = [line("a", 0, 0, 300), line("b", 0, 30, 280), line("c", 0, 90, 300), line("d", 0, 120, 200)]
    for order in permutations(lines):
        assert texts(list(order)) == ["a/b", "c/d"]
    assert texts([]) == []


def test_a_heading_in_larger_letters_is_a_paragraph() -> None:
    assert texts([line("Title", 0, 0, 300, 40), line("a", 0, 45, 300), line("b", 0, 70, 300)]) == ["Title", "a/b"]


def test_columns_are_read_one_after_the_other_below_a_title_across() -> None:
    left = [line(f"l{k}", 0, 100 + 28 * k, 300) for k in range(6)]
    right = [line(f"r{k}", 360, 100 + 28 * k, 300) for k in range(6)]
    lines = [line("Title", 100, 0, 450), *(each for pair in zip(left, right, strict=True) for each in pair)]
    assert texts(lines) == ["Title", "l0/l1/l2/l3/l4/l5", "r0/r1/r2/r3/r4/r5"]


def test_a_table_is_read_row_by_row() -> None:
    rows = [(f"item{k}", f"{k}.50") for k in range(6)]
    lines = [
        each
        for k, (name, price) in enumerate(rows)
        for each in (line(name, 0, 28 * k, 300), line(price, 500, 28 * k + 2, 60))
    ]
    assert texts(lines[::-1]) == ["/".join(" ".join(row) for row in rows)]


def test_many_lines_take_little_time() -> None:
    lines = [line(str(k), 400 * (k % 2), 25 * (k // 2), 300) for k in range(5_000)]
    assert len(texts(lines)) == 2
