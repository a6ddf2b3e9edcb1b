"""Updates: a changed text takes the position of the earlier one in one commit, and only what changed is read anew."""

import random
from pathlib import Path

import pytest

from memspan import LanguageModel, Memory
from memspan.assistant.revision import between, joined, revision
from memspan.data.chunking import in_chunks
from memspan.data.documents import open_documents
from memspan.data.marks import Chunk, Mark, portions
from memspan.errors import ChangedSource, UsageError
from memspan.memory.index import encoder
from tests.tiny import logbook

TEXT = logbook()[:12_000]
HALF = TEXT.index("\n\n", len(TEXT) // 2)


def text_of(memory: Memory, source: str) -> str:
    return "".join(memory.passage(number).text for number in memory.passages_of(source))


@pytest.fixture
def encoded_characters(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The characters of each text that is encoded."""
    lengths: list[int] = []
    encode = encoder.KeyEncoder.encode

    def counting(self: encoder.KeyEncoder, text: str, *arguments: object) -> encoder.Encoding:
        lengths.append(len(text))
        return encode(self, text, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder.KeyEncoder, "encode", counting)
    return lengths


EDITS = {
    "a word in the middle": TEXT[:HALF] + " An unheard-of thing." + TEXT[HALF:],
    "the first word": "Once " + TEXT,
    "the last words": TEXT[:-20] + " and so it ended.",
    "a paragraph less": TEXT[: HALF - 300] + TEXT[HALF:],
    "only the beginning": TEXT[:HALF],
    "only the end": TEXT[HALF:],
    "another text": "Nothing of the old text is left here. It is another story.",
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_memory_holds_the_new_text_and_nothing_else_changes(lm: LanguageModel, edit: str) -> None:
    memory = lm.read("Another source.", lm.read(TEXT, source="log"), source="other")
    generation, other = memory.generation, memory.sources["other"]
    lm.read(EDITS[edit], memory, source="log", update=True)
    assert text_of(memory, "log") == EDITS[edit]
    assert memory.generation == generation + 1
    assert memory.sources["log"].complete
    assert memory.sources["other"] == other
    assert text_of(memory, "other") == "Another source."


def test_only_the_neighbourhood_of_a_change_is_read_anew(lm: LanguageModel, encoded_characters: list[int]) -> None:
    memory = lm.read(TEXT, source="log")
    keys = {memory.passage(number).text: memory.ids(number).tolist() for number in memory.passages_of("log")}
    encoded_characters.clear()
    lm.read(EDITS["a word in the middle"], memory, source="log", update=True)
    assert 0 < sum(encoded_characters) < len(TEXT) // 4
    kept = [number for number in memory.passages_of("log") if memory.passage(number).text in keys]
    assert len(kept) > len(keys) * 0.7
    assert all(memory.ids(number).tolist() == keys[memory.passage(number).text] for number in kept)


def test_what_is_kept_was_read_behind_the_same_text(lm: LanguageModel) -> None:
    memory = lm.read(TEXT, source="log")
    change = revision(memory, "log", EDITS["a word in the middle"], encoder.CONTEXT)
    passages = [memory.passage(number) for number in memory.passages_of("log")]
    assert change.before == tuple(range(len(change.before)))
    assert change.start == passages[change.before[-1]].end < HALF
    context = [passage for passage in passages if passage.start >= HALF and passage.number < change.after[0]]
    assert sum(passage.tokens for passage in context) >= encoder.CONTEXT
    assert EDITS["a word in the middle"].endswith("".join(passages[number].text for number in change.after))


def test_a_changed_text_without_update_is_refused_and_nothing_is_lost(lm: LanguageModel) -> None:
    memory = lm.read(TEXT, source="log")
    with pytest.raises(ChangedSource, match="--update"):
        lm.read(EDITS["the first word"], memory, source="log")
    with pytest.raises(ChangedSource, match="--update"):
        lm.read(EDITS["only the beginning"], memory, source="log")
    assert text_of(memory, "log") == TEXT


def test_an_empty_text_does_not_replace_one(lm: LanguageModel) -> None:
    memory = lm.read(TEXT, source="log")
    with pytest.raises(UsageError, match="forget"):
        lm.read("", memory, source="log", update=True)
    assert text_of(memory, "log") == TEXT


def test_an_updated_file_is_known_afterwards(
    lm: LanguageModel, tmp_path: Path, encoded_characters: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memspan.data.documents.SETTLED_NS", 0)
    file = tmp_path / "log.md"
    file.write_text(TEXT, "utf-8")
    memory = lm.new_memory(tmp_path / "m")
    for text in (TEXT, EDITS["the first word"], EDITS["the first word"]):
        file.write_text(text, "utf-8") if file.read_text("utf-8") != text else None
        encoded_characters.clear()
        for document in open_documents([file]):
            lm.read(document, memory, update=True)
    assert encoded_characters == []
    assert text_of(memory, str(file)) == EDITS["the first word"]
    assert text_of(Memory.load(tmp_path / "m"), str(file)) == EDITS["the first word"]


def test_what_is_kept_stands_under_the_new_heading(lm: LanguageModel) -> None:
    lines = [f"The clerk counted {number} lamps on the gallery and wrote the number down." for number in range(80)]
    text = "# Lamps\n\n" + "\n\n".join(lines)
    memory = lm.read(text, source="log")
    assert memory.passage(len(memory) - 1).marks["heading"] == "Lamps"
    lm.read(text.replace("# Lamps", "# Lanterns"), memory, source="log", update=True)
    headings = {memory.passage(number).marks["heading"] for number in memory.passages_of("log")}
    assert headings == {"Lanterns"}


def test_parts_of_a_text_keep_their_marks() -> None:
    rng = random.Random(3)
    chunks = [
        Chunk(f"text {n} " * 50, [(n * 7, Mark("page", n)), (n * 7 + 20, Mark("speaker", f"S{n}"))]) for n in range(6)
    ]
    whole = joined(chunks)
    assert whole == "".join(chunks)
    assert [mark for _, mark in whole.marks] == [mark for chunk in chunks for _, mark in chunk.marks]
    again = joined(in_chunks(portions(whole), 100))
    assert (str(again), again.marks) == (str(whole), whole.marks)
    for _ in range(20):
        start, end = sorted(rng.sample(range(len(whole)), 2))
        part = between(whole, start, end)
        assert part == whole[start:end]
        before = {mark.kind: mark.value for offset, mark in whole.marks if offset <= start}
        first = {mark.kind: mark.value for offset, mark in part.marks if offset == 0}
        assert first.items() >= before.items()
