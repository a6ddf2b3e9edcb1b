"""Tuning: what is drawn, what is stopped early, what is written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memspan.cli import run
from memspan.errors import Diverged, UsageError
from memspan.training import search as tuning
from memspan.training.config import TrainConfig
from memspan.training.report import TrainProgress
from memspan.training.search import Range, changed, parse_search, tune
from tests.training.test_loop import tiny


def test_ranges_as_they_are_written() -> None:
    told = parse_search(
        ["learning_rate=1e-4:1e-2:log", "depth=1:4", "mechanism_settings.heads=1,2", "residual=prenorm,rezero"]
    )
    assert told == {
        "learning_rate": Range(1e-4, 1e-2, log=True),
        "depth": Range(1, 4),
        "mechanism_settings.heads": Range(choices=[1, 2]),
        "residual": Range(choices=["prenorm", "rezero"]),
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("depth", "must be NAME=LOW:HIGH"),
        ("dept=1:2", "no option 'dept'. Options: task"),
        ("depth=1:two", "A range of numbers must be"),
        ("depth=1:2:lin", "A range of numbers must be"),
        ("depth=2:1", "must be below the second"),
        ("dropout=0:1:log", "above 0 on a log scale"),
    ],
)
def test_what_is_no_range(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_search([text])


def test_values_inside_a_mapping() -> None:
    config = changed(
        tiny(mechanism_settings={"heads": 1}),
        {"mechanism_settings.heads": 2, "mechanism_settings.chunk": 32, "steps": 3},
    )
    assert (config.model.mechanism_settings, config.optimisation.steps) == ({"heads": 2, "chunk": 32}, 3)
    with pytest.raises(UsageError, match="a key of a mapping, and depth is none"):
        changed(tiny(), {"depth.heads": 2})


def made_up(losses: Any) -> Any:
    """A training whose loss held out is `losses(config, measurement)`, of four measurements."""

    def train(config: TrainConfig, look: Any) -> Any:
        for measurement in range(1, 5):
            look(TrainProgress(measurement * 10 - 5, 0.5, 1, 1.0, 0.0, 1.0))  # nothing is measured here
            look(TrainProgress(measurement * 10, 0.5, 1, 1.0, 0.0, 1.0, losses(config, measurement)))
        return SimpleNamespace(best_loss=losses(config, 4))

    return train


def test_hopeless_runs_are_stopped_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "train", made_up(lambda config, at: abs(config.model.dropout - 0.3) + 1 / at))
    told = tune(tiny(), {"dropout": Range(0.0, 1.0)}, trials=30)
    pruned = [trial for trial in told.trials if trial.outcome == "pruned"]
    whole = [trial for trial in told.trials if trial.outcome == "complete"]
    assert len(pruned) + len(whole) == 30
    assert pruned
    assert all(trial.measurements < 4 and trial.loss is not None for trial in pruned)
    assert all(trial.measurements == 4 for trial in whole)
    best = min(whole, key=lambda trial: trial.loss or 0.0)
    assert told.best.model.dropout == best.values["dropout"]
    assert abs(told.best.model.dropout - 0.3) < 0.1  # and it looks where it was good


def test_runs_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(config: TrainConfig, measurement: int) -> float:
        if config.model.depth > 1:
            raise Diverged("The loss of step 3 is nan.")
        return 1.0

    monkeypatch.setattr(tuning, "train", made_up(losses))
    told = tune(tiny(), {"depth": Range(1, 2)}, trials=8)
    assert {(trial.values["depth"], trial.outcome) for trial in told.trials} == {(1, "complete"), (2, "failed")}
    with pytest.raises(UsageError, match=r"failed so: The loss of step 3"):
        tune(tiny(), {"depth": Range(2, 3)}, trials=2)
    with pytest.raises(UsageError, match="needs an option and its range"):
        tune(tiny(), {})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="Tuning must run in a single process"):
        tune(tiny(), {"depth": Range(1, 2)})


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(steps=2, eval_every=1).save(tmp_path / "run.yaml")
    ranges = ["--search", "learning_rate=1e-4:1e-2:log", "--search", "width=8,16"]
    asked = ["tune", str(tmp_path / "run.yaml"), *ranges, "--trials", "2", "--output", str(tmp_path / "out")]
    assert run(asked) == 0
    assert "best configuration" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "trials.json").read_text("utf-8"))
    best = TrainConfig.load(tmp_path / "out" / "best.yaml")
    trial = min(written["trials"], key=lambda one: one["loss"])
    assert (best.optimisation.learning_rate, best.model.width) == (
        trial["values"]["learning_rate"],
        trial["values"]["width"],
    )
    assert best.optimisation.steps == 2
