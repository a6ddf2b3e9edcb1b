"""A recommend folder of the sample, built once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memspan.apps.recommend.folder import Choices, Folder, build
from memspan.apps.recommend.sample import write_sample
from memspan.apps.recommend.tables import read_events, read_items


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sample(tmp_path_factory.mktemp("sample") / "data")


@pytest.fixture(scope="session")
def built(sample: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "folder"
    events, items = read_events(sample["events"]).rows, read_items(sample["items"]).rows
    build(folder, events, items, Choices({}, encoder="none"))
    return folder


@pytest.fixture
def library(built: Path, tmp_path: Path) -> Callable[[], Folder]:
    """Opens a copy of the built folder, which a test may change."""
    shutil.copytree(built, tmp_path / "library")
    return lambda: Folder.open(tmp_path / "library")
