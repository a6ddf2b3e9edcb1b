"""Folders of files that are whole at every moment, and that are found again where replacing one was interrupted."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from memspan.errors import MemspanError, UsageError


def check_output(folder: Path) -> None:
    """Raises UsageError for a folder that cannot be made, because a file has its name or that of one above it."""
    file = next((one for one in (folder, *folder.parents) if one.exists() and not one.is_dir()), None)
    if file is not None:
        raise UsageError(f"{file} is a file, so the output cannot be written to {folder}: choose another folder.")


def find(folder: Path) -> Path | None:
    """The checkpoint at `folder`, also where replacing it was interrupted; None if there is none."""
    return next((one for one in (folder, _retired(folder)) if one.is_dir()), None)


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which then takes the place of `folder`: at any moment one of them is there and whole."""
    new, old = folder.with_name(f".{folder.name}.new"), _retired(folder)
    try:
        if folder.is_dir() or new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        for path in new.iterdir():
            _flush(path)
        if folder.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise MemspanError(f"The checkpoint {folder} cannot be written: {error}.") from error


def _flush(path: Path) -> None:
    """What was written survives a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
