"""Progress of a reading: what was read and kept, at which speed, and how much is left."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memspan.data.documents import Document
from memspan.errors import UsageError

COUNT_AFTER = 1.0  # seconds of reading after which the characters of a document are counted, for the time that is left
COUNT_SECONDS = 1.0  # how long they are counted at most


@dataclass(frozen=True)
class ReadProgress:
    """Progress of a call that reads one source. What the memory held before the call counts only as `characters`.

    Attributes:
        source: its name.
        tokens: read by this call so far.
        characters: of the source read so far, by earlier calls too; estimated within a chunk.
        size: bytes of the document; None if that is unknown.
        kept: tokens read by this call that are in the memory; the others are lost if the call is interrupted.
        seconds: wall time since the call began to read.
        known: characters of the source read by earlier calls.
        expected: characters of the whole text, about; None if that is unknown.
    """

    source: str
    tokens: int
    characters: int
    size: int | None
    kept: int = 0
    seconds: float = 0.0
    known: int = 0
    expected: int | None = None

    @property
    def speed(self) -> float:
        """Tokens per second of this call; 0.0 before there are any."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_left(self) -> int | None:
        """Tokens that are still to be read, by the tokens per character so far; None if that is unknown."""
        characters = self.characters - self.known
        if self.expected is None or characters <= 0:
            return None
        return max(0, round((self.expected - self.characters) * self.tokens / characters))

    @property
    def seconds_left(self) -> float | None:
        """Wall time that reading the rest takes at the speed so far; None if that is unknown."""
        left = self.tokens_left
        return None if left is None or self.speed == 0 else left / self.speed


class ReadingMeter:
    """Counts what a call reads, and reports it to a function if there is one."""

    def __init__(
        self,
        text: str | Document | Iterable[str],
        source: str,
        known: int,
        progress: Callable[[ReadProgress], None] | None,
    ) -> None:
        """
        Args:
            known: characters of the source that earlier calls read.
        """
        self._source, self._known, self._progress = source, known, progress
        self._kept, self._characters = 0, known
        self._document = text if isinstance(text, Document) else None
        self._size = None if self._document is None else self._document.size
        self._expected = len(text) if isinstance(text, str) else None
        self._is_counted = self._document is None
        if self._document is not None and not self._document.packed:
            self._expected = self._size
        self._begun = time.monotonic()

    def within(self, chunk: str) -> Callable[[int, int], None] | None:
        """A function that takes the encoded tokens of `chunk` and all of them; None if there are no reports."""
        if self._progress is None:
            return None

        def report(tokens: int, total: int) -> None:
            if tokens < total:  # the end of a chunk is reported when it is kept
                self._report(self._kept + tokens, self._characters + len(chunk) * tokens // total)

        return report

    def keep(self, chunk: str, tokens: int) -> None:
        """Count a chunk of so many tokens as kept in the memory."""
        self._kept, self._characters = self._kept + tokens, self._characters + len(chunk)
        self._report(self._kept, self._characters)

    def _report(self, tokens: int, characters: int) -> None:
        if self._progress is None:
            return
        seconds = time.monotonic() - self._begun
        if not self._is_counted and self._document is not None and seconds > COUNT_AFTER:
            self._expected, self._is_counted = _expected_characters(self._document), True
            self._begun = time.monotonic() - seconds  # counting is not reading
        expected = None if self._expected is None else max(self._expected, characters)
        kept, known = self._kept, self._known
        self._progress(ReadProgress(self._source, tokens, characters, self._size, kept, seconds, known, expected))


def _expected_characters(document: Document) -> int | None:
    """The characters of a document, counted for at most `COUNT_SECONDS`, after which the rest is estimated by its size.

    None where that is impossible: the size of the file does not tell its length, or the document is damaged.
    """
    characters = encoded = 0
    due = time.monotonic() + COUNT_SECONDS
    try:
        for chunk in document.chunks():
            characters, encoded = characters + len(chunk), encoded + len(chunk.encode())
            if time.monotonic() > due:
                is_known = document.size is not None and not document.packed
                return round((document.size or 0) * characters / encoded) if is_known else None
    except UsageError:  # met again where the text is read
        return None
    return characters
