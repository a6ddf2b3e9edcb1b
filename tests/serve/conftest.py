"""The tiny random model, and a library in a folder of each test."""

from pathlib import Path

import pytest

from memspan import LanguageModel, Library
from tests.assistant.conftest import lm  # noqa: F401 - a fixture


@pytest.fixture
def library(lm: LanguageModel, tmp_path: Path) -> Library:  # noqa: F811
    return Library(tmp_path / "root", lm)
