"""Where texts come from: JSON lines, plain lines, feeds, folders of these, and standard input; from where it was left."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from memspan.apps.monitor import feeds
from memspan.apps.monitor.entries import Chunk, Fields, Position, Rejected, of_line
from memspan.errors import UsageError
from memspan.plugins import require_installed

JSON_LINES, PLAIN_LINES, FEEDS = (".jsonl", ".ndjson"), (".txt",), (".rss", ".atom", ".xml")
SUFFIXES = (*JSON_LINES, *PLAIN_LINES, *FEEDS)
STANDARD_INPUT = "-"
LINES = 256  # of a chunk
LONGEST_LINE = 4 * 1024 * 1024  # bytes
LARGEST_FEED = 64 * 1024 * 1024  # bytes
_MARKED = 1024  # bytes by which a file is known again
_WAIT = 1000  # milliseconds between two looks at whether to stop


def check_can_watch() -> None:
    """Raises UsageError without the package watchfiles."""
    require_installed("Watching files needs", "watchfiles")


class Sources:
    """The sources of a run."""

    def __init__(self, paths: Sequence[str], fields: Fields, standard_input: IO[bytes] | None = None) -> None:
        """
        Args:
            paths: files, folders, or - for standard input.
            standard_input: what is read for "-".

        Raises UsageError for a path that does not exist, or for a file of another kind.
        """
        self.fields, self._input = fields, standard_input
        self.paths = [Path(path) for path in paths if path != STANDARD_INPUT]
        self.reads_input = STANDARD_INPUT in paths
        for path in self.paths:
            if str(path).startswith(("http:/", "https:/")):
                raise UsageError(f"Nothing is fetched from the network: save {path} as a file, and give that.")
            if not path.exists():
                raise UsageError(f"There is no file or folder {path}.")
            if path.is_file() and path.suffix.lower() not in SUFFIXES:
                raise UsageError(f"{path} must be a file of {', '.join(SUFFIXES)}, or a folder of these.")
        if any(path.suffix.lower() in FEEDS for path, _ in self._files()):
            require_installed("Feeds need", "feedparser")

    def live(self, positions: Mapping[str, Position], stop: threading.Event) -> Iterator[Chunk]:
        """The chunks of all sources now, and whenever files change, until `stop` is set; standard input to its end.

        Raises UsageError without the package watchfiles.
        """
        if self.reads_input:
            yield from self.once(positions)
            return
        check_can_watch()
        import watchfiles

        known = dict(positions)
        yield from self._files_now(known)
        first = True
        for changes in watchfiles.watch(
            *self.paths, stop_event=stop, yield_on_timeout=True, rust_timeout=_WAIT, raise_interrupt=False
        ):
            if changes or first:  # what has changed before the watch began
                yield from self._files_now(known)
            first = False

    def once(self, positions: Mapping[str, Position]) -> Iterator[Chunk]:
        """The chunks of all sources up to their present ends."""
        yield from self._files_now(dict(positions))
        if self.reads_input and self._input is not None:
            yield from self._piped(self._input)

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Each file with its group: the folder or file that was named, in which ids are unique."""
        for path in self.paths:
            if path.is_dir():
                for file in sorted(path.rglob("*")):
                    hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                    if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
                        yield file, str(path.resolve())
            else:
                yield path, str(path.resolve())

    def _files_now(self, known: dict[str, Position]) -> Iterator[Chunk]:
        """What is new in the files; `known` is renewed."""
        for path, group in self._files():
            source = str(path.resolve())
            before = known.get(source, Position())
            read = _feed if path.suffix.lower() in FEEDS else self._lines
            try:
                for chunk in read(path, group, before):
                    known[chunk.source] = chunk.position
                    yield chunk
            except OSError as error:
                rejected = [Rejected(0, f"is not readable: {error.strerror}")]
                if before.mark != "unreadable":
                    known[source] = Position(before.offset, before.lines, "unreadable")
                    yield Chunk(source, before, rejected=rejected)

    def _lines(self, path: Path, group: str, before: Position) -> Iterator[Chunk]:
        as_json = path.suffix.lower() in JSON_LINES
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == before.offset or size == 0:
                return
            if size < before.offset or (before.offset and mark(file, before.offset) != before.mark):
                before = Position()  # another file has this name now
            file.seek(before.offset)
            offset, number = before.offset, before.lines
            chunk = Chunk(str(path.resolve()), before)
            while line := file.readline(LONGEST_LINE):
                if not line.endswith(b"\n") and not self._is_whole(file, line, as_json):
                    break  # it is being written
                number += 1
                if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
                    line = _skipped(file)
                    chunk.add(Rejected(number, f"is longer than {LONGEST_LINE // 1024**2} MiB"))
                elif line.strip():
                    chunk.add(of_line(line, number, group, self.fields, time.time(), as_json))
                offset = file.tell()
                if number % LINES == 0:
                    yield self._behind(chunk, file, offset, number)
                    chunk = Chunk(chunk.source, before)
                    file.seek(offset)
            if offset > before.offset:
                yield self._behind(chunk, file, offset, number)

    def _is_whole(self, file: IO[bytes], line: bytes, as_json: bool) -> bool:
        """Whether a line without an end can be taken: one that is too long, or a whole JSON object at the end of a file."""
        if len(line) >= LONGEST_LINE:
            return True
        whole = as_json and line.rstrip().endswith(b"}")
        return whole and not isinstance(of_line(line, 0, "", self.fields, time.time(), True), Rejected)

    @staticmethod
    def _behind(chunk: Chunk, file: IO[bytes], offset: int, number: int) -> Chunk:
        chunk.position = Position(offset, number, mark(file, offset))
        return chunk

    def _piped(self, stream: IO[bytes]) -> Iterator[Chunk]:
        """Lines of standard input as they come: objects of JSON, else plain texts. It cannot be read again."""
        rest, number = b"", 0
        read: Any = getattr(stream, "read1", stream.read)
        while True:
            data = read(LONGEST_LINE)
            *lines, rest = (rest + data).split(b"\n") if data else (rest, b"")
            chunk = Chunk("standard input", Position())
            for line in lines:
                number += 1
                if line.strip():
                    as_json = line.lstrip().startswith(b"{")
                    chunk.add(of_line(line, number, "standard input", self.fields, time.time(), as_json))
            if len(rest) > LONGEST_LINE:
                number, rest = number + 1, b""
                chunk.add(Rejected(number, f"is longer than {LONGEST_LINE // 1024**2} MiB"))
            if chunk.entries or chunk.rejected:
                yield chunk
            if not data:
                return


def mark(file: IO[bytes], offset: int) -> str:
    """A hash of the first bytes of a file, of which `offset` bytes are read."""
    file.seek(0)
    return hashlib.sha256(file.read(min(_MARKED, offset))).hexdigest()[:16]


def _skipped(file: IO[bytes]) -> bytes:
    """The last part of a line that is too long."""
    while part := file.readline(LONGEST_LINE):
        if part.endswith(b"\n"):
            return part
    return b""


def _feed(path: Path, group: str, before: Position) -> Iterator[Chunk]:
    """The entries of a feed, in chunks; nothing where the file is as it was. Entries that were read before are known by id."""
    with path.open("rb") as file:
        data = file.read(LARGEST_FEED + 1)
    digest, source = hashlib.sha256(data).hexdigest()[:16], str(path.resolve())
    if digest == before.mark or not data:
        return
    if len(data) > LARGEST_FEED:
        problem = Rejected(0, f"is larger than {LARGEST_FEED // 1024**2} MiB")
        yield Chunk(source, Position(0, 0, digest), rejected=[problem])
        return
    found = list(feeds.entries(data, group, time.time()))
    for first in range(0, max(1, len(found)), LINES):
        part, is_last = found[first : first + LINES], first + LINES >= len(found)
        chunk = Chunk(source, Position(len(data), len(found), digest) if is_last else before)
        for entry in part:
            chunk.add(entry)
        yield chunk
