"""A log of what was done with memories: lines of JSON that are only added, each with the hash of the line before.

A line that is changed, taken out or put in between breaks the chain at the next line. Lines that are cut off at the end leave no
trace in the log itself: whoever notes the hash of the last line elsewhere finds out, see `verify`.

By default a line has no text: names of sources and questions are keyed hashes (HMAC-SHA-256 with the key of this user, see
`memspan.memory.store.signature`), by which this user can look for a known name or question, and nobody can guess an unknown one.
What was forgotten is not readable in the log.
"""

import hashlib
import json
import os
import socket
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from memspan.errors import MemoryLocked, MemspanError, UsageError
from memspan.memory.store.signature import sign

HASHES, NAMES, TEXT = "hashes", "names", "text"
DETAILS: Final = (HASHES, NAMES, TEXT)
FIRST: Final = "0" * 64  # the hash before the first line
WAIT: Final = 10.0  # seconds that a writer waits for another
MODE: Final = 0o600
MOST_SOURCES: Final = 1000  # of a line
LONGEST_LINE: Final = 2**20  # bytes
DIGITS: Final = 32  # of a keyed hash


@dataclass
class Event:
    """Something that is done with memories; what is not known at its beginning is set while it goes on.

    Attributes:
        command: such as "ask".
        memories: paths of their folders.
        question: or message, or what was searched for; None without one.
        sources: names of those that were read, shown or forgotten.
        outcome: "done", or what became of it otherwise.
    """

    command: str
    memories: Sequence[str]
    question: str | None = None
    sources: list[str] = field(default_factory=list)
    outcome: str = "done"


@dataclass(frozen=True)
class Finding:
    """What is wrong with a line of a log, counted from 1."""

    line: int
    problem: str


@dataclass(frozen=True)
class Verified:
    """A log as it was found.

    Attributes:
        lines: the fields of each line, with "hash", the hash of the line itself; none for a line that is no JSON object.
        findings: where the chain is broken; none in a log as it was written.
        remarks: lines that are not whole, because a process died while it wrote them; the chain goes on behind them.
        head: the hash of the last line.
    """

    lines: list[dict[str, Any]]
    findings: list[Finding]
    remarks: list[Finding]
    head: str

    @property
    def hashes(self) -> set[str]:
        return {line["hash"] for line in self.lines}


class AuditLog:
    """A log in a file. It may be written by several processes."""

    def __init__(self, path: Path, detail: str = HASHES) -> None:
        """
        Args:
            detail: "hashes", "names" for the names of sources in full, or "text" for names and questions in full.

        Raises UsageError for another detail.
        """
        if detail not in DETAILS:
            raise UsageError(f"The detail of an audit log must be {', '.join(DETAILS)}, got {detail!r}.")
        self.path, self.detail = path, detail

    def check(self) -> None:
        """Make the file if it does not exist, and see that it can be written to. Raises UsageError or MemspanError."""
        with self._locked() as descriptor:
            _previous(descriptor, self.path)

    def append(self, event: Event, user: str) -> None:
        """Add a line; it is on disk when this returns. Raises UsageError, MemoryLocked or MemspanError."""
        names = event.sources[:MOST_SOURCES]
        values: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "user": user,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "command": event.command,
            "memories": [os.path.realpath(memory) for memory in event.memories],
            "outcome": event.outcome,
            "number_of_sources": len(event.sources),
            "sources": names if self.detail != HASHES else [keyed_hash(name) for name in names],
        }
        if event.question is not None:
            values["question" if self.detail == TEXT else "question_hash"] = (
                event.question if self.detail == TEXT else keyed_hash(event.question)
            )
        with self._locked() as descriptor:
            previous, is_whole = _previous(descriptor, self.path)
            line = json.dumps({**values, "previous": previous}, ensure_ascii=False).encode("utf-8", "surrogateescape")
            content = (b"" if is_whole else b"\n") + line + b"\n"
            try:
                while content:
                    content = content[os.write(descriptor, content) :]
                os.fsync(descriptor)
            except OSError as error:
                raise MemspanError(f"The audit log {self.path} cannot be written: {error.strerror}.") from error

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """A descriptor of the file, to add to, while no other process adds."""
        if not self.path.parent.is_dir():  # the lock would make it
            raise UsageError(f"The audit log {self.path} cannot be written: there is no folder {self.path.parent}.")
        try:
            with FileLock(f"{self.path}.lock", timeout=WAIT, mode=MODE):
                flags = (
                    os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
                )
                descriptor = os.open(self.path, flags, MODE)
                try:
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        raise UsageError(f"The audit log {self.path} must be a regular file.")
                    yield descriptor
                finally:
                    os.close(descriptor)
        except Timeout as error:
            raise MemoryLocked(
                f"Another process writes to the audit log {self.path} and did not finish within {WAIT:.0f} s."
            ) from error
        except OSError as error:
            raise UsageError(f"The audit log {self.path} cannot be written: {error.strerror or error}.") from error


def keyed_hash(text: str) -> str:
    """The keyed hash of a name or a question, of this user. Raises MemspanError where there is no key."""
    signature = sign(b"memspan audit\n" + text.encode("utf-8", "surrogateescape"))
    if signature is None:
        raise MemspanError(
            "The key for the hashes of an audit log cannot be kept: make the folder for the state of programs writable "
            "(~/.local/state on Linux)."
        )
    return signature[:DIGITS]


def verify(path: Path) -> Verified:
    """Read a log and check its chain. Raises UsageError for an absent file, and one that is no log."""
    lines, findings, remarks = list[dict[str, Any]](), list[Finding](), list[Finding]()
    previous = FIRST
    for number, raw in enumerate(_lines(path), 1):
        content = raw.rstrip(b"\n")
        fields = _fields(content)
        if fields is None:
            remarks.append(Finding(number, "it is not whole: a process ended while it was written, or it was changed"))
        elif fields["previous"] != previous:
            findings.append(
                Finding(number, "it does not follow the line before, which was changed, added or taken out")
            )
        previous = hashlib.sha256(content).hexdigest()
        lines.append({**(fields or {}), "hash": previous})
    if lines and len(remarks) == len(lines):
        raise UsageError(f"{path} is no audit log: it holds no entry.")
    return Verified(lines, findings, remarks, previous)


def _lines(path: Path) -> Iterable[bytes]:
    try:
        with path.open("rb") as file:
            while raw := file.readline(LONGEST_LINE + 1):
                yield raw
    except OSError as error:
        raise UsageError(f"The audit log {path} is not readable: {error.strerror}.") from error


def _fields(content: bytes) -> dict[str, Any] | None:
    """The fields of a line; None if it is none of a log."""
    try:
        fields = json.loads(content.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and isinstance(fields.get("previous"), str) else None


def _previous(descriptor: int, path: Path) -> tuple[str, bool]:
    """The hash of the last line, and whether the file ends with the end of a line. Raises UsageError for another file."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        return FIRST, True
    os.lseek(descriptor, max(0, size - LONGEST_LINE - 2), os.SEEK_SET)
    tail = b""
    while chunk := os.read(descriptor, LONGEST_LINE):
        tail += chunk
    is_whole = tail.endswith(b"\n")
    last = tail.removesuffix(b"\n").rpartition(b"\n")[2]
    is_torn = not is_whole and last.startswith(b'{"time": ')  # the first entry, whose process died
    if not is_torn and not _has_entry(tail):
        raise UsageError(f"{path} is no audit log: it holds no entry. Name another file.")
    return hashlib.sha256(last).hexdigest(), is_whole


def _has_entry(tail: bytes) -> bool:
    return any(_fields(line) is not None for line in tail.split(b"\n"))
