"""Folders of files that are whole or refused: replaced in one step, and checked against checksums before they are read."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from memspan.errors import DamagedFolder, MemspanError, UsageError

CHECKSUMS = "checksums.json"


def check_output(folder: Path) -> None:
    """Raises UsageError for a folder that cannot be made, because a file has its name or that of one above it."""
    file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise UsageError(f"{file} is a file, so the output cannot be written to {folder}: choose another folder.")


def find(folder: Path) -> Path | None:
    """The folder itself, or the old version of it where replacing it was interrupted; None if there is neither."""
    return next((path for path in (folder, _retired(folder)) if path.is_dir()), None)


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which then replaces `folder`: at any moment one of the two is there and whole.

    The checksums of its files are written last. Raises MemspanError where something cannot be written.
    """
    new, old = folder.with_name(f".{folder.name}.new"), _retired(folder)
    try:
        if folder.is_dir() or new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        write_checksums(new)
        for path in new.iterdir():
            _flush(path)
        if folder.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise MemspanError(f"The checkpoint {folder} cannot be written: {error}.") from error


def write_checksums(folder: Path) -> None:
    """Writes checksums.json: the SHA-256 of every other file of the folder. A file written later is not covered."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != CHECKSUMS)
    (folder / CHECKSUMS).write_text(_record({path.name: sha256_of(path) for path in files}), "utf-8")


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
        except OSError as error:
            raise DamagedFolder(f"{folder / name} cannot be read ({error.strerror}): {way_out}.") from error
        if not intact:
            raise DamagedFolder(f"{folder / name} is damaged, its SHA-256 is not the recorded one: {way_out}.")


def _recorded(folder: Path, way_out: str) -> dict[str, str]:
    path = folder / CHECKSUMS
    try:
        text = path.read_text("utf-8")
        files = json.loads(text)["sha256"]
        if text != _record(files) or any(Path(name).name != name for name in files):
            raise ValueError("its own checksum differs")
    except FileNotFoundError as error:
        raise DamagedFolder(
            f"{folder} holds no {CHECKSUMS}, so it was not written to its end or comes from another version: {way_out}."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFolder(f"{path} is damaged: {way_out}.") from error
    return {str(name): str(digest) for name, digest in files.items()}


def _record(files: dict[str, Any]) -> str:
    """The text of checksums.json, the one text that there is for these files: any change of a byte shows."""
    inner = json.dumps(files, indent=1, sort_keys=True)
    own = hashlib.sha256(inner.encode()).hexdigest()
    return json.dumps({"sha256": files, "self": own}, indent=1, sort_keys=True) + "\n"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """What was written survives a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
