"""Documents from files, folders and standard input: texts that can be read from start to end, as often as needed.

    paths -> open_documents -> Document -> chunks() -> str, str, str, ...

The format of a file (`memspan.data.formats`, by its suffix) yields its text in portions of any size; `in_chunks` cuts
that stream at paragraph, line or sentence ends.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from memspan.data.chunking import in_chunks
from memspan.data.formats import FileSource, Format, format_of, suffixes
from memspan.data.formats.base import NO_PERMISSION
from memspan.data.formats.decoding import is_encoding
from memspan.data.formats.html import HTML
from memspan.data.formats.main_text import extractor
from memspan.data.formats.parsing import bounded
from memspan.data.formats.text import TEXT
from memspan.data.marks import Chunk, Mark, portions
from memspan.data.piped import PipedSource
from memspan.data.redaction import REDACTED, Redaction
from memspan.errors import UnreadableSource, UsageError

MAIN_TEXT = "#main-text"  # behind the name of a web page of which only the main text is read
SETTLED_NS = 2_000_000_000  # file systems count time in steps of up to 2 s: a file may change twice within one


@dataclass(frozen=True)
class Document:
    """A text that can be read from start to end, as often as needed.

    Attributes:
        source: the name shown to the user: the path as given, folder/sub/file within a folder, stdin-<UTC time> for
            standard input; with "#main-text" behind it for the main text of a web page, which is another text.
        chunks: opens the document anew and yields its text in order, at most MAX_CHUNK characters at a time.
        size: bytes on disk; None for standard input.
        kind: the kind of source that the text becomes in a memory.
        added: unix seconds since when a memory is said to have it; None for the time at which it is read.
        meta: JSON values that are kept with the source.
        packed: whether `size` does not tell the length of the text.
        state: a hash of the path, identity, size and times of change of the file as it is now, and of the encoding it is
            read with: while it stays the same, so does the text. None where that is not certain: there is no file, or
            it changed within the last seconds, and may change again without another time.
    """

    source: str
    chunks: Callable[[], Iterator[str]]
    size: int | None
    kind: str = "document"
    packed: bool = False
    state: Callable[[], str | None] = lambda: None
    added: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def marked_chunks(self) -> Iterator[Chunk]:
        """What `chunks` yields, each with the marks of its text (`memspan.data.marks`); none where there are none."""
        for chunk in self.chunks():
            yield chunk if isinstance(chunk, Chunk) else Chunk(chunk)


@dataclass(frozen=True)
class Skipped:
    """A member of a folder that was passed over, and why."""

    source: str
    reason: str


def open_documents(
    paths: Sequence[str | Path],
    *,
    encoding: str | None = None,
    main_text: bool = False,
    redaction: Redaction | None = None,
    on_skip: Callable[[Skipped], object] | None = None,
) -> Iterator[Document]:
    """The documents at `paths`, in order: files, folders (recursive, sorted by name), "-" for standard input.

    All paths are looked up at once; each document is opened when its turn comes, and it is yielded only after some text
    was read from it. Members of a folder that are hidden, binary or otherwise unreadable are passed over and reported
    to `on_skip`. Without `encoding`, text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. With `main_text` a web
    page gives only what trafilatura takes for its main text, or its visible text if it finds none. With `redaction` the texts come
    without the secrets that it finds.

    Raises UsageError for a missing path, an unknown encoding, or `main_text` without trafilatura; UnreadableSource for a document that is empty, binary,
    damaged, encrypted or in another encoding. Damage further down is found, and raised, while reading the chunks.
    """
    if isinstance(paths, str | Path):
        raise UsageError(f"paths must be a list of paths, got a single path: write [{str(paths)!r}]")
    if not paths:
        raise UsageError('no document given: name files or folders, or "-" for standard input')
    if [str(path) for path in paths].count("-") > 1:
        raise UsageError('"-" must be named once among the documents, got it twice: standard input is read only once')
    if encoding is not None and not is_encoding(encoding):
        raise UsageError(f"unknown encoding {encoding!r}: give a name such as utf-8, gb18030, cp1252, shift_jis")
    if main_text:
        extractor()  # before any document is opened
    for path in paths:
        _check_path(path)
    make = partial(_file_source, encoding=encoding, main_text=main_text)
    documents = _documents(paths, make, on_skip or (lambda skipped: None))
    return documents if redaction is None else (redacted(document, redaction) for document in documents)


def redacted(document: Document, redaction: Redaction) -> Document:
    """A document without the secrets that `redaction` finds in its text and in the marks of its text. Its name stays."""

    def chunks() -> Iterator[Chunk]:
        return in_chunks(redaction.portions(part for chunk in document.marked_chunks() for part in portions(chunk)))

    def state() -> str | None:
        known = document.state()
        return None if known is None else hashlib.sha256(f"{known} {redaction.name}".encode()).hexdigest()[:32]

    return replace(document, chunks=chunks, state=state, meta={**document.meta, REDACTED: redaction.name})


def _check_path(path: str | Path) -> None:
    """Raise UsageError unless `path` is "-" or something on disk."""
    if str(path) == "-":
        return
    try:
        os.stat(path)
    except PermissionError:
        raise UnreadableSource(f"{path} {NO_PERMISSION}") from None
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        raise UsageError(
            f"there is no file or folder {str(path)!r}: check the spelling and the current folder"
        ) from None


def _file_source(path: Path, name: str, encoding: str | None, main_text: bool) -> FileSource:
    """The source for a file, under a name that can be printed and stored."""
    return FileSource(path, _legible(name), encoding, main_text)


_MakeSource = Callable[[Path, str], FileSource]


def _documents(
    paths: Sequence[str | Path], make: _MakeSource, on_skip: Callable[[Skipped], object]
) -> Iterator[Document]:
    """`open_documents` after its checks."""
    for path in paths:
        if str(path) == "-":
            yield _stdin_document(make)
        elif Path(path).is_dir():
            yield from _folder_documents(Path(path), make, on_skip)
        else:
            yield _file_document(make(Path(path), str(path)))


def _legible(name: str) -> str:
    """A name of a file without line ends, control characters and bytes that are no text: "\\n" for a line end."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in name
    )


def _file_document(source: FileSource) -> Document:
    """The document in a file, after a first look at its text."""
    with source.open() as file:
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise source.refused("is empty (0 bytes): there is nothing to read")
    return _document(source, format_of(source.path), size)


def _stdin_document(make: _MakeSource) -> Document:
    """Standard input, kept in a temporary file without a name as long as the document lives, to be read again."""
    source = PipedSource(make(Path("-"), f"stdin-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
    try:
        shutil.copyfileobj(sys.stdin.buffer, source.copy)
        source.copy.flush()
    except OSError as error:
        raise source.refused(f"failed to be kept in {tempfile.gettempdir()} ({error.strerror}): set TMPDIR") from None
    if source.copy.tell() == 0:
        raise source.refused("is empty: pipe some text in, or name a file instead of -")
    return _document(source, TEXT, None)


def _document(source: FileSource, format: Format, size: int | None) -> Document:
    """The document behind `source`. Raises UnreadableSource if its text does not begin."""
    chunks = partial(_chunks, source, format)
    any(chunk.strip() for chunk in chunks())  # reads as far as the first words
    name = f"{source.name}{MAIN_TEXT}" if source.main_text and format is HTML else source.name
    state = (lambda: None) if size is None else partial(_file_state, source)
    return Document(name, chunks, size, packed=format.packed, state=state)


def _file_state(source: FileSource) -> str | None:
    """See `Document.state`."""
    try:
        status = os.stat(source.path)
    except OSError:
        return None
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < SETTLED_NS:
        return None
    times = (status.st_mtime_ns, status.st_ctime_ns)
    facts = [os.path.realpath(source.path), status.st_ino, status.st_size, *times, source.encoding, source.main_text]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _chunks(source: FileSource, format: Format) -> Iterator[Chunk]:
    """The text of `source` in chunks. Raises UnreadableSource at the end if there was nothing but white space."""
    blank = True
    for chunk in in_chunks(_cleaned(bounded(source, format))):
        blank = blank and not chunk.strip()
        yield chunk
    if blank:
        raise source.refused("holds no text, at most white space: there is nothing to read")


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _cleaned(portions: Iterable[str | Mark]) -> Iterator[str | Mark]:
    """Mend what parsers let through: "\\r\\n", NUL, and lone surrogates, which no tokenizer can take."""
    for portion in portions:
        if isinstance(portion, Mark):
            value = portion.value
            yield Mark(portion.kind, " ".join(_clean(value).split()) if isinstance(value, str) else value)
        else:
            yield _clean(portion)


def _clean(text: str) -> str:
    """A text without what no tokenizer can take."""
    return _LONE_SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").replace("\0", ""))


# --- folders ----------------------------------------------------------------------------------------------------------


def _folder_documents(folder: Path, make: _MakeSource, on_skip: Callable[[Skipped], object]) -> Iterator[Document]:
    """The readable files of a folder. Raises UnreadableSource if there is none."""
    skipped: list[Skipped] = []
    empty = True
    for member in _members(folder):
        if isinstance(member, Path):
            source = make(member, member.as_posix())
            try:
                document = _file_document(source)
            except UnreadableSource as error:
                member = Skipped(source.name, str(error).removeprefix(f"{source.name} "))
            else:
                empty = False
                yield document
                continue
        skipped.append(member)
        on_skip(member)
    if empty:
        raise UnreadableSource(_no_document_message(folder, skipped))


def _members(folder: Path) -> Iterator[Path | Skipped]:
    """The files below `folder`, sorted folder by folder, and what is passed over without a look inside."""
    entries = [folder]  # a stack instead of recursion: folders may nest deeper than Python does
    while entries:
        entry = entries.pop()
        name = _legible(entry.as_posix())
        if entry is not folder and entry.name.startswith("."):
            yield Skipped(name, "is hidden")
        elif not os.path.isdir(entry):  # os.path: a folder that is closed to us is False, no error
            yield entry
        elif entry is not folder and entry.is_symlink():
            yield Skipped(name, "is a link to a folder")  # it may lead back here
        else:
            try:
                entries += sorted(entry.iterdir(), reverse=True)
            except OSError as error:
                yield Skipped(name, f"failed to list its files ({error.strerror})")


def _no_document_message(folder: Path, skipped: Sequence[Skipped]) -> str:
    """The sentence for a folder that gave no document."""
    if not skipped:
        return f"folder {folder} holds no files: name a folder with documents ({', '.join(suffixes())} or other text)"
    shown = "; ".join(f"{member.source} {member.reason}" for member in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"folder {folder} holds no readable file, skipped {len(skipped)}: {shown}{more}"
