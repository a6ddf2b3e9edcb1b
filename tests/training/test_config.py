"""A configuration is checked when it is made, and is the same in a file, on the command line and in Python."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from memspan.cli import run
from memspan.errors import UsageError
from memspan.models.scratch import ScratchModel
from memspan.tasks.synthetic.recall import Recall
from memspan.training import run as run_module
from memspan.training.build import build_task, model_config
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.options import parse_settings


def test_a_file_and_back(tmp_path: Path) -> None:
    config = TrainConfig.of(
        task="recall", mechanism="delta", mechanism_settings={"heads": 2}, betas=(0.8, 0.9), segments=3
    )
    config.save(tmp_path / "run.yaml")
    assert TrainConfig.load(tmp_path / "run.yaml") == config
    assert TrainConfig.load(tmp_path / "run.yaml", segments=4).task.segments == 4


def test_numbers_as_yaml_writes_them(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "task: {name: recall}\noptimisation: {learning_rate: 1e-3, max_grad_norm: 2, betas: [0.5, 1e-1]}\n"
    )
    config = TrainConfig.load(tmp_path / "run.yaml")
    options = config.optimisation
    assert (options.learning_rate, options.max_grad_norm, options.betas) == (0.001, 2.0, (0.5, 0.1))
    assert parse_settings(["heads=2", "rule=delta", "decay=1e0"]) == {"heads": 2, "rule": "delta", "decay": 1.0}


def test_layers_in_short_and_spelled_out() -> None:
    short = TrainConfig.of(task="recall", mechanism="delta", mechanism_settings={"heads": 2}, depth=2, window=8)
    task = build_task(short)
    layers = model_config(short, task).layers
    assert len(layers) == 2
    assert [dict(part) for part in layers[0]][1] == {"name": "delta", "heads": 2}
    assert layers[0][0]["window"] == 8
    spelled = TrainConfig.of(task="recall", layers=layers)
    assert model_config(spelled, task) == model_config(short, task)
    alone = model_config(TrainConfig.of(task="recall", mechanism="delta", window=0), task)
    assert [len(layer) for layer in alone.layers] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": "recal"}, "no task 'recal'.*Known: .*recall"),
        ({"task_settings": {"fact": 1}}, "'recall' has no setting 'fact'; it knows facts, segment"),
        ({"mechanism": "bidirectional"}, "must be causal"),
        ({"mechanism": "delta", "mechanism_settings": {"window": 3}}, "'delta' has no setting 'window'"),
        ({"mechanism": "delta", "mechanism_settings": {"heads": "many"}}, "No model can be made"),
        ({"mechanism": "dlta"}, "There is no mechanism 'dlta'"),
        ({"mechanism_settings": {"heads": 2}}, "name it with `mechanism`"),
        ({"mechanism": "delta", "mechanism_settings": {"name": "x"}}, "goes into `mechanism`"),
        ({"layers": [[{"name": "delta"}]], "mechanism": "delta"}, "both describe the layers"),
        ({"layers": [[{"heads": 2}]]}, "must name its mechanism"),
        ({"layers": "delta"}, "must be a list"),
        ({"steps": 0}, "at least 1"),
        ({"steps": "many"}, "must be a whole number"),
        ({"steps": True}, "must be a whole number"),
        ({"learning_rate": 0}, "above 0"),
        ({"learning_rate": float("nan")}, "above 0"),
        ({"dropout": 2}, "from 0 to 1"),
        ({"betas": (0.9, 1.0)}, "below 1"),
        ({"betas": (0.9,)}, "a pair of numbers"),
        ({"curriculum": 9}, "at most `segments`, 5, got 9"),
        ({"precision": "fp8"}, "one of fp32, bf16, fp16, auto, got 'fp8'"),
        ({"tracker": "pencil"}, "one of tensorboard, wandb, got 'pencil'"),
        ({"residual": "none"}, "residual must be prenorm or rezero"),
        ({"width": 63}, "must divide a width of 63"),
        ({"init_from": ""}, "init_from must have at least one character"),
        ({"init_from": "a\0b"}, "init_from must be a text without NUL"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        train(TrainConfig.of(**{"task": "recall", "steps": 1, "batch_size": 2, "device": "cpu", **changes}))


def test_unknown_options_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no option 'learningrate'\. Options: task, .*learning_rate"):
        TrainConfig.of(task="recall", learningrate=1)
    (tmp_path / "run.yaml").write_text("task: {name: recall}\noptimisation: {learningrate: 1}\n")
    with pytest.raises(
        UsageError, match=r"`optimisation` has no option 'learningrate'\. Options: steps, .*learning_rate"
    ):
        TrainConfig.load(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("task: {name: recall}\noptimization: {steps: 1}\n")
    with pytest.raises(UsageError, match=r"no section 'optimization'\. Sections: task, model, optimisation"):
        TrainConfig.load(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text("task: recall\n")
    with pytest.raises(UsageError, match="`task` must hold options and their values, got 'recall'"):
        TrainConfig.load(tmp_path / "run.yaml")


def test_a_configuration_is_a_plain_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Making, comparing, changing and reading one builds no task and no model; training builds each once."""
    built: list[str] = []
    task, model = run_module.build_task, run_module.build_model
    monkeypatch.setattr(run_module, "build_task", lambda config: (built.append("task"), task(config))[1])
    monkeypatch.setattr(run_module, "build_model", lambda *args: (built.append("model"), model(*args))[1])
    monkeypatch.setattr(ScratchModel, "__init__", counted(ScratchModel.__init__, built))
    monkeypatch.setattr(Recall, "__init__", counted(Recall.__init__, built))
    config = TrainConfig.of(task="recall", mechanism="delta", width=16, depth=1, steps=1, batch_size=2, device="cpu")
    assert config.same_run(config.replace(output="elsewhere"))
    assert config.differences(config.replace(steps=2, width=8)) == ["width", "steps"]
    assert config.differences(config.replace(seed=1)) == ["seed"]  # other weights, so another run
    config.save(tmp_path / "run.yaml")
    assert TrainConfig.load(tmp_path / "run.yaml") == config
    assert TrainConfig.of(**config.options()) == config
    assert built == []
    train(config)
    assert built == ["task", "Recall", "model", "ScratchModel"]


def counted(whole: Any, built: list[str]) -> Any:
    """A constructor that notes its class."""

    def init(self: Any, *arguments: Any, **settings: Any) -> None:
        built.append(type(self).__name__)
        whole(self, *arguments, **settings)

    return functools.wraps(whole)(init)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "1: 2\n", "!!python/object:os.system {}\n"])
def test_files_that_are_no_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"run\.yaml"):
        TrainConfig.load(tmp_path / "run.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        TrainConfig.load(tmp_path / "none.yaml")


def test_a_cut_that_the_model_does_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.training.build.grid", lambda model: 48)
    options = {"task": "recall", "steps": 1, "batch_size": 2, "width": 16, "device": "cpu"}
    with pytest.raises(UsageError, match="only at multiples of 48"):
        train(TrainConfig.of(**options, bptt_segments=1))
    train(TrainConfig.of(**options, bptt_segments=3))


# ---- the command line


def test_flags_go_before_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "task: {name: recall, settings: {facts: 2, segment: 8}, segments: 3}\nmodel: {width: 16}\noptimisation: {steps: 500}\n"
    )
    flags = "--steps 2 --task-settings facts=1 --mechanism delta --mechanism-settings heads=2 --betas 0.5 0.6 --no-tie-embeddings"
    assert run(["train", "run.yaml", *flags.split(), "--output", "out", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    config = report["config"]
    assert (report["step"], config["task"]["segments"], config["model"]["tie_embeddings"]) == (2, 3, False)
    assert config["optimisation"]["betas"] == [0.5, 0.6]
    assert config["task"]["settings"] == {"facts": 1, "segment": 8}
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
        ("train --task recall --mechanism-settings heads", "must be NAME=VALUE"),
        ("train --task recall --layers [[", "must be valid YAML"),
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
