"""Stand-ins for `os` in memspan.memory.store.files: it counts calls, fails one of them, dies at one, or loses its power."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memspan.memory.store import files

CALLS = {"open", "write", "read", "fsync", "close", "fstat", "lstat", "listdir", "chmod"} | {
    "mkdir",
    "replace",
    "unlink",
    "link",
}


class Crash(BaseException):
    """The process is dead: nothing may catch this, and no later call does anything."""


class System:
    """`os`, with `before(number, name)` called ahead of the n-th call and `after(name, args, result)` behind it.

    The args of `after` are whole paths, also where the call took a name in an open folder.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._opened: dict[int, Path] = {}
        self.before: Callable[[int, str], None] = lambda number, name: None
        self.after: Callable[[str, tuple[Any, ...], Any], None] = lambda name, args, result: None

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "close" and stat.S_ISDIR(os.fstat(args[0]).st_mode):
                return real(
                    *args
                )  # nothing was written through it: closing a folder neither fails nor changes the disk
            self.calls.append(name)
            try:
                self.before(len(self.calls) - 1, name)
            except OSError:
                if name == "close":  # a failed close closes all the same
                    real(*args)
                raise
            result = real(*args, **kwargs)
            paths = self._whole_paths(args, kwargs)
            if name == "open":
                self._opened[result] = paths[0]
            self.after(name, paths, result)
            return result

        return call

    def _whole_paths(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The args of a call with whole paths for names in open folders."""
        folders = [kwargs.get("dir_fd", kwargs.get("src_dir_fd")), kwargs.get("dst_dir_fd")]
        paths = [
            Path(arg) if folder is None else self._opened[folder] / arg
            for arg, folder in zip(args, folders, strict=False)
            if isinstance(arg, str | Path)
        ]
        return (*paths, *args[len(paths) :])


@contextmanager
def system() -> Iterator[System]:
    """Put a stand-in under the memory's files."""
    fake = System()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", fake)
        yield fake


def names_of_calls(action: Callable[[], object]) -> list[str]:
    """The names of the calls of the system that an action makes, in their order."""
    with system() as fake:
        action()
        return fake.calls


def calls_of(action: Callable[[], object]) -> int:
    """How many calls of the system an action makes."""
    return len(names_of_calls(action))


@contextmanager
def failing(number: int, error: int, until: int | None = None) -> Iterator[System]:
    """Fail calls `number` to `until` with this errno; `None` for `number` alone."""
    last = number if until is None else until

    def before(current: int, name: str) -> None:
        if number <= current <= last:
            raise OSError(error, os.strerror(error))

    with system() as fake:
        fake.before = before
        yield fake


@contextmanager
def crashing(number: int) -> Iterator[System]:
    """Die ahead of call `number`; a write that is hit has written half of its bytes."""

    def before(current: int, name: str) -> None:
        if current >= number:
            raise Crash

    with system() as fake:
        fake.before = before
        yield fake


class Disk:
    """What a folder would hold after the power failed: only what was flushed.

    A file keeps the bytes it had at its last fsync, and is empty without one. A name appears, moves or vanishes at the
    next fsync of its folder or, with `eager`, at once: a file system may do either.
    """

    def __init__(self, root: Path, *, eager: bool) -> None:
        self._root, self._eager = root, eager
        self._contents: dict[int, bytes] = {}  # of each inode, as flushed
        self._names: dict[Path, dict[str, int | None]] = {}  # of each folder, as flushed; None for a folder in it
        self._opened: dict[int, Path] = {}
        self._held: list[int] = []  # descriptors that keep the system from using an inode number again
        self._sync()

    def after(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Note what a call of the system did."""
        if name == "open":
            self._opened[result] = args[0]
            self._held.append(os.dup(result))
        elif name == "fsync":
            path = self._opened[args[0]]
            if path.is_dir():
                self._flush_names(path)
            else:
                self._contents[os.fstat(args[0]).st_ino] = path.read_bytes()
        elif self._eager and name in {"mkdir", "replace", "link", "unlink"}:
            for folder in {path.parent for path in args if isinstance(path, Path)}:
                self._flush_names(folder)

    def survive(self, target: Path) -> None:
        """Lay out what survived in a new folder."""
        self._lay_out(self._root, target)

    def close(self) -> None:
        """Let the inode numbers go."""
        for descriptor in self._held:
            os.close(descriptor)

    def _sync(self) -> None:
        """Take everything that is there as flushed."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                self._held.append(os.open(Path(folder, name), os.O_RDONLY))
                self._contents[os.fstat(self._held[-1]).st_ino] = Path(folder, name).read_bytes()
            self._flush_names(Path(folder))

    def _flush_names(self, folder: Path) -> None:
        if folder.is_relative_to(self._root):
            self._names[folder] = {
                path.name: None if path.is_dir() else path.stat().st_ino for path in folder.iterdir()
            }

    def _lay_out(self, folder: Path, target: Path) -> None:
        target.mkdir()
        for name, inode in self._names.get(folder, {}).items():
            if inode is None:
                self._lay_out(folder / name, target / name)
            else:
                (target / name).write_bytes(self._contents.get(inode, b""))
