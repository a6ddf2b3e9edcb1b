"""The memories of these tests, in RAM and on disk."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from memspan.memory import Memory
from tests.memory.make import FINGERPRINT


@pytest.fixture(autouse=True, scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for the key that signs word indexes, also for the processes of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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
