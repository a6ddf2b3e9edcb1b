"""What commands write into the audit log, if there is one."""

import getpass
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.assistant.retrieved import RetrievedPassage
    from memspan.memory.audit import AuditLog, Event

FILE = "MEMSPAN_AUDIT"  # the path of the log; the environment also reaches a background process
DETAIL = "MEMSPAN_AUDIT_DETAIL"


@contextmanager
def logging_to(path: Path | None) -> Iterator[None]:
    """Within, commands write to the log at this path; with None to that of the environment."""
    if path is None:
        yield
        return
    before = os.environ.get(FILE)
    os.environ[FILE] = os.path.abspath(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[FILE]
        else:
            os.environ[FILE] = before


@contextmanager
def audited(command: str, *memories: Path, question: str | None = None) -> "Iterator[Event]":
    """Within, a command does something with memories; at the end of it, however it ends, it is written into the log.

    Raises UsageError at once, before anything is done, for a log that cannot be written.
    """
    from memspan.memory.audit import Event

    event, log = Event(command, [str(memory) for memory in memories], question), open_log()
    if log is not None:
        log.check()
    try:
        yield event
    except typer.Exit:
        raise
    except BaseException as error:
        event.outcome = f"failed: {type(error).__name__}"
        raise
    finally:
        if log is not None:
            log.append(event, user())


def open_log() -> "AuditLog | None":
    """The log of the environment; None without one. Raises UsageError for an unknown detail."""
    path = os.environ.get(FILE)
    if not path:
        return None
    from memspan.memory.audit import DETAILS, HASHES, AuditLog

    detail = os.environ.get(DETAIL) or HASHES
    if detail not in DETAILS:
        raise UsageError(f"${DETAIL} must be one of {', '.join(DETAILS)}, got '{detail}'.")
    return AuditLog(Path(path), detail)


def user() -> str:
    """The name of the user of this system; "unknown" where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def sources_of(passages: "Iterable[RetrievedPassage]") -> list[str]:
    """The names of the sources of passages, each once."""
    return list(dict.fromkeys(passage.source for passage in passages))
