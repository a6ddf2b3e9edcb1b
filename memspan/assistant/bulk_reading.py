"""Many documents into a memory by several encoders, which work ahead while one process keeps what they have encoded.

Chunks are given to the encoders in the order of the documents, and kept in that order, each in a commit of its own: the memory
becomes what a single process makes of the same documents, whichever encoder is done first.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from memspan.assistant.progress import ReadingMeter, ReadProgress
from memspan.assistant.reader import Encode, keep_all
from memspan.assistant.reading import Preparation, Reading, UnencodedText
from memspan.data.documents import Document
from memspan.memory import EncodedText, Fingerprint, Memory
from memspan.memory.filter import checked_tags
from memspan.memory.tags import tag

AHEAD = 4  # chunks for each encoder that are under way or wait to be kept, and documents that are begun

ReadDocument = Callable[..., object]  # its argument `progress` is called with a ReadProgress


class Encoders(Protocol):
    """Several encoders of one model, which work at the same time.

    Attributes:
        count: how many.
        preparation: what prepares texts for them.
    """

    count: int
    preparation: Preparation

    def start(self) -> None:
        """Make them ready to work, if they are not; what goes wrong is raised."""

    def submit(self, chunk: UnencodedText, memory: Fingerprint) -> Callable[[], EncodedText]:
        """Have a chunk encoded for a memory of this fingerprint; the function waits for it, and raises what went wrong."""


@dataclass(eq=False)
class _Begun:
    """A document whose turn to be kept comes later, or is now.

    Attributes:
        reading: None if there is nothing new to read.
        chunks: those that were not submitted yet.
        encodings: of the chunks that were submitted, in order.
        error: what was raised behind these chunks.
        is_read: whether all of its text was submitted.
    """

    name: str
    reading: Reading | None = None
    chunks: Iterator[UnencodedText] | None = None
    encodings: deque[Encode] = field(default_factory=deque)
    error: Exception | None = None
    is_read: bool = False


class BulkReading:
    """Documents on their way into a memory. At most `AHEAD` chunks for each encoder are held at a time.

    A document is begun only when all earlier ones of its name are kept.
    """

    def __init__(
        self,
        encoders: Encoders,
        memory: Memory,
        documents: Sequence[tuple[str, Document]],
        *,
        check: bool = False,
        update: bool = False,
        where: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            documents: with the names of the sources that they become.
            check, update, where: see `LanguageModel.read`.

        Raises UsageError for tags that are none.
        """
        self._encoders, self._memory, self._documents = encoders, memory, documents
        self._options, self._tags = {"check": check, "update": update}, checked_tags(where)
        self._begun: deque[_Begun] = deque()  # of the documents from the one whose turn it is on
        self._next = 0  # the first document that is not begun
        self._under_way = 0  # chunks that were submitted and not kept
        self._most = AHEAD * encoders.count

    def reads(self) -> Iterator[ReadDocument]:
        """For each document in order a function that reads it, to be called before the next is taken.

        It raises as `LanguageModel.read` does; the documents behind it can be read all the same. What taking it raises is about
        the encoders, and ends the reading.
        """
        for name, document in self._documents:
            if not self._begun:
                self._begin()
            if self._begun[0].reading is not None:
                self._encoders.start()

            def read(progress: Callable[[ReadProgress], None] | None = None) -> None:
                self._read(name, document, progress)  # noqa: B023  # it is called at once

            yield read

    def _read(self, name: str, document: Document, progress: Callable[[ReadProgress], None] | None) -> None:
        begun = self._begun[0]
        try:
            if begun.reading is not None:
                meter = ReadingMeter(document, name, begun.reading.known, progress)
                keep_all(begun.reading, self._encodings(begun), meter)
            elif begun.error is not None:
                raise begun.error
        finally:
            self._begun.popleft()
            self._under_way -= len(begun.encodings)
        if self._tags and name in self._memory.sources:
            tag(self._memory, name, self._tags)

    def _encodings(self, begun: _Begun) -> Iterator[Encode]:
        """The encodings of the document whose turn it is, each of which has the next chunks submitted before it is waited for."""
        while True:
            while not begun.encodings and not begun.is_read:
                self._submit(begun)
            if not begun.encodings:
                break
            yield begun.encodings.popleft()
        if begun.error is not None:
            raise begun.error

    def _work_ahead(self) -> None:
        """Submit chunks until there are enough under way."""
        while self._under_way < self._most:
            if not self._begun[-1].is_read:
                self._submit(self._begun[-1])
            elif len(self._begun) < self._most and self._may_begin():
                self._begin()
            else:
                return

    def _may_begin(self) -> bool:
        """Whether there is a next document, and none before it is about to become the same source."""
        if self._next == len(self._documents):
            return False
        name, _ = self._documents[self._next]
        return all(begun.name != name for begun in self._begun)

    def _begin(self) -> None:
        """Begin with the next document; what that raises is raised when its turn comes."""
        name, document = self._documents[self._next]
        begun, self._next = _Begun(name), self._next + 1
        try:
            begun.reading = self._encoders.preparation.begin(document, self._memory, name, **self._options)
        except Exception as error:  # as it would be raised if this document had been waited for
            begun.error = error
        begun.is_read = begun.reading is None
        begun.chunks = None if begun.reading is None else begun.reading.chunks()
        self._begun.append(begun)

    def _submit(self, begun: _Begun) -> None:
        """Submit the next chunk of a document, or note that there is none."""
        try:
            chunk = None if begun.chunks is None else next(begun.chunks, None)
        except Exception as error:  # likewise
            chunk, begun.error = None, error
        if chunk is None:
            begun.is_read = True
            return
        wait = self._encoders.submit(chunk, self._memory.fingerprint)
        self._under_way += 1

        def encode(meter: ReadingMeter) -> EncodedText:
            try:
                self._work_ahead()
                return wait()
            finally:
                self._under_way -= 1

        begun.encodings.append(encode)
