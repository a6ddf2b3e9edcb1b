"""Folders of files that are whole or refused: replaced in one step, and checked against checksums before they are read."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from memspan.errors import DamagedFolder, MemspanError, UsageError

CHECKSUMS = "checksums.json"
LARGEST_JSON = 64 * 2**20  # bytes of a file that is parsed as a whole
ATTEMPTS = 100  # of reading a folder that is replaced all the time
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)  # of the kernel, the file system, a sandbox

Contents = TypeVar("Contents")


def check_output(folder: Path) -> None:
    """Raises UsageError for a folder that cannot be made, because a file has its name or that of one above it."""
    file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise UsageError(f"{file} is a file, so the output cannot be written to {folder}: choose another folder.")


# ---- replacing


def find(folder: Path) -> Path | None:
    """The folder itself, or the old version of it where replacing it was interrupted; None if there is neither."""
    versions = (folder, _retired(folder), folder)  # once more: the new version may have come in between
    return next((path for path in versions if path.is_dir()), None)


def _new(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which then replaces `folder`: at any moment, also after a power cut, one of the two is whole.

    The checksums of its files are written last. Where the system can exchange two names, `folder` is always there;
    elsewhere there is a moment when only `find` finds the old version. A symbolic link is replaced itself: what it points
    to is neither changed nor deleted. What an interrupted replacement left is removed first.

    Raises MemspanError where something cannot be written; then nothing has changed.
    """
    new = _new(folder)
    try:
        tidy(folder)
        _make(new)
        yield new
        write_checksums(new)
        for path in (*new.rglob("*"), new):
            _flush(path)
        _replace(folder, new)
    except BaseException as error:
        with suppress(OSError):
            _remove(new)  # a full disk needs the space
        if isinstance(error, OSError | SafetensorError):
            raise MemspanError(f"The checkpoint {folder} cannot be written: {error}.") from error
        raise


def tidy(folder: Path) -> None:
    """Removes what an interrupted replacement of `folder` left beside it; the old version comes back if it is alone."""
    retired = _retired(folder)
    if os.path.lexists(retired) and not os.path.lexists(folder):
        os.rename(retired, folder)
        _flush(folder.parent)
    for leftover in (_new(folder), retired):
        _remove(leftover)


def discard(folder: Path) -> None:
    """Removes a folder and what an interrupted replacement of it left."""
    for version in (_new(folder), _retired(folder), folder):
        _remove(version)


@contextmanager
def undone(folder: Path, names: Sequence[str], unless: str) -> Iterator[None]:
    """A block that fills `folder`: where it fails, what it has made is removed, unless the folder `unless` is there by then.

    Removed are the folders of these names, and `folder` and those above it if they are empty; only those that were not
    there before.
    """
    new_names = [name for name in names if not os.path.lexists(folder / name)]
    new_folders = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        yield
    except BaseException:
        if find(folder / unless) is None:
            with suppress(OSError):
                for name in new_names:
                    discard(folder / name)
                for path in new_folders:
                    path.rmdir()
        raise


def _replace(folder: Path, new: Path) -> None:
    """Puts `new` into the place of `folder`. The old version goes only when the new name is on the disk."""
    retired = new
    if not os.path.lexists(folder):
        os.rename(new, folder)
    elif not (folder.is_dir() or folder.is_symlink()):
        raise NotADirectoryError(errno.ENOTDIR, "a file has this name", str(folder))
    elif not exchange(new, folder):
        retired = _retired(folder)
        os.rename(folder, retired)
        _flush(folder.parent)
        os.rename(new, folder)
    _flush(folder.parent)
    _remove(retired)


def exchange(first: Path, second: Path) -> bool:
    """Swaps two names in one step; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(first))


def _make(folder: Path) -> None:
    """Makes a folder, and those above it, so that a power cut leaves them."""
    if not folder.parent.is_dir():
        _make(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder)
    _flush(folder.parent)


def _remove(path: Path) -> None:
    """Removes a folder with its files, or a link or a file of that name; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _flush(path: Path) -> None:
    """The bytes of a file, or the names in a folder, survive a power cut."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders, and journals renames
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- reading


def read_whole(folder: Path, read: Callable[[Path], Contents]) -> Contents:
    """`read(version)` of one version of a folder that another process may be replacing: once more if it did meanwhile.

    `version` is the folder, or its old version where replacing it was interrupted. Raises what `read` raises, and
    MemspanError for a folder that is replaced at each of ATTEMPTS attempts.
    """
    for _ in range(ATTEMPTS):
        version = find(folder) or folder
        before = _stamp(version)
        try:
            contents = read(version)
        except Exception:
            if before == _stamp(find(folder) or folder):
                raise
            continue
        if before == _stamp(find(folder) or folder):
            return contents
    raise MemspanError(f"{folder} was replaced at each of {ATTEMPTS} attempts to read it: try again later, or copy it.")


def _stamp(version: Path) -> tuple[Path, bytes | None, int | None]:
    """What differs between two versions of a folder."""
    try:
        return version, (version / CHECKSUMS).read_bytes(), version.stat().st_ino
    except OSError:
        return version, None, None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises OSError for a file that cannot be read, or is none; ValueError for one that is too large, nested too deeply, or
    no JSON.
    """
    with open_regular(path) as file:
        raw = file.read(LARGEST_JSON + 1)
    if len(raw) > LARGEST_JSON:
        raise ValueError(f"it has more than {LARGEST_JSON:,} bytes")
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def open_regular(path: Path) -> BufferedReader:
    """A file opened to be read. Raises OSError for what is none: a device or a pipe may never end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


# ---- checksums


def write_checksums(folder: Path) -> None:
    """Writes checksums.json: the SHA-256 of every other file of the folder. A file written later is not covered."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    (folder / CHECKSUMS).write_bytes(_record({path.name: sha256_of(path) for path in files}).encode())


def beside_weights(name: str) -> bool:
    """Whether a file of a model is small: all are but the weights, which take the time that checking takes."""
    return not name.endswith(".safetensors")


def verify(
    folder: Path, includes: Callable[[str], bool] = lambda name: True, way_out: str = "copy or train it again"
) -> None:
    """Raises DamagedFolder unless every file recorded in checksums.json is there with the bytes it was written with.

    Args:
        includes: whether a file of this name is to be checked; reading those that the caller does not need takes time.
        way_out: what the user can do, for the error's sentence.
    """
    for name, digest in _recorded(folder, way_out).items():
        if not includes(name):
            continue
        try:
            intact = sha256_of(folder / name) == digest
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DamagedFolder(f"{folder / name} cannot be read ({reason}): {way_out}.") from error
        if not intact:
            raise DamagedFolder(f"{folder / name} is damaged, its SHA-256 is not the recorded one: {way_out}.")


def _recorded(folder: Path, way_out: str) -> dict[str, str]:
    path = folder / CHECKSUMS
    try:
        files = read_json(path)["sha256"]
        if path.read_bytes() != _record(files).encode() or any(Path(name).name != name for name in files):
            raise ValueError("its own checksum differs")
    except FileNotFoundError as error:
        raise DamagedFolder(
            f"{folder} holds no {CHECKSUMS}, so it was not written to its end or comes from another version: {way_out}."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFolder(f"{path} is damaged: {way_out}.") from error
    return {str(name): str(digest) for name, digest in files.items()}


def _record(files: dict[str, Any]) -> str:
    """The text of checksums.json, the one text that there is for these files: any change of a byte shows."""
    inner = json.dumps(files, indent=1, sort_keys=True)
    own = hashlib.sha256(inner.encode()).hexdigest()
    return json.dumps({"sha256": files, "self": own}, indent=1, sort_keys=True) + "\n"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in a stream. Raises OSError for what is no file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
