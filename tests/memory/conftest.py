"""The memories of these tests, in RAM and on disk."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from memspan.memory import Memory
from tests.memory.make import FINGERPRINT


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A temporary folder, in RAM where the system has such a place: for tests that flush thousands of times."""
    shared_memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=["ram", "disk"])
def memory(request: pytest.FixtureRequest, quick_path: Path) -> Memory:
    """An empty memory."""
    return Memory(FINGERPRINT) if request.param == "ram" else Memory.open(quick_path / "m", FINGERPRINT)
