"""Several encoders make of documents what a single process makes of them, byte for byte, and hold only a few chunks."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from memspan import LanguageModel, Memory, load_memory
from memspan.assistant.bulk_reading import AHEAD, BulkReading
from memspan.assistant.reading import Preparation, UnencodedText
from memspan.data.chunking import MAX_CHUNK, in_chunks
from memspan.data.documents import Document
from memspan.errors import ChangedSource, MemspanError, UnreadableSource
from memspan.memory import EncodedText, Fingerprint
from memspan.memory.store import encoded_text
from memspan.memory.store.folder import Folder
from tests.tiny import logbook

TEXT = logbook()


class Threads:
    """Encoders in threads of this process; it notes which chunks were submitted, and how many were held at a time."""

    def __init__(self, lm: LanguageModel, count: int = 2) -> None:
        self.count, self.preparation = count, Preparation(lm.encoder, lm.fingerprint, lm.vectors.fingerprint)
        self.reader, self.lock, self.pool = lm.reader, threading.Lock(), ThreadPoolExecutor(count)
        self.submitted: list[str] = []
        self.ahead: list[int] = []  # how many were submitted when the next was waited for
        self.held = self.most = self.starts = 0

    def start(self) -> None:
        self.starts += 1

    def submit(self, chunk: UnencodedText, memory: Fingerprint) -> Callable[[], EncodedText]:
        self.submitted.append(chunk.fields["source"])
        self.held += 1
        self.most = max(self.most, self.held)
        future = self.pool.submit(self.encode, chunk, memory)

        def wait() -> EncodedText:
            self.ahead.append(len(self.submitted))
            self.held -= 1
            return future.result()

        return wait

    def encode(self, chunk: UnencodedText, memory: Fingerprint) -> EncodedText:
        with self.lock:  # as each process has a model of its own
            return self.reader.encode(chunk, memory)


def document(name: str, *chunks: str | Exception, **fields: Any) -> Document:
    """A document of these chunks; an exception is raised where it stands among them."""

    def opened() -> Iterator[str]:
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    return Document(name, opened, None, **fields)


def files_of(folder: Path) -> list[bytes]:
    """The files of a memory with its passages, in their order."""
    return [(folder / "parts" / f"{entry.name}.safetensors").read_bytes() for entry in Folder(folder).manifest().shards]


Outcome = list[str | None]  # of each document: what was raised


def outcome_of(reads: Iterator[Callable[..., object]]) -> Outcome:
    outcome: Outcome = []
    for read in reads:
        try:
            read()
        except MemspanError as error:
            outcome.append(f"{type(error).__name__}: {error}")
        else:
            outcome.append(None)
    return outcome


def singly(lm: LanguageModel, memory: Memory, documents: list[Document], **options: Any) -> Outcome:
    return outcome_of(lambda document=document: lm.read(document, memory, **options) for document in documents)  # type: ignore[misc]


def together(encoders: Threads, memory: Memory, documents: list[Document], **options: Any) -> Outcome:
    named = [(document.source, document) for document in documents]
    return outcome_of(BulkReading(encoders, memory, named, **options).reads())


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passages are added at the same time, whoever reads them."""
    monkeypatch.setattr(encoded_text, "time", SimpleNamespace(time=lambda: 1.8e9))


@pytest.mark.usefixtures("still_clock")
@pytest.mark.parametrize("update", [False, True])
def test_the_memory_is_that_of_one_process(lm: LanguageModel, tmp_path: Path, update: bool) -> None:
    broken = UnreadableSource("broken.txt is not valid UTF-8 in line 7")
    before = [document("known", TEXT[:900]), document("changed", TEXT[:5000]), document("begun", TEXT[:3000], broken)]
    documents = [
        document("a", TEXT[:2000]),
        document("known", TEXT[:900]),
        document("book", *(TEXT[first : first + 1500] for first in range(0, 15_000, 1500))),
        document("changed", f"{TEXT[:2500]} Something new. {TEXT[2500:5000]}"),
        document("broken", TEXT[:1000], TEXT[1000:2000], broken),
        document("begun", TEXT[:3000], TEXT[3000:4000]),
        document("unreadable", broken),
        document("a", TEXT[:2000], TEXT[2000:2500]),  # the same name again, which goes on behind the first
        document("mail", "Anchors.", kind="exchange", added=1.7e9, meta={"thread": 3}),
        document("empty"),
    ]
    one, many = (lm.new_memory(tmp_path / name) for name in ("one", "many"))
    for memory in (one, many):
        singly(lm, memory, before)
    options = {"update": update, "where": {"shelf": "top"}}
    expected = singly(lm, one, documents, **options)
    assert together(Threads(lm), many, documents, **options) == expected
    failed = {index: error.split(":")[0] for index, error in enumerate(expected) if error}
    assert failed == {**({} if update else {3: ChangedSource.__name__}), 4: "UnreadableSource", 6: "UnreadableSource"}
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")
    assert len(files_of(tmp_path / "one")) > 1
    assert load_memory(tmp_path / "many").sources == load_memory(tmp_path / "one").sources
    question = "Who mended the net?"
    assert lm.search(many, question) == lm.search(one, question)
    assert together(Threads(lm), many, [documents[0], documents[2]]) == [
        ChangedSource.__name__ + expected_ending(lm, one),
        None,
    ]


def expected_ending(lm: LanguageModel, memory: Memory) -> str:
    """How the error ends about a text that is shorter than what was read of it."""
    with pytest.raises(ChangedSource) as raised:
        lm.read(TEXT[:2000], memory, source="a")
    return f": {raised.value}"


def test_encoders_work_ahead_and_only_so_far(lm: LanguageModel) -> None:
    names = [f"text {number}" for number in range(40)]
    encoders, memory = Threads(lm), lm.new_memory()
    reads = BulkReading(encoders, memory, [(name, document(name, "An anchor.", "A net.")) for name in names]).reads()
    for number, read in enumerate(reads):
        read()
        assert list(memory.sources) == names[: number + 1]
    most = AHEAD * encoders.count
    assert (encoders.most, encoders.starts) == (most, 40)
    assert encoders.ahead == [min(80, number + most) for number in range(80)]
    assert encoders.submitted == [name for name in names for _ in range(2)]
    known = [(name, document(name, "An anchor.", "A net.")) for name in names]
    reads = BulkReading(encoders, memory, known).reads()
    for read in reads:
        read()
    assert (len(encoders.submitted), encoders.starts) == (80, 40)  # all is known: nobody has to start


def test_a_long_text_is_divided_among_the_encoders(lm: LanguageModel) -> None:
    encoders, memory = Threads(lm), lm.new_memory()
    book = document("book", *in_chunks([TEXT * (3 * MAX_CHUNK // len(TEXT) + 1)]))
    reads = BulkReading(encoders, memory, [("book", book)]).reads()
    next(reads)()
    assert encoders.ahead[0] > 2
    for block, expected in zip(memory.blocks(), lm.read(book).blocks(), strict=True):
        assert np.array_equal(block.keys, expected.keys)
        assert np.array_equal(block.scales, expected.scales)


def test_a_document_that_cannot_be_encoded_leaves_the_others_read(lm: LanguageModel) -> None:
    class Failing(Threads):
        def encode(self, chunk: UnencodedText, memory: Fingerprint) -> EncodedText:
            if "net" in chunk.text:
                raise MemspanError("The model computed numbers that are not finite.")
            return super().encode(chunk, memory)

    encoders, memory = Failing(lm), lm.new_memory()
    documents = [
        document(name, "Anchors.", word, "Oars.")
        for name, word in zip("abcd", ("sail", "net", "rope", "tar"), strict=True)
    ]
    assert together(encoders, memory, documents) == [
        None,
        "MemspanError: The model computed numbers that are not finite.",
        None,
        None,
    ]
    assert {name: source.characters for name, source in memory.sources.items()} == {"a": 17, "b": 8, "c": 17, "d": 16}
    assert [source.complete for source in memory.sources.values()] == [True, False, True, True]


def test_an_interrupt_keeps_what_was_encoded(lm: LanguageModel) -> None:
    class Interrupted(Threads):
        def submit(self, chunk: UnencodedText, memory: Fingerprint) -> Callable[[], EncodedText]:
            if len(self.submitted) == self.count * AHEAD + 1:
                raise KeyboardInterrupt
            return super().submit(chunk, memory)

    memory = lm.new_memory()
    documents = [document(f"text {number}", "Anchors.", "Oars.") for number in range(40)]
    with pytest.raises(KeyboardInterrupt):
        together(Interrupted(lm), memory, documents)
    assert list(memory.sources) == ["text 0"]
    assert together(Threads(lm), memory, documents) == [None] * 40
    assert [source.characters for source in memory.sources.values()] == [13] * 40
