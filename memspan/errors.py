"""The errors a user can meet: one clear sentence with the cause and the way out.

The command line prints the sentence and leaves with `exit_code`: 2 when the request was wrong, 1 when it failed.
"""

from collections.abc import Iterable
from numbers import Integral
from typing import Any


class MemspanError(Exception):
    """Something failed although the request was right (a full disk, a damaged file)."""

    exit_code = 1


class MemspanWarning(UserWarning):
    """What a user should know, although the request can be carried out: one sentence. The command line prints it."""


class UsageError(MemspanError):
    """The request itself cannot be carried out as it stands (a missing file, an unknown name, a wrong value)."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that neither memspan nor a plugin has registered.

    Attributes:
        noun: what the name is one of, such as "mechanism".
        name: the name.
    """

    def __init__(self, noun: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no {noun} '{name}'. Known: {', '.join(known)}.")
        self.noun, self.name = noun, name


class UnreadableSource(UsageError):
    """A document that cannot be read as text: empty, binary, of another encoding, encrypted."""


class ChangedSource(UsageError):
    """A text that is read under the name of a source, but is not the text that was read before under that name."""


class NoMatch(UsageError):
    """No passage, or no source, of a memory meets the conditions. The sentence says which condition excludes them all."""


class UnknownMemory(UsageError):
    """A name under which an owner has no memory in a library. It does not say whether another owner has one."""


class ForeignMemory(UsageError):
    """A memory made with another model, tokenizer, dtype, set of heads or format version."""


class DamagedMemory(MemspanError):
    """A memory whose files do not match their checksums. Nothing from it is used."""


class SystemRefused(MemspanError):
    """The system refused to read or write a memory: a full disk, missing rights, a bad sector."""


class DamagedFolder(MemspanError):
    """A checkpoint or a converted model whose files do not match their checksums. Nothing from it is used."""


class MemoryLocked(MemspanError):
    """Another process is writing to the memory and did not finish in time."""


class WorkerLost(MemspanError):
    """A process that worked for this one is gone, and so are those that took its work over."""


class UnsupportedModel(UsageError):
    """A model whose attention cannot be given a memory through the public seams of transformers."""


class AnswererFailed(MemspanError):
    """What was to write an answer did not: a server that is not there, refuses, or breaks off."""


class Diverged(MemspanError):
    """Training whose loss is no longer a number. The sentence names the step and the last good checkpoint."""


def require_type(name: str, value: Any, expected: type | tuple[type, ...], noun: str) -> None:
    """Raises UsageError for an argument that is not of the expected type; `noun` says what it must be."""
    if not isinstance(value, expected):
        raise UsageError(f"`{name}` must be {noun}, got {type(value).__name__}.")


def require_whole(name: str, value: Any, least: int) -> None:
    """Raises UsageError for an argument that is no whole number, or below `least`."""
    if isinstance(value, bool):
        raise UsageError(f"`{name}` must be a whole number, got {value}.")
    require_type(name, value, Integral, "a whole number")
    if value < least:
        raise UsageError(f"`{name}` must be at least {least}, got {value}.")
