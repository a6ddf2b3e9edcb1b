"""Paths -> streams of text: every kind of document becomes an iterator over pieces of plain text.

    paths -> open_documents -> Document -> pieces() -> str, str, str, ...

A reader is a function `Source -> Iterator[str]`, one per format; READERS finds it by the suffix of the file. Readers
yield text in portions of any size; `in_pieces` then cuts the stream at paragraph, line or sentence ends. Libraries for
the formats are imported by the reader that needs them.
"""

import codecs
import io
import json
import logging
import os
import posixpath
import re
import shutil
import sys
import tempfile
import warnings
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from memspan.data.chunking import hard_cut, sentence_ends, word_ends
from memspan.errors import MemspanError, UnreadableSource, UsageError

PIECE = 64 * 1024  # characters in a piece, at most
LONGEST_LINE = 16 * 1024 * 1024  # characters; more is no text for reading, and a bound keeps memory bounded
LARGEST_MEMBER = 64 * 1024 * 1024  # bytes that one file within a docx or epub may unpack to
LARGEST_ARCHIVE = 16 * LARGEST_MEMBER  # bytes that a docx, which is unpacked as a whole, may unpack to
_BLOCK = 64 * 1024  # bytes read at a time


@dataclass(frozen=True)
class Document:
    """One text that can be read from start to end, as often as needed."""

    source: str
    """The name shown to the user: the path as given, folder/sub/file within a folder, stdin-<UTC time> for stdin."""
    pieces: Callable[[], Iterator[str]]
    """Opens the document anew and yields its text in order, at most PIECE characters at a time."""
    size: int | None
    """Bytes on disk, for a progress bar; None for stdin."""
    kind: str = "document"


@dataclass(frozen=True)
class Skipped:
    """A member of a folder that was passed over, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Source:
    """The bytes behind a document: where they are, what the user calls them, how to decode them (None: find out)."""

    path: Path
    name: str
    encoding: str | None = None

    def refused(self, why: str) -> UnreadableSource:
        """The error that says why this source cannot be read."""
        return UnreadableSource(f"{self.name} {why}")


Reader = Callable[[Source], Iterator[str]]


def open_documents(
    paths: Sequence[str | Path],
    *,
    encoding: str | None = None,
    on_skip: Callable[[Skipped], object] | None = None,
) -> Iterator[Document]:
    """The documents at `paths`, in order: files, folders (recursive, sorted by name), "-" for standard input.

    All paths are looked up at once; each document is opened when its turn comes, and it is yielded only after some text
    was read from it. Members of a folder that are hidden, binary or otherwise unreadable are passed over and reported
    to `on_skip`. Without `encoding`, text is UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Raises UsageError for a missing path or unknown encoding, UnreadableSource for a document that is empty, binary,
    damaged, encrypted or in another encoding. Damage further down is found, and raised, while reading the pieces.
    """
    if isinstance(paths, str | Path):
        raise UsageError(f"open_documents takes a list of paths, not one path: write [{str(paths)!r}]")
    if not paths:
        raise UsageError('no document given: name files or folders, or "-" for standard input')
    if [str(path) for path in paths].count("-") > 1:
        raise UsageError('"-" stands twice among the documents, but standard input can be read only once')
    _check_encoding(encoding)
    for path in paths:
        _check_path(path)
    return _documents(paths, encoding, on_skip or (lambda skipped: None))


def in_pieces(portions: Iterable[str], limit: int = PIECE) -> Iterator[str]:
    """Cut a stream of text into pieces of at most `limit` characters that join to the same text.

    A piece ends at the last paragraph break within the limit, else at a line end, else at a sentence end, else at white
    space, else at the limit. At most `limit` characters and one portion are held at a time.
    """
    pending = ""
    for portion in portions:
        pending += portion
        start = 0
        while len(pending) - start > limit:
            cut = _piece_end(pending, start, start + limit)
            yield pending[start:cut]
            start = cut
        pending = pending[start:]
    if pending:
        yield pending


def _piece_end(text: str, start: int, end: int) -> int:
    """The best place in `(start, end]` to end a piece."""
    for mark in ("\n\n", "\n"):
        found = text.rfind(mark, start, end)
        if found >= start:
            return found + len(mark)
    for ends in (sentence_ends, word_ends):
        last = max(ends(text, start, end), default=None)
        if last is not None:
            return last
    return hard_cut(text, start, end)


# --- finding the documents --------------------------------------------------------------------------------------------


def _check_encoding(encoding: str | None) -> None:
    """Raise UsageError unless Python can decode text with `encoding`."""
    if encoding is None:
        return
    try:
        codecs.getincrementaldecoder(encoding)
        b"text".decode(encoding)  # raises LookupError for codecs that are not about text
    except UnicodeError:
        return  # four bytes need not be valid in it
    except (LookupError, ValueError):
        raise UsageError(
            f"unknown encoding {encoding!r}: give a name such as utf-8, gb18030, cp1252, shift_jis"
        ) from None


def _check_path(path: str | Path) -> None:
    """Raise UsageError unless `path` is "-" or something on disk."""
    if str(path) == "-":
        return
    try:
        os.stat(path)
    except PermissionError:
        raise UnreadableSource(f"{path} {_NO_PERMISSION}") from None
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        raise UsageError(
            f"there is no file or folder {str(path)!r}: check the spelling and the current folder"
        ) from None


_NO_PERMISSION = "may not be read by you: change its permissions (chmod +r) or copy it to a place of your own"


def _documents(
    paths: Sequence[str | Path], encoding: str | None, on_skip: Callable[[Skipped], object]
) -> Iterator[Document]:
    """`open_documents` after its checks."""
    for path in paths:
        if str(path) == "-":
            yield _stdin_document(encoding)
        elif Path(path).is_dir():
            yield from _folder_documents(Path(path), encoding, on_skip)
        else:
            yield _file_document(Source(Path(path), str(path), encoding))


def _file_document(source: Source) -> Document:
    """The document in one file, after a first look at its text."""
    if not os.path.isfile(source.path):
        raise source.refused('is not a regular file (a pipe, a device, a broken link?): pipe it in and name it "-"')
    with _open(source) as file:
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise source.refused("is empty (0 bytes): there is nothing to read")
    pieces = partial(_pieces, source, READERS.get(source.path.suffix.lower(), read_text))
    any(piece.strip() for piece in pieces())  # raises what is wrong with it
    return Document(source.name, pieces, size)


def _folder_documents(folder: Path, encoding: str | None, on_skip: Callable[[Skipped], object]) -> Iterator[Document]:
    """The readable files of a folder. Raises UnreadableSource if there is none."""
    skipped: list[Skipped] = []
    found = False
    for member in _members(folder):
        if isinstance(member, Path):
            source = Source(member, member.as_posix(), encoding)
            try:
                document = _file_document(source)
            except UnreadableSource as error:
                member = Skipped(source.name, str(error).removeprefix(f"{source.name} "))
            else:
                found = True
                yield document
                continue
        skipped.append(member)
        on_skip(member)
    if not found:
        raise UnreadableSource(_nothing_in(folder, skipped))


def _members(folder: Path) -> Iterator[Path | Skipped]:
    """The files below `folder`, sorted folder by folder, and what is passed over without a look inside."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield Skipped(folder.as_posix(), f"cannot be listed ({error.strerror})")
        return
    for entry in entries:
        if entry.name.startswith("."):
            yield Skipped(entry.as_posix(), "is hidden")
        elif os.path.isdir(entry) and entry.is_symlink():  # os.path: a folder that is closed to us is False, no error
            yield Skipped(entry.as_posix(), "is a link to a folder")  # it may lead back here
        elif os.path.isdir(entry):
            yield from _members(entry)
        else:
            yield entry


def _nothing_in(folder: Path, skipped: Sequence[Skipped]) -> str:
    """The sentence for a folder that gave no document."""
    if not skipped:
        return f"folder {folder} holds no files: name a folder with documents ({', '.join(SUFFIXES)} or other text)"
    shown = "; ".join(f"{one.source} {one.reason}" for one in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"folder {folder} holds no readable file, skipped {len(skipped)}: {shown}{more}"


def _stdin_document(encoding: str | None) -> Document:
    """Standard input, kept in a temporary file as long as the document lives, so that it can be read again."""
    handle, name = tempfile.mkstemp(prefix="memspan-stdin-")
    source = Source(Path(name), f"stdin-{datetime.now(UTC):%Y%m%dT%H%M%SZ}", encoding)
    weakref.finalize(source, Path(name).unlink, missing_ok=True)  # also runs when Python ends
    with open(handle, "wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        size = copy.tell()
    if size == 0:
        raise source.refused("is empty: pipe some text in, or name a file instead of -")
    pieces = partial(_pieces, source, read_text)
    any(piece.strip() for piece in pieces())
    return Document(source.name, pieces, size=None)


def _pieces(source: Source, reader: Reader) -> Iterator[str]:
    """The text of `source` in pieces. Raises UnreadableSource at the end if there was nothing but white space."""
    blank = True
    for piece in in_pieces(_cleaned(reader(source))):
        blank = blank and not piece.strip()
        yield piece
    if blank:
        raise source.refused("holds no text, at most white space: there is nothing to read")


_STRAY = re.compile("[\ud800-\udfff]")


def _cleaned(portions: Iterable[str]) -> Iterator[str]:
    """Mend what parsers let through: "\\r\\n", NUL, and lone surrogates, which no tokenizer can take."""
    for portion in portions:
        yield _STRAY.sub("\ufffd", portion.replace("\r\n", "\n").replace("\0", ""))


def _open(source: Source) -> BinaryIO:
    """Open the file of `source` for reading bytes."""
    try:
        return open(source.path, "rb")
    except PermissionError:
        raise source.refused(_NO_PERMISSION) from None
    except OSError as error:
        raise source.refused(f"cannot be opened ({error.strerror}): check the path and the disk") from None


# --- plain text -------------------------------------------------------------------------------------------------------


def read_text(source: Source) -> Iterator[str]:
    """Text as it stands; line ends become "\\n" and a byte order mark goes.

    Raises UnreadableSource for binary data, a wrong encoding, and a line of more than LONGEST_LINE characters.
    """
    return _decoded(source, cure="break its lines first, for instance with `fold -s`")


def _decoded(source: Source, cure: str) -> Iterator[str]:
    """Decode a file block by block. `cure` tells what helps against a line that is too long."""
    with _open(source) as file:
        block = file.read(_BLOCK)
        encoding = source.encoding or _marked_encoding(block) or "utf-8"
        _check_is_text(source, block, encoding)
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        place = _Place()
        sample = block  # the last bytes that there were
        while True:
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                raise _wrong_encoding(source, encoding, sample, place.line + _lines_before(error)) from None
            if "\0" in text:
                raise source.refused(f"holds a NUL character near line {place.line}, so it is binary: {_BINARY_CURE}")
            if place.longest_with(text) > LONGEST_LINE:
                raise source.refused(f"has more than {LONGEST_LINE:,} characters in line {place.line}: {cure}")
            if text:
                yield text.removeprefix("\ufeff") if place == _Place() else text
            if not block:
                return
            place = place.after(text)
            sample, block = block, file.read(_BLOCK)


@dataclass(frozen=True)
class _Place:
    """A place in a text: line number, and how many characters of that line stand before it."""

    line: int = 1
    column: int = 0

    def after(self, text: str) -> "_Place":
        """The place behind `text`."""
        newline = text.rfind("\n")
        if newline < 0:
            return _Place(self.line, self.column + len(text))
        return _Place(self.line + text.count("\n"), len(text) - newline - 1)

    def longest_with(self, text: str) -> int:
        """How long the line begun here is at least, given the `text` that follows."""
        newline = text.find("\n")
        return self.column + (len(text) if newline < 0 else newline)


_BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, whose mark begins the same way
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OFFICE_CONTAINER = b"\xd0\xcf\x11\xe0"
_SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip archive (unpack it, or give a .docx or .epub its proper suffix)",
    b"%PDF-": "a PDF (give it the suffix .pdf)",
    b"{\\rtf": "a Rich Text file (save it as .docx or .txt)",
    _OFFICE_CONTAINER: "an old or encrypted Office document (save it as .docx without a password)",
    b"\x1f\x8b": "a gzip archive (unpack it)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive (unpack it)",
    b"\x7fELF": "a program",
    b"SQLite format 3\0": "a database",
}
_BINARY_CURE = "give a text document, or convert it to text first"


def _marked_encoding(block: bytes) -> str | None:
    """The encoding that a byte order mark at the start tells."""
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if block.startswith(mark)), None)


def _check_is_text(source: Source, block: bytes, encoding: str) -> None:
    """Raise UnreadableSource if the first bytes of a file show that it is no text."""
    for signature, meaning in _SIGNATURES.items():
        if block.startswith(signature):
            raise source.refused(f"is {meaning}, not a text: {_BINARY_CURE}")
    if b"\0" in block and not encoding.lower().startswith(("utf-16", "utf_16", "utf16", "utf-32", "utf_32", "utf32")):
        raise source.refused(f"is binary (it holds NUL bytes): {_BINARY_CURE}")


def _lines_before(error: UnicodeError) -> int:
    """How many lines end before the bytes that could not be decoded."""
    return error.object[: error.start].count(b"\n") if isinstance(error, UnicodeDecodeError) else 0


def _wrong_encoding(source: Source, encoding: str, sample: bytes, line: int) -> UnreadableSource:
    """The error for bytes around `line` that `encoding` cannot decode, with a guess at what they are."""
    from charset_normalizer import from_bytes

    where = f"is not valid {encoding.removesuffix('-sig').upper()} in line {line}"
    if _is_mostly_utf8(sample) and encoding.startswith("utf-8"):
        return source.refused(f"{where}, where bytes are damaged: mend it, e.g. with `iconv -c -f utf-8 -t utf-8`")
    if _is_mostly_utf8(sample):
        return source.refused(f"{where}; it looks like UTF-8: leave out `--encoding`")
    whole_lines = sample[
        sample.find(b"\n") + 1 : sample.rfind(b"\n") + 1
    ]  # half a character at an end spoils the guess
    matches = from_bytes(sample if whole_lines.isascii() else whole_lines)
    possible = [name for match in matches for name in (match.encoding, *match.could_be_from_charset)]
    if not possible:
        return source.refused(f"{where} nor in any known encoding; it may be binary or damaged: {_BINARY_CURE}")
    guess = possible[0]
    western = ", or cp1252 if it is Western European" if guess != "cp1252" and "cp1252" in possible else ""
    return source.refused(f"{where}; it looks like {guess}: add `--encoding {guess}`{western}")


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether there are ten sound characters beyond ASCII for each one that is broken."""
    text = sample.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    sound = sum(character > "\x7f" for character in text) - broken
    return sound > 10 * broken


# --- chats ------------------------------------------------------------------------------------------------------------


def read_jsonl(source: Source) -> Iterator[str]:
    """Chats with one JSON object per line, written out as "User: ...", "Assistant: ..." with blank lines between.

    A line is a message {"role", "content"}, a conversation {"messages": [...]}, or {"text": ...}. Raises
    UnreadableSource with the number of a line that is none of them.
    """
    cure = "write the conversation as shorter JSON objects, one message per line"
    for number, line in enumerate(_lines(_decoded(source, cure)), start=1):
        if not line.strip():
            continue
        try:
            yield _chat_text(json.loads(line))
        except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
            advice = "mend the line, or name the file .txt to read it as it stands"
            raise source.refused(f"has a bad line {number} ({error}): {advice}") from None


def _lines(portions: Iterable[str]) -> Iterator[str]:
    """A stream of text as lines, without their line ends."""
    begun: list[str] = []  # portions of a line whose end was not read yet
    for portion in portions:
        first, *rest = portion.split("\n")
        begun.append(first)
        if rest:
            yield "".join(begun)
            yield from rest[:-1]
            begun = [rest[-1]]
    yield "".join(begun)


def _chat_text(entry: Any) -> str:
    """What one line of a chat file says. Raises ValueError if it is none of the known forms."""
    match entry:
        case {"messages": [*messages]}:
            return "".join(map(_message_text, messages))
        case {"role": _, "content": _}:
            return _message_text(entry)
        case {"text": str(text)}:
            return f"{text}\n\n"
    raise ValueError('neither {"role", "content"} nor {"messages"} nor {"text"}')


def _message_text(message: Any) -> str:
    """One message as "Role: content" and a blank line; nothing for a message without text (a tool call)."""
    match message:
        case {"role": str(role), "content": str(content)}:
            pass
        case {"role": str(role), "content": [*parts]}:
            content = "\n".join(text for part in parts for text in _texts(part))
        case {"role": str(role), "content": None}:
            content = ""
        case _:
            raise ValueError('a message needs a "role" and a "content" of text')
    return f"{role.capitalize()}: {content}\n\n" if content.strip() else ""


def _texts(part: Any) -> list[str]:
    """The text in one part of a message; none for a picture."""
    match part:
        case {"text": str(text)}:
            return [text]
    return []


# --- documents that a library takes apart -----------------------------------------------------------------------------


@contextmanager
def _parsing(source: Source, format_name: str) -> Iterator[None]:
    """Turn whatever a parser raises into one clear error, and keep its warnings and log lines from the user."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MemspanError, MemoryError):
        raise
    except Exception as error:  # given damaged files, parsers raise nearly every kind
        cause = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
        raise source.refused(
            f"is damaged or no {format_name} at all ({cause}): open it in its own program and save it again, or as .txt"
        ) from error
    finally:
        logger.setLevel(level)


def read_pdf(source: Source) -> Iterator[str]:
    """The text layer of a PDF, page by page, with a blank line between pages.

    Raises UnreadableSource if it is damaged, encrypted, or has pictures of pages only.
    """
    with _open(source) as file:
        with _parsing(source, "PDF"):
            from pypdf import PdfReader
            from pypdf.errors import DependencyError

            try:
                pdf = PdfReader(file)
                locked = pdf.is_encrypted and not pdf.decrypt("")  # many are locked with an empty password
            except DependencyError:  # for the newer ciphers
                locked = True
            if locked:
                raise source.refused("is encrypted: save a copy without password, e.g. `qpdf --decrypt in.pdf out.pdf`")
            count = len(pdf.pages)
        empty = True
        for number in range(count):
            with _parsing(source, "PDF"):
                text = pdf.pages[number].extract_text().strip()
            if text:
                yield text if empty else f"\n\n{text}"
                empty = False
    if empty:
        raise source.refused("has no text, only pictures of pages: run text recognition over it, e.g. `ocrmypdf`")


def read_docx(source: Source) -> Iterator[str]:
    """Paragraphs and tables of a Word document in their order; a table row is a line with " | " between cells."""
    with _open(source) as file, _parsing(source, "docx"):
        if file.read(len(_OFFICE_CONTAINER)) == _OFFICE_CONTAINER:
            raise source.refused(f"is {_SIGNATURES[_OFFICE_CONTAINER]}")
        from docx import Document as open_docx

        with zipfile.ZipFile(file) as archive:
            _check_unpacked_size(source, archive.infolist())
        docx = open_docx(file)
        blocks = [_docx_block(block) for block in docx.iter_inner_content()]
    yield "\n\n".join(block for block in blocks if block)


def _docx_block(block: Any) -> str:
    """The text of a paragraph or table of python-docx."""
    from docx.table import Table

    if isinstance(block, Table):
        return "\n".join(" | ".join(_docx_row(row)) for row in block.rows)
    return str(block.text).strip("\n")


def _docx_row(row: Any) -> Iterator[str]:
    """The texts of the cells of a table row; a cell that spans columns comes once."""
    before = None
    for cell in row.cells:
        if cell._tc is not before:
            inner = (_docx_block(block) for block in cell.iter_inner_content())
            yield " ".join(text.replace("\n", " ") for text in inner if text)
        before = cell._tc


def read_epub(source: Source) -> Iterator[str]:
    """The chapters of an e-book in reading order, without its table of contents, a blank line between chapters.

    Raises UnreadableSource if it is damaged or copy-protected.
    """
    with _open(source) as file:
        with _parsing(source, "epub"):
            book = zipfile.ZipFile(file)
            chapters = _chapters(source, book)
            protected = _protected(source, book)
        empty = True
        for chapter in chapters:
            if chapter in protected:
                raise source.refused("is copy-protected (DRM): only a copy without protection can be read")
            with _parsing(source, "epub"):
                data = _unpacked(source, book, chapter)
                text = html_text(_html_markup(Source(source.path, source.name), data))  # chapters declare encodings
            if text:
                yield text if empty else f"\n\n{text}"
                empty = False


def _chapters(source: Source, book: zipfile.ZipFile) -> list[str]:
    """The members of an e-book that hold its chapters, in the order of its spine.

    META-INF/container.xml names the package file; its manifest gives every file an id, and its spine lists the ids.
    """
    container = _xml(source, book, "META-INF/container.xml")
    package_name = next(container.iter("{*}rootfile")).get("full-path")
    package = _xml(source, book, package_name)
    items = {item.get("id"): item for item in package.iter("{*}item")}
    spine = [items.get(entry.get("idref")) for entry in package.iter("{*}itemref")]
    return [
        posixpath.normpath(posixpath.join(posixpath.dirname(package_name), unquote(item.get("href"))))
        for item in spine
        if item is not None and _is_chapter(item)
    ]


def _is_chapter(item: Any) -> bool:
    """Whether an entry of the manifest is a page of text and not the table of contents."""
    media_type = item.get("media-type", "html")
    is_page = "html" in media_type or "oeb1" in media_type  # what pages were called before EPUB 2
    return is_page and "nav" not in item.get("properties", "").split()


def _protected(source: Source, book: zipfile.ZipFile) -> set[str]:
    """The members of an e-book that are encrypted; often these are only its fonts."""
    listing = "META-INF/encryption.xml"
    if listing not in book.namelist():
        return set()
    return {unquote(entry.get("URI", "")) for entry in _xml(source, book, listing).iter("{*}CipherReference")}


def _xml(source: Source, book: zipfile.ZipFile, member: str) -> Any:
    """The root of an XML file within an archive. Entities stay unexpanded and nothing is fetched."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return etree.fromstring(_unpacked(source, book, member), parser)


def _unpacked(source: Source, archive: zipfile.ZipFile, member: str) -> bytes:
    """One member of an archive; zipfile never gives more than the size that was checked."""
    _check_unpacked_size(source, [archive.getinfo(member)])
    return archive.read(member)


def _check_unpacked_size(source: Source, members: Sequence[zipfile.ZipInfo]) -> None:
    """Raise UnreadableSource if a few packed bytes would fill the memory of the machine."""
    largest = max(members, key=lambda member: member.file_size)
    if largest.file_size > LARGEST_MEMBER or sum(member.file_size for member in members) > LARGEST_ARCHIVE:
        raise source.refused(
            f"unpacks to more than is sound for a text ({largest.filename} alone to {largest.file_size:,} bytes; up to "
            f"{LARGEST_MEMBER:,} are read): save its text as .txt"
        )


def read_html(source: Source) -> Iterator[str]:
    """The visible text of a web page, its title first, block elements as paragraphs."""
    with _open(source) as file:
        data = file.read()
    _check_is_text(source, data[:_BLOCK], source.encoding or _marked_encoding(data) or "utf-8")
    with _parsing(source, "HTML"):
        text = html_text(_html_markup(source, data))
    yield text


_AS_BROWSERS_READ = {  # what pages declare -> the larger encoding that they are written in
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "iso-8859-1": "cp1252",
}


def _html_markup(source: Source, data: bytes) -> str:
    """Decode a web page: as asked, else by its mark, as UTF-8, or as it declares itself."""
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    guesses = (_marked_encoding(data) or "utf-8", _AS_BROWSERS_READ.get(declared.lower(), declared))
    line, sample = 1, data[:_BLOCK]
    for encoding in guesses if source.encoding is None else (source.encoding,):
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = 1 + _lines_before(error)
            sample = data[max(0, error.start - _BLOCK) : error.start + _BLOCK]
        except LookupError:
            continue  # pages declare what they like
    raise _wrong_encoding(source, source.encoding or "utf-8", sample, line)


_DROPPED = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "svg", "math", "canvas", "audio", "video"}
    | {"select", "textarea"}
)
_PARAGRAPHS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl"}
    | {"dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"}
    | {"html", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "title", "ul"}
)
_GAPS = dict.fromkeys(_PARAGRAPHS, "\n\n") | {"br": "\n", "li": "\n", "tr": "\n", "td": " | ", "th": " | "}


def html_text(markup: str) -> str:
    """The visible text of `markup`, its title first: blank lines between paragraphs, a line per list item or row."""
    from bs4 import BeautifulSoup
    from bs4.element import CData, NavigableString, Tag

    soup = BeautifulSoup(markup, "html.parser")
    flow = _Flow()
    todo: list[Any] = [soup]
    title = soup.title
    if title is not None and title.find_parent("svg") is None:
        todo.append(title.extract())
    while todo:  # a stack instead of recursion: pages may nest deeper than Python does
        node = todo.pop()
        if type(node) is str:  # the gap after an element
            flow.gap(node)
        elif type(node) in (NavigableString, CData):
            flow.words(node)
        elif isinstance(node, Tag) and node.name not in _DROPPED and not _is_hidden(node):
            gap = _GAPS.get(node.name, "")
            flow.gap(gap)
            todo.append(gap)
            if node.name == "pre":
                flow.lines(node.get_text())
            else:
                todo.extend(reversed(node.contents))
    return flow.result()


def _is_hidden(tag: Any) -> bool:
    """Whether an element says of itself that it is not shown."""
    return tag.has_attr("hidden") or "display:none" in str(tag.get("style", "")).replace(" ", "").lower()


class _Flow:
    """Text laid out from words and the gaps between them; of several gaps in a row the widest counts."""

    _WIDTHS = ("", " ", " | ", "\n", "\n\n")

    def __init__(self) -> None:
        self._out: list[str] = []
        self._gap = ""

    def gap(self, gap: str) -> None:
        """At least `gap` stands between the text so far and the text to come."""
        self._gap = max(self._gap, gap, key=self._WIDTHS.index)

    def words(self, text: str) -> None:
        """Add running text: its white space is a single space each."""
        if text[:1].isspace():
            self.gap(" ")
        words = " ".join(text.split())
        if words:
            self.lines(words)
            self.gap(" " if text[-1].isspace() else "")

    def lines(self, text: str) -> None:
        """Add text as it stands."""
        self._out += [self._gap if self._out else "", text.strip("\n")]
        self._gap = ""

    def result(self) -> str:
        """Everything so far."""
        return "".join(self._out)


READERS: Mapping[str, Reader] = {
    ".txt": read_text,
    ".md": read_text,
    ".markdown": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".epub": read_epub,
    ".jsonl": read_jsonl,
}
"""Which function reads a file, by its suffix in lower case; any other suffix is tried as text."""

SUFFIXES = tuple(READERS)
