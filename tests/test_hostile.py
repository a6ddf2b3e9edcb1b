"""Every hostile folder of every room ends in a sentence or is used, in bounded time and memory, each in its own process.

The tests of the rooms say what becomes of each case; here all of them keep the same bounds: ten seconds of processor time
and one gigabyte of memory beside what the process has.
"""

import io
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from memspan.errors import MemspanError
from memspan.evaluation.predict import predict
from memspan.memory import Memory, load_memory
from memspan.models.saved import open_model
from memspan.pretrained import hub
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.report import TrainProgress
from tests.fuzz.harness import bounded, in_child
from tests.memory.hostile import HOSTILE
from tests.memory.hostile import prepare as prepare_memory
from tests.memory.make import FINGERPRINT, contents_of
from tests.pretrained.hostile import HARMLESS, REFUSED
from tests.tiny import save_tiny_model
from tests.training.hostile import CONFIG, LEARNED, LIVING, MODEL, TRAINING

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Room:
    """Cases that change a folder which `prepare` fills, and the way the folder is used."""

    cases: Mapping[str, Change]
    prepare: Change
    use: Change


def use_memory(folder: Path) -> None:
    memory = load_memory(folder)
    contents_of(memory)
    memory.word_scores("two six")
    memory.inspect()
    Memory.open(folder, FINGERPRINT).forget("*")


def use_model(folder: Path) -> None:
    hub.load(str(folder), device="cpu", dtype="float32")


class _Stopped(Exception):
    pass


def stop(at: TrainProgress) -> None:
    if at.step >= 3:
        raise _Stopped


def prepare_run(folder: Path) -> None:
    """`last` of a run that stopped in the middle of its streams, as `folder`; its text lies beside the run."""
    text = folder.parents[1] / "text.txt"
    text.write_bytes(bytes((7 * n * n + n // 3) % 251 for n in range(3000)))
    with pytest.raises(_Stopped):
        train(TrainConfig.of(**LIVING, data=[str(text)], output=str(folder.parent)), stop)


def use_run(folder: Path) -> None:
    config = TrainConfig.load(folder / "config.yaml", output=str(folder.parent))
    if config.optimisation.steps is not None and config.optimisation.steps < 100:
        train(config, resume=True)


def prepare_letters(folder: Path) -> None:
    """`last` of a run whose task learned a tokenizer and labels."""
    settings = {"limit": 12, "segment": 8, "vocabulary": 300}
    options = {"mechanism": "delta", "width": 8, "depth": 1, "batch_size": 2, "steps": 1, "device": "cpu"}
    train(TrainConfig.of(task="classification", task_settings=settings, output=str(folder.parent), **options))


ROOMS = {
    "memory": Room(dict(HOSTILE), prepare_memory, use_memory),
    "model": Room({**REFUSED, **HARMLESS}, lambda folder: save_tiny_model(folder), use_model),
    "run": Room({**TRAINING, **CONFIG}, prepare_run, use_run),
    "saved": Room(MODEL, prepare_run, open_model),
    "learned": Room(LEARNED, prepare_letters, lambda folder: predict(folder, ["We cannot come on Friday."])),
}
CASES = [(room, name) for room in ROOMS for name in ROOMS[room].cases]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a room as it was written, by the room's name; made when it is first needed."""
    base = tmp_path_factory.mktemp("intact")

    def of(room: str) -> Path:
        folder = base / room / "run" / "last"
        if not folder.exists():
            folder.parent.mkdir(parents=True)
            ROOMS[room].prepare(folder)
        return folder

    return of


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("room", "name"), CASES, ids=[f"{room}: {name}" for room, name in CASES])
def test_a_hostile_folder_keeps_the_bounds(
    room: str, name: str, intact: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPAN_MARKER", str(tmp_path / "marker"))
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    folder = tmp_path / "run" / "last"
    shutil.copytree(intact(room), folder)

    def attempt() -> int:
        ROOMS[room].cases[name](folder)
        with bounded():
            try:
                ROOMS[room].use(folder)
            except MemspanError as error:
                return int(not str(error).strip())
        return 0

    result = in_child(attempt)
    assert result == "0", result
    assert not (tmp_path / "marker").exists()


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 300
