"""Bytes -> text: encodings, byte order marks, and the signatures of binary data."""

import codecs
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from memspan.data.formats.base import FileSource
from memspan.errors import UnreadableSource

MAX_LINE = 16 * 1024 * 1024  # characters; a longer line is hardly prose, and a bound keeps memory bounded
BLOCK = 64 * 1024  # bytes read at a time

BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, whose mark begins the same way
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OF_PYTHON = frozenset(  # codecs for names and programs, some of which take quadratic time
    {"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"}
)
OFFICE_CONTAINER = b"\xd0\xcf\x11\xe0"
SIGNATURES = {  # the first bytes of a file -> what it is
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip archive (unpack it, or give a .docx or .epub its proper suffix)",
    b"%PDF-": "a PDF (give it the suffix .pdf)",
    b"{\\rtf": "a Rich Text file (save it as .docx or .txt)",
    OFFICE_CONTAINER: "an old or encrypted Office document (save it as .docx without a password)",
    b"\x1f\x8b": "a gzip archive (unpack it)",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive (unpack it)",
    b"\x7fELF": "a program",
    b"SQLite format 3\0": "a database",
}
RECORDINGS = (  # how a file begins that holds sound, a film or both
    re.compile(rb"ID3[\x02-\x04]"),
    re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]"),  # a frame of MP3
    re.compile(rb"\xff[\xf0\xf1\xf8\xf9][\x40-\x7f]"),  # a frame of AAC
    re.compile(rb"RIFF.{4}(?:WAVE|AVI )", re.DOTALL),
    re.compile(rb"(?:fLaC|OggS|FORM.{4}AIF|\x1aE\xdf\xa3|0&\xb2u|caff|#!AMR)", re.DOTALL),
    re.compile(rb".{4}ftyp(?!avi[fs]|hei[cx]|mif1)", re.DOTALL),  # MP4 and M4A, not the pictures that begin alike
)
_TRANSCRIPT = (
    "is a recording, which is not listened to: write a transcript, for instance with `pip install openai-whisper` and "
    "`whisper FILE --output_format vtt`, and read that (srt, vtt or txt)"
)
_BINARY_CURE = "give a text document, or convert it to text first"


def decoded(source: FileSource, cure: str, longest: int | None = None) -> Iterator[str]:
    """The text of a file, decoded block by block; line ends become "\\n" and a byte order mark is dropped.

    `cure` completes the error for a line that is too long.

    Raises UnreadableSource for binary data, a wrong encoding, and a line of more than `longest` characters (MAX_LINE).
    """
    longest = MAX_LINE if longest is None else longest
    with source.open() as file:
        blocks = _blocks(file)
        block = next(blocks, b"")
        encoding = source.encoding or marked_encoding(block) or "utf-8"
        check_is_text(source, block, encoding)
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        position = _Position()
        sample = block  # the last bytes that were not the end of the file
        while True:
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                raise wrong_encoding(source, encoding, sample, position.line + lines_before(error)) from None
            if "\0" in text:
                raise source.refused(
                    f"holds a NUL character near line {position.line}, so it is binary: {_BINARY_CURE}"
                )
            if position.longest_with(text) > longest:
                raise source.refused(f"has more than {longest:,} characters in line {position.line}: {cure}")
            if text:
                yield text.removeprefix("\ufeff") if position == _Position() else text
            if not block:
                return
            position = position.after(text)
            sample, block = block, next(blocks, b"")


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of an open file as far as it reaches now; what another process adds meanwhile is not waited for."""
    left = os.fstat(file.fileno()).st_size
    while left > 0 and (block := file.read(min(BLOCK, left))):
        yield block
        left -= len(block)


@dataclass(frozen=True)
class _Position:
    """A position in a text: the line number, and the number of characters of that line before it."""

    line: int = 1
    column: int = 0

    def after(self, text: str) -> "_Position":
        """The position at the end of `text`, which starts here."""
        newline = text.rfind("\n")
        if newline < 0:
            return _Position(self.line, self.column + len(text))
        return _Position(self.line + text.count("\n"), len(text) - newline - 1)

    def longest_with(self, text: str) -> int:
        """The least length of the current line, which goes on with `text`."""
        newline = text.find("\n")
        return self.column + (len(text) if newline < 0 else newline)


def is_encoding(name: str) -> bool:
    """Whether Python can decode texts with the encoding `name`."""
    try:
        codec = codecs.lookup(name).name.replace("_", "-")
        b"text".decode(name)  # raises LookupError for codecs that are not about text
    except UnicodeError:
        return codec not in _OF_PYTHON  # four bytes need not be valid in it
    except (LookupError, ValueError):
        return False
    return codec not in _OF_PYTHON


def marked_encoding(block: bytes) -> str | None:
    """The encoding of the byte order mark at the start of a file, if there is one."""
    return next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if block.startswith(mark)), None)


def check_is_text(source: FileSource, block: bytes, encoding: str) -> None:
    """Raise UnreadableSource if the first bytes of a file show that it is no text."""
    for signature, meaning in SIGNATURES.items():
        if block.startswith(signature):
            raise source.refused(f"is {meaning}, not a text: {_BINARY_CURE}")
    if any(beginning.match(block) for beginning in RECORDINGS):
        raise source.refused(_TRANSCRIPT)
    if b"\0" in block and not encoding.lower().startswith(("utf-16", "utf_16", "utf16", "utf-32", "utf_32", "utf32")):
        raise source.refused(f"is binary (it holds NUL bytes): {_BINARY_CURE}")


def lines_before(error: UnicodeError) -> int:
    """The number of lines that end before the bytes that failed to decode."""
    return error.object[: error.start].count(b"\n") if isinstance(error, UnicodeDecodeError) else 0


def wrong_encoding(source: FileSource, encoding: str, sample: bytes, line: int) -> UnreadableSource:
    """The error for bytes around `line` that are not valid in `encoding`, with a guess at their encoding."""
    from charset_normalizer import from_bytes

    problem = f"is not valid {encoding.removesuffix('-sig').upper()} in line {line}"
    if _is_mostly_utf8(sample) and encoding.startswith("utf-8"):
        return source.refused(f"{problem}, where bytes are damaged: mend it, e.g. with `iconv -c -f utf-8 -t utf-8`")
    if _is_mostly_utf8(sample):
        return source.refused(f"{problem}; it looks like UTF-8: leave out `--encoding`")
    # Whole lines only, because half a character at an end spoils the guess.
    whole_lines = sample[sample.find(b"\n") + 1 : sample.rfind(b"\n") + 1]
    matches = from_bytes(sample if whole_lines.isascii() else whole_lines)
    possible = [name for match in matches for name in (match.encoding, *match.could_be_from_charset)]
    if not possible:
        return source.refused(f"{problem} nor in any other encoding tried; it may be binary or damaged: {_BINARY_CURE}")
    guess = possible[0]
    western = ", or cp1252 if it is Western European" if guess != "cp1252" and "cp1252" in possible else ""
    return source.refused(f"{problem}; it looks like {guess}: add `--encoding {guess}`{western}")


def _is_mostly_utf8(sample: bytes) -> bool:
    """Whether there are ten sound characters beyond ASCII for each broken one."""
    text = sample.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    sound = sum(character > "\x7f" for character in text) - broken
    return sound > 10 * broken


def lines_of(portions: Iterable[str], beginning: str = "") -> Iterator[str]:
    """A stream of text, whose first characters are `beginning`, as lines with their line ends."""
    parts: list[str] = []  # of a line whose end was not read yet
    for portion in chain([beginning], portions):
        *whole, last = portion.split("\n")
        for line in whole:
            yield f"{''.join(parts)}{line}\n"
            parts = []
        if last:
            parts.append(last)
    if parts:
        yield "".join(parts)
