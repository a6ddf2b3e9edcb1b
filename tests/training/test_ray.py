"""Ray as a launcher: its workers arrive where one process does, and what goes wrong in them is told in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memspan.cli import run
from memspan.errors import Diverged, MemspanError, UsageError
from memspan.training.loop import train
from memspan.training.ray import _failure, train_on_ray
from memspan.training.report import Report
from tests.training.test_distributed import losses, processes_of
from tests.training.test_loop import assert_same_weights, tiny, weights


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    tiny().save(tmp_path / "run.yaml")
    arguments = ["train", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run"), "--ray", "2"]
    assert run(arguments) == 2
    assert capsys.readouterr().err == "error: Workers need Ray: pip install 'memspan[ray]'.\n"
    assert not (tmp_path / "run").exists()
    (tmp_path / "texts.txt").write_text("a text\n")
    assert run([*arguments, "--unlabelled", str(tmp_path / "texts.txt")]) == 2
    assert "leave out --ray" in capsys.readouterr().err


def test_what_is_told_of_the_workers() -> None:
    own = UsageError("8 rows cannot be divided.")
    assert _failure({2: Diverged("later"), 1: own, 0: RuntimeError("connection closed by peer\nand more")}) is own
    told = _failure({1: ValueError("later"), 0: RuntimeError("connection closed by peer\nand more")})
    assert (type(told), str(told)) == (
        MemspanError,
        "A worker of Ray failed: RuntimeError: connection closed by peer",
    )


def test_a_report_comes_back(tmp_path: Path) -> None:
    report = train(tiny(output=str(tmp_path / "run"), ema_decay=0.9))
    again = Report.load(tmp_path / "run")
    assert again.to_dict() == report.to_dict()
    assert again.folder == report.folder
    assert_same_weights(weights(again), weights(report))
    (tmp_path / "run" / "report.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no report of a run that can be read"):
        Report.load(tmp_path / "run")


def test_two_workers_are_as_one_process(tmp_path: Path) -> None:
    """Relative paths are the caller's, the first worker's sentence is told, and the run goes on in one process."""
    pytest.importorskip("ray.train.torch", reason="Ray is large, and only one launcher of several: memspan[ray]")
    config = tiny(segments=3, bptt_segments=1)
    alone = train(config).to_dict()
    config.save(tmp_path / "run.yaml")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    environment.pop("RAY_ADDRESS", None)
    environment["RAY_worker_niceness"] = "0"  # by default other work on the machine goes first

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "memspan", "train", "run.yaml", "--json", "--ray", "2", *options]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=900
        )

    done = run("--output", "runs/two")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert losses(told) == pytest.approx(losses(alone), abs=1e-4)
    assert told == json.loads((tmp_path / "runs" / "two" / "report.json").read_text("utf-8"))
    assert processes_of(tmp_path / "runs" / "two") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "runs"]
    assert not list((tmp_path / "runs" / "two").glob(".ray-*"))
    assert train(config.replace(output=str(tmp_path / "runs" / "two")), resume=True).step == alone["step"]
    odd = run("--output", "runs/odd", "--batch-size", "7")
    assert (odd.returncode, odd.stderr) == (
        2,
        "error: 7 rows cannot be divided evenly among 2 processes: make `rows` a multiple of 2.\n",
    )


def test_an_output_folder_is_needed(tmp_path: Path) -> None:
    pytest.importorskip("ray.train.torch", reason="Ray is large, and only one launcher of several: memspan[ray]")
    with pytest.raises(UsageError, match="need an output folder"):
        train_on_ray(tiny(), 2)
    config = tiny(output=str(tmp_path / "run"), steps=1)
    train(config)
    with pytest.raises(UsageError, match="holds a run already"):
        train_on_ray(config, 2)
