"""The user's cache of models: `$MEMSPAN_CACHE`, by default the system's folder for caches."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from memspan.errors import UsageError


def cache_folder() -> Path:
    """The folder for converted models and calibrated heads; created when it is needed."""
    chosen = os.environ.get("MEMSPAN_CACHE")
    return Path(chosen) if chosen else user_cache_path("memspan")


def make_cache(folder: Path) -> None:
    """Make a folder in the cache, before anything is fetched for it. Raises UsageError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, str(error.strerror)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _not_writable(folder, "no right to write")


def _not_writable(folder: Path, reason: str) -> UsageError:
    return UsageError(
        f"The cache of models must be a folder in which this user may write, got {cache_folder()} ({folder}: {reason}). "
        "Set MEMSPAN_CACHE to another folder, or give the user the right to write there."
    )


@contextmanager
def prepared_alone(target: Path) -> Iterator[None]:
    """Within, no other process makes `target`, a folder in the cache. Raises UsageError as `make_cache` does."""
    make_cache(target.parent)
    with FileLock(target.with_suffix(".lock")):
        yield
