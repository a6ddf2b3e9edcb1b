"""Checks of arguments that users pass from Python: a value of another type is refused in a sentence, where it is passed."""

from os import PathLike, fspath
from typing import Any

from memspan.errors import UsageError
from memspan.memory import Contents, Fingerprint, Memory
from memspan.memory.union import united


def check_memory(memory: Any) -> Memory:
    """The memory. Raises UsageError for anything else, with the way to open one."""
    if not isinstance(memory, Memory):
        raise _no_memory(memory)
    return memory


def check_contents(memory: Any) -> Contents:
    """The memory, or a view of one; of several, one view of them all.

    Raises UsageError for anything else, with the way to open one; ForeignMemory for memories of different models.
    """
    if isinstance(memory, list | tuple):
        return united([check_contents(each) for each in memory])
    if not isinstance(memory, Contents):
        raise _no_memory(memory)
    return memory


def check_latents(memory: Memory, model: Fingerprint) -> None:
    """Raises UsageError for a memory without latents where the model was loaded to make some."""
    if model.latents is not None and memory.fingerprint.latents is None:
        raise UsageError(
            f"The memory at {memory.path} must have latents from its beginning on, got one that was made without: leave "
            "--latents (latents=...) out, or read the documents into a new memory."
        )


def _no_memory(value: Any) -> UsageError:
    shown = f"the path '{value}'" if isinstance(value, str | PathLike) else type(value).__name__
    return UsageError(
        f"`memory` must be a Memory, got {shown}: open one by memspan.load_memory(path), or make one by `read`."
    )


def path_argument(name: str, path: Any) -> str:
    """A path as a string. Raises UsageError for anything but a non-empty string or path."""
    if not isinstance(path, str | PathLike) or not isinstance(text := fspath(path), str) or not text or "\0" in text:
        raise UsageError(f"`{name}` must be a string or a path, got {path!r}.")
    return text
