"""Memories as JSON Lines: what is written, read back, and refused with the number of its line."""

import io
import json
from typing import Any

import pytest

from memspan import LanguageModel, Memory
from memspan.assistant.transfer import exported, import_lines
from memspan.errors import ChangedSource, UsageError
from tests.tiny import logbook


def lines_of(memory: Memory) -> str:
    return "".join(json.dumps(record) + "\n" for record in exported(memory))


def imported(lm: LanguageModel, text: str, memory: Memory | None = None) -> Memory:
    memory = lm.new_memory() if memory is None else memory
    import_lines(lm, memory, io.StringIO(text))
    return memory


def passages(memory: Memory) -> list[Any]:
    """What a passage is, apart from its number and its tokens."""
    found = [memory.passage(number) for name in memory.sources for number in memory.passages_of(name)]
    return [(p.source, p.start, p.end, p.text, dict(p.marks), p.happened) for p in found]


@pytest.fixture
def memory(lm: LanguageModel) -> Memory:
    memory = lm.read(logbook()[:6000], source="book", where={"author": "Ada"})
    lm.read("# Rain\n\n8 May 2023\n\nIt rained.\n\n# Snow\n\nIt snowed.", memory, source="diary.md")
    turns = [["user", "The cat is called Pretzel."], ["assistant", "A fine name."]]
    lm.remember(memory, "User: The cat is called Pretzel.\n\nAssistant: A fine name.", source="chat-1", turns=turns)
    return memory


def test_a_memory_comes_back_with_its_provenance(lm: LanguageModel, memory: Memory) -> None:
    copy = imported(lm, lines_of(memory))
    assert passages(copy) == passages(memory)
    for name, record in memory.sources.items():
        other = copy.sources[name]
        assert (other.kind, other.added, other.sha256, dict(other.meta)) == (
            record.kind,
            record.added,
            record.sha256,
            dict(record.meta),
        )
    assert {record.kind for record in copy.sources.values()} == {"document", "exchange"}
    assert lines_of(copy) == lines_of(memory)
    question = "What was the weather?"
    assert [found.text for found in lm.search(copy, question)] == [found.text for found in lm.search(memory, question)]


def test_what_is_there_already_is_skipped_and_the_rest_goes_on(lm: LanguageModel, memory: Memory) -> None:
    text = lines_of(memory)
    half = "".join(text.splitlines(keepends=True)[:3])
    copy = imported(lm, half)
    assert list(copy.sources) == ["book"]
    generation = copy.generation
    assert import_lines(lm, copy, io.StringIO(text)) == list(memory.sources)
    assert passages(copy)[-1] == passages(memory)[-1]
    assert copy.generation > generation
    generation = copy.generation
    assert import_lines(lm, copy, io.StringIO(text)) == []
    assert copy.generation == generation


def test_another_text_of_the_same_name_is_refused(lm: LanguageModel, memory: Memory) -> None:
    other = lm.read("Quite another text.", source="book")
    with pytest.raises(ChangedSource, match="'book'"):
        imported(lm, lines_of(memory), other)
    assert other.passage(0).text == "Quite another text."


def test_a_line_of_the_least_fields_is_enough(lm: LanguageModel) -> None:
    copy = imported(lm, '{"source": "a", "start": 0, "text": "One."}\n\n{"source": "b", "start": 0, "text": "Two."}\n')
    assert [copy.passage(number).text for number in range(2)] == ["One.", "Two."]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": 5}, '"text" must be a string of at least one character'),
        ({"text": ""}, '"text" must be a string of at least one character'),
        ({"source": None}, '"source" must be a string'),
        ({"start": 3}, "must begin at character 5 of 'a', got 3"),
        ({"start": 5.0}, '"start" must be a whole number'),
        ({"end": 7}, "must end at character 9 of 'a', got 7"),
        ({"kind": "secret"}, 'must be "document" or "exchange", got \'secret\''),
        ({"added": float("inf")}, '"added" must be a time in unix seconds'),
        ({"happened": "today"}, '"happened" must be a time in unix seconds'),
        ({"marks": {"page": [1]}}, '"marks" must be strings and numbers'),
        ({"meta": []}, '"meta" must be an object'),
    ],
)
def test_a_line_that_is_none_is_named(lm: LanguageModel, change: dict[str, Any], message: str) -> None:
    good = {"source": "a", "start": 0, "text": "One. "}
    bad = {"source": "a", "start": 5, "text": "Two."} | change
    with pytest.raises(UsageError) as refused:
        imported(lm, json.dumps(good) + "\n" + json.dumps(bad))
    assert str(refused.value).startswith("Line 2 is not a passage of an exported memory: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[1]", "5", '{"start": 0, "text": "x"}', "[" * 100_000])
def test_what_is_no_passage_is_named(lm: LanguageModel, text: str) -> None:
    with pytest.raises(UsageError, match="Line 1 is not a passage"):
        imported(lm, text)


def test_passages_of_a_source_follow_one_another(lm: LanguageModel) -> None:
    lines = [{"source": source, "start": 0, "text": "One."} for source in "aba"]
    with pytest.raises(UsageError, match=r"Line 3 .* the passages of 'a' must follow one another"):
        imported(lm, "\n".join(map(json.dumps, lines)))


def test_a_line_without_end_is_refused_in_bounded_memory(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.assistant.transfer.MAX_LINE", 100)
    with pytest.raises(UsageError, match="at most 100 characters"):
        imported(lm, json.dumps({"source": "a", "start": 0, "text": "x" * 200}))
