"""Limits of documents, and guards around foreign parsers, whose failures become one clear error.

The limits are far above what people write, and low enough for a laptop. They bound memory where a parser builds
something from what it reads; the time is bounded by algorithms that are linear in what they read, with `time_limit` as
the last resort.
"""

import io
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from memspan.data.formats.base import FileSource, Format
from memspan.data.marks import Mark
from memspan.errors import MemspanError

MAX_MEMBER = 64 * 1024 * 1024  # bytes that one file within an archive may unpack to
MAX_ARCHIVE = 16 * MAX_MEMBER  # bytes that an archive may unpack to as a whole
MAX_DIRECTORY = 4 * 1024 * 1024  # bytes of an archive's list of files, some 50,000; zipfile makes an object for each
MAX_PAGE = 32 * 1024 * 1024  # bytes of markup in a web page or a chapter; the longest novels take a fifth of it
MAX_TREE = 8 * 1024 * 1024  # bytes of XML that is held as a tree, which takes some 30 times as much
MAX_CHAPTERS = 10_000  # of an e-book
MAX_DEPTH = 10_000  # elements of markup within one another: notes are kept of all that are open, a kilobyte of a table
MAX_OPERATIONS = 2_000_000  # drawing operations of a PDF's page, some 20 s; a dense map has a tenth of them
MAX_VALUES = 1_000_000  # values in a line of JSON: objects of some 100 bytes
MAX_NESTED = 50  # values within one another in a table of JSON; Arrow refuses 64, and crashes at some thousand
MAX_COLUMNS = 10_000  # of a table, 3 s
MAX_TEXT = 512 * 1024 * 1024  # characters of a document whose size on disk does not bound its text
MAX_SECONDS = 60  # of CPU time for a page, or any other portion of text
MAX_TOTAL_SECONDS = 900  # of CPU time for a document, without what is done with its text

_SPLIT = "split it into smaller documents, or save its text as .txt"
NO_MEMORY = f"needs more memory than there is: {_SPLIT}"


@contextmanager
def parsing(source: FileSource, format_name: str) -> Iterator[None]:
    """Turn whatever a parser raises into UnreadableSource, and silence its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemspanError:
        raise
    except MemoryError:
        raise source.refused(NO_MEMORY) from None
    except RecursionError:
        raise source.refused(f"is nested too deeply: {_SPLIT}") from None
    except Exception as error:  # given damaged files, parsers raise nearly every kind
        cause = (f"{type(error).__name__}: {error}".rstrip(": ").splitlines() or [""])[0][:300]
        raise source.refused(
            f"is damaged or no {format_name} at all ({cause}): open it in its own program and save it again, or as .txt"
        ) from error


def check_at_most(source: FileSource, count: int, limit: int, what: str) -> None:
    """Raise UnreadableSource if a document has more than `limit` of `what` (a noun in the plural)."""
    if count > limit:
        raise source.refused(f"has more {what} than are read from a document ({limit:,}): {_SPLIT}")


def time_limit(source: FileSource, seconds: float | None = None) -> Callable[[], None]:
    """A function that raises UnreadableSource once this thread has computed for MAX_SECONDS, counted from now."""
    end = time.thread_time() + (MAX_SECONDS if seconds is None else seconds)

    def check() -> None:
        if time.thread_time() > end:
            raise source.refused(f"takes more time than a document should (over {MAX_SECONDS} s a page): {_SPLIT}")

    return check


def bounded(source: FileSource, format: Format) -> Iterator[str | Mark]:
    """The portions and marks of a document, within MAX_TOTAL_SECONDS and, where its size does not tell, within MAX_TEXT.

    Raises UnreadableSource beyond them, and when there is not enough memory.
    """
    portions = format.read(source)
    characters, seconds = 0, 0.0
    while True:
        start = time.thread_time()
        try:
            portion = next(portions, None)
        except MemoryError:
            raise source.refused(NO_MEMORY) from None
        seconds += time.thread_time() - start
        if portion is None:
            return
        characters += len(portion) if isinstance(portion, str) else 1
        if format.packed:
            check_at_most(source, characters, MAX_TEXT, "characters of text")
        check_at_most(source, int(seconds), MAX_TOTAL_SECONDS, "seconds of work")
        yield portion


# --- archives ---------------------------------------------------------------------------------------------------------


class _ShortReads(io.RawIOBase):
    """A file of which no more than MAX_DIRECTORY bytes are read at a time: zipfile reads the list of files at once."""

    def __init__(self, source: FileSource, file: BinaryIO) -> None:
        super().__init__()
        self._source, self._file = source, file

    def read(self, size: int = -1) -> bytes:
        check_at_most(self._source, size, MAX_DIRECTORY, "bytes in its list of files")
        return self._file.read(size if size >= 0 else MAX_DIRECTORY)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def opened_archive(source: FileSource, file: BinaryIO) -> zipfile.ZipFile:
    """The zip archive in an open file. Raises UnreadableSource if it lists too many files."""
    return zipfile.ZipFile(_ShortReads(source, file))


def unpacked_portions(source: FileSource, archive: zipfile.ZipFile, member: str, limit: int) -> Iterator[bytes]:
    """One member of an archive in portions; zipfile never gives more than the size that was checked."""
    check_unpacked_size(source, [archive.getinfo(member)])
    check_at_most(source, archive.getinfo(member).file_size, limit, f"bytes in {member}")
    with archive.open(member) as file:
        while portion := file.read(64 * 1024):
            yield portion


def unpacked(source: FileSource, archive: zipfile.ZipFile, member: str, limit: int) -> bytes:
    """One member of an archive of at most `limit` bytes."""
    return b"".join(unpacked_portions(source, archive, member, limit))


def check_unpacked_size(source: FileSource, members: Sequence[zipfile.ZipInfo]) -> None:
    """Raise UnreadableSource if a few packed bytes would fill the memory of the machine."""
    largest = max(members, key=lambda member: member.file_size)
    if largest.file_size > MAX_MEMBER or sum(member.file_size for member in members) > MAX_ARCHIVE:
        raise source.refused(
            f"unpacks to more than is sound for a text ({largest.filename} alone to {largest.file_size:,} bytes; up to "
            f"{MAX_MEMBER:,} are read): save its text as .txt"
        )
