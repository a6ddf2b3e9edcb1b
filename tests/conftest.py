"""What several rooms of the suite share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.tiny import save_tiny_model

torch.set_num_threads(1)  # small tensors: more threads wait for each other longer than they work
settings.register_profile("unhurried", deadline=None)  # a busy machine must not fail a test
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a tiny random model. No network, and a cache of its own, also for the processes of the tests."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPAN_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("MEMSPAN_MODEL", raising=False)
        yield save_tiny_model(folder / "model")
