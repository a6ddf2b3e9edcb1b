"""Durable files: all access of a memory to the disk.

A file is written under a temporary name, flushed, renamed into place, and its folder is flushed: after a crash or a
power cut there is the whole old file or the whole new one. A file is read only if it is a regular file of the
expected size and checksum, so that a pipe, a link or a foreign file can neither block nor deceive the reader.

A folder is opened for each access, and the names of its files are looked up in the folder that was opened. No link is
followed, neither for a file nor for a folder of the memory: the user may choose a path that leads through links, but
what lies in a memory cannot lead out of it.

Errors of the operating system are raised as `MemspanError`, with the path and the way out.
"""

import errno
import hashlib
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from memspan.errors import DamagedMemory, MemspanError, SystemRefused, UsageError

Bytes: TypeAlias = bytes | memoryview | mmap.mmap

FILE_MODE, FOLDER_MODE = 0o600, 0o700
MAPPED_FROM = 256 * 1024  # bytes; a mapping holds a file descriptor, so smaller files are read instead
CHUNK = 1024 * 1024  # bytes read and hashed at a time
# Whether the system looks up names in an open folder. Where it does not (Windows), links are looked for before each access.
BY_DESCRIPTOR = {os.open, os.stat, os.mkdir, os.unlink, os.link, os.rename, os.chmod} <= os.supports_dir_fd and {
    os.listdir,
    os.chmod,
} <= os.supports_fd

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")  # the name of a file that is being written

# Absent on some systems, where they are not needed.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)


class _OpenFolder(NamedTuple):
    """An open folder: `prefix` and a name, with `descriptor` as `dir_fd`, mean a file in it."""

    descriptor: int | None  # None where the system looks up whole paths only; `prefix` is then the path
    prefix: str


@dataclass(frozen=True)
class Directory:
    """A folder of a memory, and the files in it, by their names.

    Every method raises DamagedMemory if the folder, or the one that it lies in, is a link or no folder.

    Attributes:
        path: absolute, with all links resolved as they were when the memory was opened.
        parent: the folder of the memory that it lies in; None for the memory's own folder, which the user chose.
    """

    path: Path
    parent: "Directory | None" = None

    def write(self, name: str, chunks: Iterable[Bytes]) -> tuple[int, str]:
        """Write a file, replacing any other; when this returns, it survives a power cut.

        Returns:
            The bytes written, and their sha256 in hex.

        Raises:
            MemspanError: the system refused. Nothing is left behind; the file is as it was, unless the last step, the
                flush of the folder, was the one that failed.
        """
        temporary = f".{name}.{secrets.token_hex(4)}.tmp"
        with explained("write", self.path / name), self._opened() as (folder, prefix):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY
            descriptor = os.open(prefix + temporary, flags, FILE_MODE, dir_fd=folder)
            try:
                written = _fill(descriptor, chunks)
                os.replace(prefix + temporary, prefix + name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(prefix + temporary, dir_fd=folder)
                raise
            _flush_folder(folder)
        return written

    def link(self, name: str, source: "Directory", source_name: str) -> bool:
        """Give a file of another folder a second name here, durably; False where that cannot be: it must be copied."""
        try:
            with source._opened() as (theirs, prefix), self._opened() as (ours, our_prefix):
                if not stat.S_ISREG(os.lstat(prefix + source_name, dir_fd=theirs).st_mode):
                    return False
                os.link(
                    prefix + source_name,
                    our_prefix + name,
                    src_dir_fd=theirs,
                    dst_dir_fd=ours,
                    follow_symlinks=False,
                )
        except (OSError, DamagedMemory):  # no links on this file system, another disk, or the source is gone
            return False
        with explained("write", self.path / name), self._opened() as (ours, _):
            _flush_folder(ours)
        return True

    def read(self, name: str, limit: int) -> bytes:
        """Read a small file of at most `limit` bytes.

        Raises:
            FileNotFoundError: there is none.
            DamagedMemory: it is no regular file, or larger than `limit`.
            MemspanError: the system refused.
        """
        with self._opened_file(name) as (descriptor, size):
            if size > limit:
                raise DamagedMemory(f"{self.path / name} must have at most {limit} bytes, got {size}. {WAY_OUT}")
            return b"".join(_chunks(descriptor, size))

    def read_verified(self, name: str, size: int, sha256: str) -> Bytes:
        """Read or map a file after checking its size in bytes and its checksum.

        Raises:
            FileNotFoundError: there is none.
            DamagedMemory: it is no regular file, or not the one that was written.
            MemspanError: the system refused.
        """
        path = self.path / name
        with self._opened_file(name) as (descriptor, actual):
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

    def verified_chunks(self, name: str, size: int, sha256: str) -> Iterator[bytes]:
        """The content of a file in chunks, which count only when the last has been taken: by then they are checked.

        Raises as `read_verified` does.
        """
        with self._opened_file(name) as (descriptor, actual):
            if actual != size:
                raise DamagedMemory(f"{self.path / name} must have {size} bytes, got {actual}. {WAY_OUT}")
            hasher = hashlib.sha256()
            for chunk in _chunks(descriptor, size):
                hasher.update(chunk)
                yield chunk
        if hasher.hexdigest() != sha256:
            raise DamagedMemory(f"{self.path / name} does not match its checksum. {WAY_OUT}")

    def remove(self, *names: str) -> None:
        """Delete those of these files that are there, durably. A folder of such a name is none of memspan's and stays."""
        if not names:
            return
        with explained("delete", self.path / names[0]), suppress(FileNotFoundError), self._opened() as (folder, prefix):
            for name in names:
                with explained("delete", self.path / name), suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(prefix + name, dir_fd=folder)
            _flush_folder(folder)

    def make(self) -> None:
        """Make the folder, and those above it, accessible to the owner only; an existing one is closed to others if
        possible."""
        with explained("create", self.path):
            if not self.exists():
                above = self.parent or Directory(self.path.parent)
                if not above.path.is_dir():
                    above.make()
                with suppress(FileExistsError), above._opened() as (folder, prefix):
                    os.mkdir(prefix + self.path.name, FOLDER_MODE, dir_fd=folder)
                    os.chmod(prefix + self.path.name, FOLDER_MODE, dir_fd=folder)  # the umask may have taken bits away
                    _flush_folder(folder)
            with self._opened() as (folder, prefix), suppress(PermissionError):
                # A mount point may belong to another user; the files in it are private.
                os.chmod(prefix if folder is None else folder, FOLDER_MODE)

    def exists(self) -> bool:
        """Whether there is the folder.

        Raises:
            UsageError: there is a file.
        """
        with explained("read", self.path):
            try:
                status = os.lstat(self.path)
            except FileNotFoundError:
                return False
        if _is_link(status):
            raise self._no_folder()
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{self.path} is a file; a memory is a folder. Choose another path.")
        return True

    def status(self, name: str) -> os.stat_result | None:
        """The status of a file, without following a link; None if there is nothing."""
        with explained("read", self.path / name), suppress(FileNotFoundError), self._opened() as (folder, prefix):
            return os.lstat(prefix + name, dir_fd=folder)
        return None

    def check_regular(self, name: str) -> None:
        """Refuse what is no regular file; a file that is missing may be made. Raises DamagedMemory."""
        status = self.status(name)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise DamagedMemory(f"{self.path / name} is not a regular file. {WAY_OUT}")

    def names(self) -> list[str]:
        """The names in the folder, sorted; none if there is no such folder."""
        with explained("read", self.path), suppress(FileNotFoundError), self._opened() as (folder, prefix):
            return sorted(os.listdir(prefix if folder is None else folder))
        return []

    def sizes(self) -> dict[str, int]:
        """The names in the folder that are no folders themselves, sorted, with their bytes; none without the folder."""
        sizes = {}
        with explained("read", self.path), suppress(FileNotFoundError), self._opened() as (folder, prefix):
            for name in sorted(os.listdir(prefix if folder is None else folder)):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    entry = os.lstat(prefix + name, dir_fd=folder)
                    if not stat.S_ISDIR(entry.st_mode):
                        sizes[name] = entry.st_size
        return sizes

    def open_to_lock(self, name: str) -> tuple[int, int]:
        """Descriptors of the folder and of a regular file in it, which is made if it is missing. On POSIX systems only.

        Raises:
            DamagedMemory: it is no regular file.
            MemspanError: the system refused.
        """
        no_file = DamagedMemory(f"{self.path / name} is not a regular file. {WAY_OUT}")
        with explained("lock", self.path / name), self._opened() as (folder, _):
            try:
                flags = os.O_RDWR | os.O_CREAT | _NO_FOLLOW | _NO_WAIT
                descriptor = os.open(name, flags, FILE_MODE, dir_fd=folder)
            except OSError as error:
                if error.errno in _NOT_THE_KIND | {errno.EISDIR}:
                    raise no_file from error
                raise
            try:
                mode = os.fstat(descriptor).st_mode
                if not stat.S_ISREG(mode):
                    raise no_file
                if stat.S_IMODE(mode) != FILE_MODE:  # the umask may have taken bits away
                    with suppress(PermissionError):  # another user's
                        os.chmod(descriptor, FILE_MODE)
                return os.dup(folder), descriptor  # type: ignore[arg-type]
            except BaseException:
                os.close(descriptor)
                raise

    @contextmanager
    def _opened(self) -> Iterator[_OpenFolder]:
        """Open the folder, without following a link. Raises OSError or DamagedMemory."""
        if not BY_DESCRIPTOR:
            if self.parent is not None:
                with self.parent._opened():
                    pass
            if _is_link(os.lstat(self.path)):
                raise self._no_folder()
            yield _OpenFolder(None, f"{self.path}{os.sep}")
            return
        descriptor = self._descriptor()
        try:
            yield _OpenFolder(descriptor, "")
        finally:
            os.close(descriptor)

    def _descriptor(self) -> int:
        try:
            if self.parent is None:
                return os.open(self.path, _FOLDER)
            with self.parent._opened() as (folder, prefix):
                return os.open(prefix + self.path.name, _FOLDER, dir_fd=folder)
        except OSError as error:
            if error.errno in _NOT_THE_KIND:
                raise self._no_folder() from error
            raise

    def _no_folder(self) -> DamagedMemory:
        if not os.path.islink(self.path):
            return DamagedMemory(f"{self.path} is not a folder. {WAY_OUT}")
        return DamagedMemory(
            f"{self.path} is a link, and memspan follows no links inside a memory: nothing behind it was read or changed. "
            "Put the folder itself in its place; a memory can move to another disk as a whole, with a link to the whole."
        )

    @contextmanager
    def _opened_file(self, name: str) -> Iterator[tuple[int, int]]:
        """Open a regular file; yields its descriptor and its size in bytes. Follows no link and waits for no pipe."""
        path = self.path / name
        no_file = DamagedMemory(f"{path} is not a regular file. {WAY_OUT}")
        try:
            with self._opened() as (folder, prefix):
                descriptor = os.open(prefix + name, os.O_RDONLY | _NO_FOLLOW | _NO_WAIT | _BINARY, dir_fd=folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        except OSError as error:
            if error.errno in _NOT_THE_KIND:
                raise no_file from error
            raise _explanation("read", path, error) from error
        with explained("read", path):
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise no_file
                yield descriptor, status.st_size
            finally:
                os.close(descriptor)


def unfinished(name: str) -> str | None:
    """The name of the file that `write` was writing under this temporary name; None if it is no such name."""
    match = _TEMPORARY.fullmatch(name)
    return None if match is None else match["name"]


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an error of the system into one sentence with the path and the way out."""
    try:
        yield
    except OSError as error:
        raise _explanation(action, path, error) from error


WAY_OUT = "Nothing from this memory was used; restore it from a copy, or read the documents again into a new one."

# Errors of opening what is a link, or no folder, or no file. Systems differ in which it is.
_NOT_THE_KIND = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO}
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
    return SystemRefused(f"cannot {action} {path}: {error.strerror}. {way_out}; {state}.")


def _fill(descriptor: int, chunks: Iterable[Bytes]) -> tuple[int, str]:
    """Write the chunks to a new file, flush and close it; returns its size and sha256."""
    hasher, size = hashlib.sha256(), 0
    try:
        for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
            _write_all(descriptor, memoryview(chunk))
        if BY_DESCRIPTOR:
            os.chmod(descriptor, FILE_MODE)  # the umask may have taken bits away
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, hasher.hexdigest()


def _write_all(descriptor: int, content: memoryview) -> None:
    while len(content) > 0:  # the system may write less than it was passed
        content = content[os.write(descriptor, content) :]


def _flush_folder(descriptor: int | None) -> None:
    if descriptor is not None:  # Windows opens no folders, and journals renames
        os.fsync(descriptor)


def _is_link(status: os.stat_result) -> bool:
    """Whether it is a symbolic link, or a junction of Windows."""
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == (junction or -1)


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """The next `size` bytes, or fewer if the file ends before."""
    while size > 0:
        chunk = os.read(descriptor, min(size, CHUNK))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk
