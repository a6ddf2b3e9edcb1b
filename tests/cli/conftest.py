"""A model that is calibrated, and a memory to run commands on."""

from pathlib import Path

import pytest

import memspan
from memspan.cli.warm import sockets
from tests.commands import SECRET, Run
from tests.tiny import logbook


@pytest.fixture(autouse=True, scope="session")
def calibrated(tiny_model: Path) -> None:
    """The heads of the tiny model are chosen before any command: which of them is the first to load it must not matter."""
    memspan.load_model(str(tiny_model))


@pytest.fixture
def library(run: Run, tmp_path: Path) -> Path:
    """A memory of two documents, log.txt and secret.md."""
    (tmp_path / "log.txt").write_text(logbook()[:6000], "utf-8")
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    assert run("read", "log.txt", "secret.md", "--into", "library").code == 0
    return tmp_path / "library"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sockets, in a folder for state of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("s")))
    return sockets.folder()
