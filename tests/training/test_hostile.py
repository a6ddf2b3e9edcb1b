"""A checkpoint from anywhere ends in one sentence, before anything is executed and before much memory is taken."""

import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from memspan.errors import MemspanError, UsageError
from memspan.evaluation.predict import predict
from memspan.models.saved import open_model
from memspan.training.build import read_run
from memspan.training.checkpoint import check_checkpoint, load_checkpoint
from memspan.training.config import TrainConfig
from memspan.training.loop import make_accelerator, train
from memspan.training.report import TrainProgress
from memspan.training.run import Run
from tests.training.hostile import CONFIG, LEARNED, LIVING, MODEL, TRAINING, Change


class Stopped(Exception):
    pass


def stop(at: TrainProgress) -> None:
    if at.step >= 3:
        raise Stopped


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`last` of a run that stopped in the middle of its streams."""
    folder = tmp_path_factory.mktemp("living")
    (folder / "text.txt").write_bytes(bytes((7 * n * n + n // 3) % 251 for n in range(3000)))
    with pytest.raises(Stopped):
        train(TrainConfig.of(**LIVING, data=[str(folder / "text.txt")], output=str(folder / "run")), stop)
    return folder / "run" / "last"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`last` of a run whose task learned a tokenizer and labels."""
    folder = tmp_path_factory.mktemp("letters") / "run"
    settings = {"limit": 12, "segment": 8, "vocabulary": 300}
    fields: dict[str, Any] = {
        "mechanism": "delta",
        "width": 8,
        "depth": 1,
        "batch_size": 2,
        "steps": 1,
        "device": "cpu",
    }
    train(TrainConfig.of(task="classification", task_settings=settings, output=str(folder), **fields))
    return folder / "last"


@pytest.fixture
def bounded() -> Iterator[None]:
    """At most 4 GiB of memory beside what the process has: a bomb raises MemoryError rather than taking the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**32, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def changed(folder: Path, change: Change, into: Path) -> Path:
    shutil.copytree(folder, into / "run" / "last")
    change(into / "run" / "last")
    return into / "run" / "last"


@pytest.fixture(scope="module")
def taking_up(living: Path) -> Run:
    """The run that goes on from a checkpoint; a checkpoint that is refused does not spoil it for the next."""
    config = TrainConfig.load(living / "config.yaml")
    return Run(config, make_accelerator(config))


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("change", TRAINING.values(), ids=TRAINING)
def test_a_run_is_not_taken_up(living: Path, taking_up: Run, tmp_path: Path, change: Change) -> None:
    folder = changed(living, change, tmp_path)
    modules = set(sys.modules)
    check_checkpoint(taking_up.config, folder)  # the checksums are right
    with torch.random.fork_rng(), pytest.raises(MemspanError) as raised:
        load_checkpoint(taking_up, folder)
    assert len(str(raised.value)) < 1500
    assert not {"this", "payload"} & (set(sys.modules) - modules)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", ["form: a class", 'tree: state = {"dict": []}', "optimizer: NaN"])
def test_training_is_not_resumed(living: Path, tmp_path: Path, name: str) -> None:
    config = TrainConfig.load(living / "config.yaml").replace(output=str(tmp_path / "run"))
    changed(living, TRAINING[name], tmp_path)
    with pytest.raises(UsageError):
        train(config, resume=True)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("change", CONFIG.values(), ids=CONFIG)
def test_a_configuration_is_refused(
    living: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = changed(living, change, tmp_path)
    with pytest.raises(UsageError) as raised:
        TrainConfig.from_mapping(read_run(folder))
    assert len(str(raised.value)) < 1500
    assert not (tmp_path / "hacked").exists()


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("change", MODEL.values(), ids=MODEL)
def test_a_model_is_refused(living: Path, tmp_path: Path, change: Change) -> None:
    folder = changed(living, change, tmp_path)
    with pytest.raises(MemspanError) as raised:
        open_model(folder)
    assert len(str(raised.value)) < 1500


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("change", LEARNED.values(), ids=LEARNED)
def test_what_a_task_learned_is_refused(letters: Path, tmp_path: Path, change: Change) -> None:
    folder = changed(letters, change, tmp_path)
    with pytest.raises(MemspanError) as raised:
        predict(folder, ["We cannot come on Friday."])
    assert len(str(raised.value)) < 1500


def test_what_is_not_changed_is_taken_up(living: Path, letters: Path, tmp_path: Path) -> None:
    """The cases above are refused for what was changed."""
    config = TrainConfig.load(living / "config.yaml").replace(output=str(tmp_path / "run"))
    changed(living, lambda folder: None, tmp_path)
    assert train(config, resume=True).step == 5
    assert torch.isfinite(next(open_model(living).parameters())).all()
    assert len(predict(letters, ["We cannot come on Friday."])) == 1
