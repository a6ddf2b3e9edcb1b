"""Reading: chunks and continued sources have the context of the text before them, and progress is counted."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memspan import LanguageModel, Memory, ReadProgress
from memspan.assistant import progress
from memspan.data import documents
from memspan.data.documents import Document, open_documents
from memspan.errors import DamagedMemory, UsageError
from memspan.memory import EncodedText
from memspan.memory.index import encoder
from memspan.memory.index.encoder import Encoding
from tests.tiny import logbook

TEXT = logbook()[:6000]
CUT = 4000


def keys_of(memory: Memory) -> NDArray[np.int8]:
    return np.concatenate([block.keys for block in memory.blocks()])


@pytest.fixture
def expected(lm: LanguageModel) -> tuple[Encoding, Encoding]:
    """The two halves of the text, the second one in the context of the first."""
    first = lm.encoder.encode(TEXT[:CUT])
    second = lm.encoder.encode(TEXT[CUT:], first.ids.tolist())
    assert not np.array_equal(second.keys, lm.encoder.encode(TEXT[CUT:]).keys)
    return first, second


def test_a_chunk_is_read_in_the_context_of_the_one_before(
    lm: LanguageModel, expected: tuple[Encoding, Encoding]
) -> None:
    memory = lm.read(Document("book", lambda: iter([TEXT[:CUT], TEXT[CUT:]]), None))
    assert np.array_equal(keys_of(memory), np.concatenate([encoding.keys for encoding in expected]))


def test_a_source_is_continued_in_the_context_of_its_last_two_passages(lm: LanguageModel, tmp_path: Path) -> None:
    memory = lm.read(TEXT[:CUT], lm.new_memory(tmp_path / "m"), source="book")
    passages = len(memory)
    assert passages > 3
    context = np.concatenate([memory.ids(passages - 2), memory.ids(passages - 1)]).tolist()
    lm.read("Another source, read in between.", memory)
    first = memory.tokens
    lm.read(TEXT, lm.new_memory(tmp_path / "m"), source="book")
    memory.refresh()
    continued = keys_of(memory)[first:]
    assert np.array_equal(continued, lm.encoder.encode(TEXT[CUT:], context).keys)
    assert not np.array_equal(continued, lm.encoder.encode(TEXT[CUT:]).keys)


def test_progress_counts_the_tokens_of_the_call_and_the_characters_of_the_source(
    lm: LanguageModel, expected: tuple[Encoding, Encoding]
) -> None:
    steps: list[ReadProgress] = []
    memory = lm.read(TEXT[:10], source="book")
    document = Document("book", lambda: iter([TEXT[:CUT], TEXT[CUT:]]), 7000)
    lm.read(document, memory, progress=steps.append)
    assert [step.characters for step in steps] == sorted(step.characters for step in steps)
    assert all(step.kept <= step.tokens and step.seconds > 0 and step.known == 10 for step in steps)
    kept = [step for step in steps if step.kept == step.tokens]
    assert [(step.source, step.characters, step.size) for step in kept] == [("book", CUT, 7000), ("book", 6000, 7000)]
    assert kept[1].tokens - kept[0].tokens == len(expected[1].ids)
    assert kept[1].tokens == memory.tokens - len(lm.tokenizer(TEXT[:10])["input_ids"])


def test_progress_is_reported_after_each_batch_and_within_the_batches_of_a_slow_model(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, int]] = []
    text = TEXT * 2
    quick = lm.encoder.encode(text, progress=lambda *step: steps.append(step))
    fresh = encoder.SEGMENT - encoder.CONTEXT - 1
    total = len(quick.ids)
    assert [(total, total), (fresh, total)] == [steps[-1], steps[0]]
    assert (
        len(steps) == 1 + -(-(total // fresh - 1) // encoder.SEGMENTS_AT_ONCE) + 1
    )  # the first, full batches, the end

    monkeypatch.setattr(encoder, "REPORT_SECONDS", 0.0)
    slow_steps: list[tuple[int, int]] = []
    slow = lm.encoder.encode(text, progress=lambda *step: slow_steps.append(step))
    assert set(steps) < set(slow_steps)
    assert slow_steps == sorted(slow_steps)
    for encoding in (slow, lm.encoder.encode(text)):  # batches are those of a reading without reports
        assert np.array_equal(encoding.keys, quick.keys)


def test_the_time_that_is_left_follows_from_what_was_read_by_this_call() -> None:
    step = ReadProgress("book", 500, 3000, 9999, kept=0, seconds=2.0, known=1000, expected=9000)
    assert (step.speed, step.tokens_left, step.seconds_left) == (250.0, 1500, 6.0)
    unknown = ReadProgress("book", 0, 1000, None, known=1000)
    assert (unknown.speed, unknown.tokens_left, unknown.seconds_left) == (0.0, None, None)


@pytest.mark.parametrize(
    ("size", "packed", "budget", "expected"),
    [(9000, True, 1.0, 6000), (9000, True, -1.0, None), (9000, False, -1.0, 9000), (None, False, 1.0, 6000)],
)
def test_the_characters_of_a_document_that_takes_long_are_counted(
    lm: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    size: int | None,
    packed: bool,
    budget: float,
    expected: int | None,
) -> None:
    monkeypatch.setattr(progress, "COUNT_AFTER", 0.0)
    monkeypatch.setattr(progress, "COUNT_SECONDS", budget)
    steps: list[ReadProgress] = []
    document = Document("book", lambda: iter([TEXT[:CUT], TEXT[CUT:]]), size, packed=packed)
    lm.read(document, progress=steps.append)
    assert {step.expected for step in steps} == {expected}


def untouched_file(folder: Path, text: str = "Anchors.") -> Document:
    (folder / "notes.txt").write_text(text, "utf-8")
    (document,) = open_documents([folder / "notes.txt"])
    return document


def test_an_unchanged_file_is_not_opened_again(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SETTLED_NS", 0)
    document = untouched_file(tmp_path)
    memory = lm.read(document)

    def closed() -> Iterator[str]:
        raise AssertionError("the file was opened")

    lm.read(replace(document, chunks=closed), memory)
    with pytest.raises(AssertionError, match="opened"):
        lm.read(replace(document, chunks=closed), memory, check=True)
    with pytest.raises(AssertionError, match="opened"):
        lm.read(replace(document, chunks=closed), memory, source="another")


def test_a_file_that_changed_is_read_whatever_its_size_and_time_say(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SETTLED_NS", 0)
    document = untouched_file(tmp_path)
    memory = lm.read(document)
    status = (tmp_path / "notes.txt").stat()
    time.sleep(0.02)  # more than a tick of the clock of the file system
    document = untouched_file(tmp_path, "Oysters.")
    os.utime(tmp_path / "notes.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UsageError, match="not the text that was read"):
        lm.read(document, memory)


def test_a_file_that_changed_just_now_is_compared_by_its_text(lm: LanguageModel, tmp_path: Path) -> None:
    document = untouched_file(tmp_path)
    assert document.state() is None
    memory = lm.read(document)
    assert memory.sources[document.source].meta == {}
    lm.read(document, memory)
    assert len(memory.sources) == 1


def test_the_state_of_a_file_that_changes_while_it_is_read_is_not_recorded(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SETTLED_NS", 0)
    document = untouched_file(tmp_path)

    def chunks() -> Iterator[str]:
        yield "Anchors."
        time.sleep(0.02)
        os.utime(tmp_path / "notes.txt")

    memory = lm.read(replace(document, chunks=chunks))
    assert memory.sources[document.source].complete
    assert memory.sources[document.source].meta == {}


def test_reading_again_what_is_known_decodes_no_passage(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = lm.read(TEXT, source="book")

    def decoded(*_: object) -> None:
        raise AssertionError("a passage was decoded")

    for method in ("passages_of", "passage", "ids", "append"):
        monkeypatch.setattr(Memory, method, decoded)
    lm.read(TEXT, memory, source="book")


def test_texts_without_a_name_are_numbered(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    for _ in range(5):
        lm.read("Anchors.", memory)
    assert list(memory.sources) == ["text", "text-2", "text-3", "text-4", "text-5"]
    memory.forget("text")
    lm.read("Anchors.", memory)
    assert "text" in memory.sources


DIARY = "\n".join(
    f"## Session {number}\n\n[{number} May 2023]\n\n"
    + "Ann: The tide was out.\n\nBo: Nobody came to the landing.\n\n" * 12
    for number in (7, 8, 9)
)


def marks_of(memory: Memory) -> list[tuple[object, object, object, object]]:
    passages = [memory.passage(number) for number in range(len(memory))]
    return [(p.marks.get("heading"), p.marks.get("date"), p.happened, p.marks.get("speaker")) for p in passages]


def test_passages_carry_what_holds_of_their_text_also_over_chunks_and_interrupted_readings(lm: LanguageModel) -> None:
    memory = lm.read(DIARY, source="diary")
    facts = marks_of(memory)
    assert len(facts) >= 6
    for number, (heading, date, happened, speaker) in zip(range(len(memory)), facts, strict=True):
        day = max(day for day in (7, 8, 9) if DIARY.index(f"## Session {day}") <= memory.passage(number).start)
        assert (heading, date, happened) == (f"Session {day}", f"{day} May 2023", 1683417600.0 + (day - 7) * 86400)
        assert speaker in ("Ann", "Bo")
    begun = lm.read(DIARY[: memory.passage(2).start], source="diary")
    lm.read(DIARY, begun, source="diary")
    assert {fact[:3] for fact in marks_of(begun)} == {fact[:3] for fact in facts}


def test_the_word_index_knows_the_context_of_a_passage(lm: LanguageModel) -> None:
    memory = lm.read(DIARY, source="diary")
    scores = memory.word_scores("Session 8")
    best = {memory.passage(int(number)).marks["heading"] for number in np.flatnonzero(scores > scores.max() / 2)}
    assert best == {"Session 8"}
    assert sum(scores > 0) > 1


def test_token_ids_that_the_model_does_not_have_are_refused_as_context(lm: LanguageModel) -> None:
    """A memory may lie about the model that made it."""
    encoding = lm.encoder.encode(TEXT[:CUT])
    for first_unknown in (len(lm.tokenizer), 2**31 - 1):
        encoding.ids[-1] = first_unknown
        memory = Memory(lm.fingerprint)
        fields = {"ids": encoding.ids, "keys": encoding.keys, "scales": encoding.scales, "passages": encoding.passages}
        memory.append([EncodedText("book", 0, TEXT[:CUT], **fields, complete=False)])
        with pytest.raises(DamagedMemory, match=f"'book' holds token {first_unknown}, but the model has 2000"):
            lm.read(TEXT, memory, source="book")
