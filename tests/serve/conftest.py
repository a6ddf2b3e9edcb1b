"""The tiny random model, a library in a folder of each test, and a server with its client."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from memspan import LanguageModel, Library
from tests.assistant.conftest import lm  # noqa: F401 - a fixture
from tests.serve.running import Running, running


@pytest.fixture
def library(lm: LanguageModel, tmp_path: Path) -> Library:  # noqa: F811
    return Library(tmp_path / "root", lm)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:  # noqa: F811
    """A server without keys, of the tests of a file together."""
    with running(tmp_path_factory.mktemp("server"), lm) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return server.client()
