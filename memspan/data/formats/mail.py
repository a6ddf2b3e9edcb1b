"""Mail: single messages (eml) and mailboxes (mbox), by the standard library."""

import re
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from itertools import count
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import BLOCK, check_is_text
from memspan.data.formats.html import visible_text
from memspan.data.formats.parsing import MAX_MEMBER, MAX_PAGE, check_at_most, parsing
from memspan.data.marks import Mark

MAX_HEADER = 1_000  # characters of a header field that are looked at; the parser of addresses takes quadratic time
MAX_HEADERS = 10_000  # header fields of a message and its parts
MAX_LINES = 2_000_000  # of a message
MAX_PARTS = 10_000  # of a message
MAX_COMPARISONS = 100_000_000  # of lines with boundaries, some 30 s; a letter of 10,000 lines has some 10 boundaries
_BOUNDARY = re.compile(rb"boundary", re.I)
_KNOWN = ("From", "To", "Subject", "Date", "Received", "Message-ID")


def read_eml(source: FileSource) -> Iterator[str | Mark]:
    """A message: its subject, sender, receivers and date, then its text; the names of what is attached.

    The text is the plain one, else the visible text of the web page. Marks: heading, from, to, date, happened. Raises
    UnreadableSource for what is no message, or too large.
    """
    with source.open() as file:
        data = file.read(MAX_MEMBER + 1)
    check_is_text(source, data[:BLOCK], "utf-8")
    yield from _message_portions(source, data, is_required=True)


def read_mbox(source: FileSource) -> Iterator[str | Mark]:
    """The messages of a mailbox as `read_eml` reads them, in order, one held in memory at a time."""
    empty = True
    for data in _messages(source):
        if not empty:
            yield "\n\n"
        yield from _message_portions(source, data, is_required=empty)
        empty = False


def _messages(source: FileSource) -> Iterator[bytes]:
    """The messages of a mailbox: each begins with a line "From ..." behind an empty line."""
    with source.open() as file:
        lines: list[bytes] = []
        size, blank = 0, True
        while line := file.readline(BLOCK):
            if blank and line.startswith(b"From "):
                if lines:
                    yield b"".join(lines)
                lines, size, blank = [], 0, False
                continue
            if not lines and size == 0:
                check_is_text(source, line, "utf-8")
            blank = not line.strip()
            size += len(line)
            check_at_most(source, size, MAX_MEMBER, "bytes in a message")
            check_at_most(source, len(lines), MAX_LINES, "lines in a message")
            lines.append(line[1:] if line.startswith(b">From ") else line)
        if lines:
            yield b"".join(lines)


def _message_portions(source: FileSource, data: bytes, is_required: bool) -> Iterator[str | Mark]:
    """The text and the marks of a message."""
    check_at_most(source, len(data), MAX_MEMBER, "bytes in a message")
    check_at_most(source, data.count(b"\n"), MAX_LINES, "lines in a message")
    check_at_most(source, data.count(b"\n--"), MAX_PARTS, "parts in a message")
    boundaries = sum(1 for _ in _BOUNDARY.finditer(data))
    check_at_most(source, boundaries * data.count(b"\n"), MAX_COMPARISONS, "lines in parts of a message")
    with parsing(source, "message"):
        message = BytesParser(EmailMessage, policy=_policy(source)).parsebytes(data)
        if is_required and not any(name in message for name in _KNOWN):
            raise source.refused(
                "has no header of a message (From, To, Subject, Date): name it .txt to read it as text"
            )
        fields = {name: _field(message, name) for name in ("Subject", "From", "To", "Cc", "Date")}
        body = _body(source, message)
        attached = _attached(message)
        happened = _happened(message)
    yield Mark("heading", fields["Subject"] or None)
    yield Mark("from", fields["From"] or None)
    yield Mark("to", fields["To"] or None)
    yield Mark("date", fields["Date"] or None)
    yield Mark("happened", happened)
    subject, *others = fields.items()
    head = "\n".join(f"{name}: {value}" for name, value in others if value)
    blocks = (subject[1], head, body, *attached)
    yield "\n\n".join(block for block in blocks if block) + "\n"


def _policy(source: FileSource) -> Any:
    """The modern policy of the standard library, with bounds for header fields."""
    numbers = count(1)

    class Bounded(EmailPolicy):
        def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
            check_at_most(source, next(numbers), MAX_HEADERS, "header fields in a message")
            name, value = super().header_source_parse([line[:MAX_HEADER] for line in sourcelines[:50]])
            return name, value[:MAX_HEADER]

    return Bounded()


def _field(message: EmailMessage, name: str) -> str:
    """A header field as text; "" if it is missing, or damaged beyond what the parser takes."""
    try:
        return " ".join(str(message.get(name, "")).split())
    except Exception:  # the parser of header fields raises nearly every kind
        return ""


def _happened(message: EmailMessage) -> float | None:
    """The date of a message in unix seconds; None if it has none that is valid."""
    try:
        moment = message["Date"].datetime
        return None if moment is None else float(moment.timestamp())
    except Exception:  # as above, and dates beyond the calendar
        return None


def _body(source: FileSource, message: EmailMessage) -> str:
    """The plain text of a message, else the visible text of its web page; "" if it has neither."""
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    text = _content(part)
    if part.get_content_type() == "text/html":
        check_at_most(source, len(text), MAX_PAGE, "characters of markup")
        return str(visible_text(source, text, xml=False))
    return text.replace("\r\n", "\n").strip("\n")


def _content(part: Any) -> str:
    """The text of a part; in an encoding that does not exist, as UTF-8 as far as it goes."""
    try:
        return str(part.get_content(errors="replace"))
    except (LookupError, ValueError):
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def _attached(message: EmailMessage) -> Iterator[str]:
    """A line for each part that is attached; the text of one without a name, which is written below the body."""
    if not message.is_multipart():
        return
    for part in message.iter_attachments():
        name = part.get_filename()
        if name is None and part.get_content_type() == "text/plain":
            yield _content(part).strip("\n")
        else:
            yield f"[Attached: {' '.join(str(name or part.get_content_type()).split())[:200]}]"


EML = Format("eml", (".eml",), read_eml, packed=True)
MBOX = Format("mbox", (".mbox",), read_mbox, packed=True)
