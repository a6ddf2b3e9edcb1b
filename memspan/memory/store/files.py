"""Durable files: all access of a memory to the disk.

A file is written under a temporary name, flushed, renamed into place, and its folder is flushed: after a crash or a
power cut there is the whole old file or the whole new one. A file is read only if it is a regular file of the
expected size and checksum, so that a pipe, a link or a foreign file can neither block nor deceive the reader.

Errors of the operating system are raised as `MemspanError`, with the path and the way out.
"""

import errno
import hashlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock, Timeout

from memspan.errors import DamagedMemory, MemoryLocked, MemspanError

Bytes: TypeAlias = bytes | memoryview | mmap.mmap

FILE_MODE, FOLDER_MODE = 0o600, 0o700
TEMPORARY = ".tmp"  # how the name of an unfinished file ends; it begins with a dot
MAPPED_FROM = 256 * 1024  # bytes; a mapping holds a file descriptor, so smaller files are read instead
CHUNK = 1024 * 1024  # bytes read and hashed at a time

# Absent on some systems, where they are not needed.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


def write(path: Path, chunks: Iterable[Bytes]) -> tuple[int, str]:
    """Write a file at `path`, replacing any other; when this returns, it survives a power cut.

    Returns:
        The bytes written, and their sha256 in hex.

    Raises:
        MemspanError: the system refused. Nothing is left behind; `path` is as it was, unless the last step, the flush
            of the folder, was the one that failed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    with explained("write", path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, FILE_MODE)
        try:
            written = _fill(descriptor, chunks)
            os.chmod(temporary, FILE_MODE)  # the umask may have taken bits away
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(path.parent)
    return written


def link(source: Path, path: Path) -> bool:
    """Give the file `source` a second name, durably; False where that is impossible, and the file must be copied."""
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError:  # no links on this file system, another disk, or `source` is gone: the copy tells them apart
        return False
    with explained("write", path):
        _flush_folder(path.parent)
    return True


def read(path: Path, limit: int) -> bytes:
    """Read a small file of at most `limit` bytes.

    Raises:
        FileNotFoundError: there is none.
        DamagedMemory: it is no regular file, or larger than `limit`.
        MemspanError: the system refused.
    """
    with _opened(path) as (descriptor, size):
        if size > limit:
            raise DamagedMemory(f"{path} must have at most {limit} bytes, got {size}. {WAY_OUT}")
        return b"".join(_chunks(descriptor, size))


def read_verified(path: Path, size: int, sha256: str) -> Bytes:
    """Read or map a file after checking its size in bytes and its checksum.

    Raises:
        FileNotFoundError: there is none.
        DamagedMemory: it is no regular file, or not the one that was written.
        MemspanError: the system refused.
    """
    with _opened(path) as (descriptor, actual):
        if actual != size:
            raise DamagedMemory(f"{path} must have {size} bytes, got {actual}. {WAY_OUT}")
        if size < MAPPED_FROM:
            content: Bytes = b"".join(_chunks(descriptor, size))
            digest = hashlib.sha256(content).hexdigest()
        else:
            # Read before it is mapped: a bad sector is then an error, where touching a mapping would kill the process.
            hasher = hashlib.sha256()
            for chunk in _chunks(descriptor, size):
                hasher.update(chunk)
            digest = hasher.hexdigest()
            content = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    if digest != sha256:
        raise DamagedMemory(f"{path} does not match its checksum. {WAY_OUT}")
    return content


def remove(path: Path) -> None:
    """Delete a file if it is there. Not durable before `flush_folder`."""
    with explained("delete", path), suppress(FileNotFoundError):
        os.unlink(path)


def flush_folder(path: Path) -> None:
    """Make the creations, renames and deletions in a folder durable."""
    with explained("write", path):
        _flush_folder(path)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, accessible to the owner only; an existing one is closed to others if possible."""
    with explained("create", path):
        if not path.parent.is_dir():
            make_folder(path.parent)
        try:
            os.mkdir(path, FOLDER_MODE)
        except FileExistsError:
            with suppress(PermissionError):  # a mount point may belong to another user; the files in it are private
                os.chmod(path, FOLDER_MODE)
        else:
            os.chmod(path, FOLDER_MODE)  # the umask may have taken bits away
            _flush_folder(path.parent)


def status(path: Path) -> os.stat_result | None:
    """The status of a path, without following a link; `None` if there is nothing."""
    with explained("read", path):
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None


def names(path: Path) -> list[str]:
    """The names in a folder, sorted; none if there is no such folder."""
    with explained("read", path):
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []


def sizes(path: Path) -> dict[Path, int]:
    """Everything in a folder that is no folder itself, sorted, with its bytes; nothing if there is no such folder."""
    entries = {path / name: status(path / name) for name in names(path)}
    return {
        file: entry.st_size for file, entry in entries.items() if entry is not None and not stat.S_ISDIR(entry.st_mode)
    }


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `write` has not finished."""
    return name.startswith(".") and name.endswith(TEMPORARY)


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock file `path`, waiting at most `seconds` for its holder.

    Raises:
        MemoryLocked: it was not free in time.
        MemspanError: the system refused.
    """
    lock = FileLock(path, mode=FILE_MODE)
    try:
        with explained("lock", path):
            lock.acquire(timeout=seconds, poll_interval=0.01)
    except Timeout:
        raise MemoryLocked(
            f"{path.parent} is being written by another process, which did not finish within {seconds:g} seconds. "
            "Try again when it has; the lock goes away with its process."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an error of the system into one sentence with the path and the way out."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise _explanation(action, path, error) from error


WAY_OUT = "Nothing from this memory was used; restore it from a copy, or read the documents again into a new one."

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}


def _explanation(action: str, path: Path, error: OSError) -> MemspanError:
    if error.errno in _NO_SPACE:
        way_out = "Free some space and try again"
    elif error.errno in _NO_RIGHT:
        way_out = "Make it accessible, or work on a copy elsewhere"
    else:
        way_out = "Check the disk and try again"
    state = "nothing was changed" if action == "read" else "what was there before is unchanged"
    return MemspanError(f"cannot {action} {path}: {error.strerror}. {way_out}; {state}.")


def _fill(descriptor: int, chunks: Iterable[Bytes]) -> tuple[int, str]:
    """Write the chunks to a new file, flush and close it; returns its size and sha256."""
    hasher, size = hashlib.sha256(), 0
    try:
        for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
            _write_all(descriptor, memoryview(chunk))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, hasher.hexdigest()


def _write_all(descriptor: int, content: memoryview) -> None:
    while len(content) > 0:  # the system may write less than it was passed
        content = content[os.write(descriptor, content) :]


def _flush_folder(path: Path) -> None:
    if os.name == "nt":  # Windows opens no folders, and journals renames
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int]]:
    """Open a regular file; yields its descriptor and its size in bytes. Follows no link and waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | _NO_WAIT | _BINARY)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENOTDIR}:
            raise DamagedMemory(f"{path} is not a regular file. {WAY_OUT}") from error
        raise _explanation("read", path, error) from error
    with explained("read", path):
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DamagedMemory(f"{path} is not a regular file. {WAY_OUT}")
            yield descriptor, status.st_size
        finally:
            os.close(descriptor)


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """The next `size` bytes, or fewer if the file ends before."""
    while size > 0:
        chunk = os.read(descriptor, min(size, CHUNK))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk
