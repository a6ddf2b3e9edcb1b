"""Where the memories of these tests lie."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A temporary folder, in RAM where the system has such a place: for tests that flush thousands of times."""
    shared_memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None))
    yield path
    shutil.rmtree(path)
