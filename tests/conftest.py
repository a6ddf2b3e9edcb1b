"""What several rooms of the suite share."""

import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from memspan.cli import main
from tests.commands import Outcome, Run

# Nothing here imports torch or transformers before a test asks for it: the process that only hands tests to its workers needs neither.
settings.register_profile("unhurried", deadline=None)  # a busy machine must not fail a test
settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="session")
def threads() -> None:
    """One of torch: with small tensors, more wait for each other longer than they work."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def signals() -> None:
    """Signals do what they do for a user, also where `nohup` or a shell's background has them ignored."""
    defaults = {"SIGHUP": signal.SIG_DFL, "SIGTERM": signal.SIG_DFL, "SIGINT": signal.default_int_handler}
    for name, handler in defaults.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for the key that signs word indexes, and no sentence encoder, also for the processes of the tests.

    These keep what they compile: each of them imports memspan.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("MEMSPAN_ENCODER", "none")  # a test that is about sentence encoders names one
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a tiny random model. No network, and a cache of its own, also for the processes of the tests."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPAN_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("MEMSPAN_MODEL", raising=False)
        from tests.tiny import save_tiny_model

        yield save_tiny_model(folder / "model")


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a tiny causal model, encoder and encoder-decoder with random weights, by these names."""
    from tests.pretrained.bases import save_bases

    return save_bases(tmp_path_factory.mktemp)


@pytest.fixture
def run(tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process, in a folder of its own, where the tiny model is the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMSPAN_MODEL", str(tiny_model))
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run_here(*arguments: str, stdin: str | None = None) -> Outcome:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            if stdin is not None:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
            with pytest.raises(SystemExit) as leaving:
                main(list(arguments))
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out + captured.err
        return Outcome(int(leaving.value.code or 0), captured.out, captured.err)

    return run_here
