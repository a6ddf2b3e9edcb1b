"""Where a text stands: chapter and page from the marks of its passage, lines counted in plain text."""

import pytest

from memspan import LanguageModel
from memspan.assistant.locations import Location, locate
from tests.tiny import logbook


def test_lines_are_those_of_the_file(lm: LanguageModel) -> None:
    text = logbook()[:9000]
    memory = lm.read(text, source="log.txt")
    assert len(memory) > 5
    for number in range(len(memory)):
        passage = memory.passage(number)
        for start in (passage.start, passage.end - 1):
            expected = text[:start].count("\n") + 1
            assert locate(memory.view(), number, start, {}) == Location(line=expected)


@pytest.mark.parametrize(
    ("source", "line"),
    [("a.md", 2), ("notes", 2), ("a.PDF", None), ("a.html#main-text", None), ("https://example.org/a", None)],
)
def test_only_text_that_is_stored_as_it_stands_has_lines(lm: LanguageModel, source: str, line: int | None) -> None:
    memory = lm.read("One\ntwo", source=source)
    assert locate(memory.view(), 0, 4, {}).line == line


def test_an_exchange_has_no_lines(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    lm.remember(memory, "One\ntwo", source="chat/1")
    assert locate(memory.view(), 0, 4, {}) == Location()


def test_marks(lm: LanguageModel) -> None:
    memory = lm.read("One\ntwo", source="a.txt")
    marks: dict[str, str | int | float] = {"chapter": "Chapter 3", "page": 12, "heading": "No"}
    location = locate(memory.view(), 0, 4, marks)
    assert location == Location("Chapter 3", 12, None)
    assert str(location) == "Chapter 3, page 12"
    assert str(locate(memory.view(), 0, 4, {"line": 1200})) == "line 1,201"
    assert str(Location()) == ""
