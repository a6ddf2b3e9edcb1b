"""A configuration is checked when it is made, and is the same in a file, on the command line and in Python."""

import json
from pathlib import Path
from typing import Any

import pytest

from memspan.cli import run
from memspan.errors import UsageError
from memspan.training.config import TrainConfig, parse_settings


def test_a_file_and_back(tmp_path: Path) -> None:
    config = TrainConfig(task="recall", mechanism="delta", settings={"heads": 2}, betas=(0.8, 0.9), segments=3)
    config.save(tmp_path / "run.yaml")
    assert TrainConfig.load(tmp_path / "run.yaml") == config
    assert TrainConfig.load(tmp_path / "run.yaml", segments=4).segments == 4


def test_numbers_as_yaml_writes_them(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("task: recall\nlearning_rate: 1e-3\nclip: 2\nbetas: [0.5, 1e-1]\n")
    config = TrainConfig.load(tmp_path / "run.yaml")
    assert (config.learning_rate, config.clip, config.betas) == (0.001, 2.0, (0.5, 0.1))
    assert parse_settings(["heads=2", "rule=delta", "decay=1e0"]) == {"heads": 2, "rule": "delta", "decay": 1.0}


def test_layers_in_short_and_spelled_out() -> None:
    short = TrainConfig(task="recall", mechanism="delta", settings={"heads": 2}, depth=2, window=8)
    task = short.make_task()
    layers = short.make_model_config(task).layers
    assert len(layers) == 2
    assert [dict(part) for part in layers[0]][1] == {"name": "delta", "heads": 2}
    assert layers[0][0]["window"] == 8
    spelled = TrainConfig(task="recall", layers=layers)
    assert spelled.make_model_config(task) == short.make_model_config(task)
    alone = TrainConfig(task="recall", mechanism="delta", window=0).make_model_config(task)
    assert [len(layer) for layer in alone.layers] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": "recal"}, "no task 'recal'.*Known: .*recall"),
        ({"task_settings": {"fact": 1}}, "'recall' has no setting 'fact'; it knows facts, segment"),
        ({"mechanism": "bidirectional"}, "must be causal"),
        ({"mechanism": "delta", "settings": {"window": 3}}, "'delta' has no setting 'window'"),
        ({"mechanism": "delta", "settings": {"heads": "many"}}, "No model can be made"),
        ({"mechanism": "dlta"}, "There is no mechanism 'dlta'"),
        ({"settings": {"heads": 2}}, "name it with `mechanism`"),
        ({"mechanism": "delta", "settings": {"name": "x"}}, "goes into `mechanism`"),
        ({"layers": [[{"name": "delta"}]], "mechanism": "delta"}, "both describe the layers"),
        ({"layers": [[{"heads": 2}]]}, "names its mechanism"),
        ({"layers": "delta"}, "it is a list"),
        ({"steps": 0}, "at least 1"),
        ({"steps": "many"}, "it is a whole number"),
        ({"steps": True}, "it is a whole number"),
        ({"learning_rate": 0}, "above 0"),
        ({"learning_rate": float("nan")}, "above 0"),
        ({"dropout": 2}, "between 0 and 1"),
        ({"betas": (0.9, 1.0)}, "below 1"),
        ({"betas": (0.9,)}, "a pair of numbers"),
        ({"curriculum": 9}, "no more than 5"),
        ({"precision": "fp8"}, "no precision 'fp8'. Known: fp32, bf16, fp16"),
        ({"tracker": "pencil"}, "no tracker 'pencil'. Known: tensorboard, wandb"),
        ({"residual": "none"}, "residual must be prenorm or rezero"),
        ({"width": 63}, "must divide a width of 63"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        TrainConfig(**{"task": "recall", **changes})


def test_unknown_fields_list_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("task: recall\nlearningrate: 1\n")
    with pytest.raises(UsageError, match=r"no field 'learningrate'\. Known: task, .*learning_rate"):
        TrainConfig.load(tmp_path / "run.yaml")


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "1: 2\n", "!!python/object:os.system {}\n"])
def test_files_that_are_no_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"run\.yaml"):
        TrainConfig.load(tmp_path / "run.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        TrainConfig.load(tmp_path / "none.yaml")


def test_a_cut_that_the_model_does_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.models.scratch.grid", lambda model: 48)
    with pytest.raises(UsageError, match="only at multiples of 48"):
        TrainConfig(task="recall", truncate=1)
    TrainConfig(task="recall", truncate=3)


# ---- the command line


def test_flags_go_before_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "task: recall\ntask_settings: {facts: 2, segment: 8}\nsegments: 3\nwidth: 16\nsteps: 500\n"
    )
    flags = "--steps 2 --task-settings facts=1 --mechanism delta --settings heads=2 --betas 0.5 0.6 --no-tied"
    assert run(["train", "run.yaml", *flags.split(), "--output", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    config = told["config"]
    assert (told["step"], config["segments"], config["tied"], config["betas"]) == (2, 3, False, [0.5, 0.6])
    assert config["task_settings"] == {"facts": 1, "segment": 8}
    assert TrainConfig.load("out/last/config.yaml").to_dict() == config
    assert run(["train", "--resume", "--output", "out"]) == 0
    assert "2 steps" in capsys.readouterr().out
    assert run(["eval", "out/best", "--segments", "2,5", "--plot", "a.svg", "--batch-size", "4"]) == 0
    assert "distance" in capsys.readouterr().out
    assert (tmp_path / "a.svg").stat().st_size > 0
    assert run(["eval", "out/best", "--segments", "2,5", "--json", "--task-settings", "facts=2"]) == 0
    assert [one["distance"] for one in json.loads(capsys.readouterr().out)["scores"]] == [16, 40]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train", "needs a `task`"),
        ("train --task recall --settings heads", "write NAME=VALUE"),
        ("train --task recall --layers [[", "cannot be read"),
        ("train none.yaml", "cannot be read"),
        ("eval none", "There is no folder none"),
        ("eval none --segments a", "must be whole numbers like 5,16,64"),
    ],
)
def test_wrong_requests(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments.split()) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.strip().splitlines()) == 1
