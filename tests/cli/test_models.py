"""The models at hand, and names that are none."""

import json
import shutil
from pathlib import Path

import pytest

from tests.assistant.conftest import HEADS
from tests.commands import Run
from tests.pretrained.hostile import code_of_config, code_of_tokenizer


def test_models_tell_their_heads(run: Run, tiny_model: Path) -> None:
    calibrated = json.loads(run("models", "--calibrate", str(tiny_model), "--json").out)
    assert calibrated["heads"]
    assert 0 <= calibrated["first"] <= calibrated["reciprocal_rank"] <= 1
    assert json.loads(run("models", "--get", str(tiny_model), "--json").out)["window"] == 2048
    assert "llama  full" in run("models", "--families").out
    assert "smollm2" in run("models").out
    assert "give one of them" in run("models", "--families", "--get", "smollm2").sentence
    assert "no file" in run("models", "--add", "missing.whl").sentence


def test_wrong_names(run: Run, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # the hub reads the environment at import only
    unknown = run("ask", "library", "Who?", "--model", "nobody/nothing")
    assert unknown.code == 2
    assert "no model 'nobody/nothing'" in unknown.sentence
    assert "did you mean 'secret.md'" in run("forget", "library", "--source", "secrets.md", "--yes").sentence
    assert "--yes" in run("forget", "library", "--source", "secret.md").sentence
    assert "--as names one document" in run("read", "log.txt", "secret.md", "--into", "library", "--as", "x").sentence
    assert "unknown encoding" in run("read", "log.txt", "--into", "library", "--encoding", "klingon").sentence
    assert "dtype must be one of" in run("ask", "library", "Who?", "--dtype", "int3").sentence
    assert "device must be one that torch has" in run("ask", "library", "Who?", "--device", "toaster").sentence
    assert "empty" in run("ask", "library", " ").sentence
    assert "empty" in run("search", "library", "").sentence


def test_models_that_changed_are_named(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: HEADS)
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    assert run("models", "--get", str(folder)).code == 0
    assert f"{folder}, as of 20" in run("models").out
    assert json.loads(run("models", "--json").out)["folders"][0]["path"] == str(folder)
    assert run("models", "--verify").out == f"{folder}: as first loaded\n"
    (folder / "generation_config.json").write_text("{}")
    again = run("models", "--get", str(folder))
    assert again.code == 0
    assert again.err.count("generation_config.json changed") == 1
    verified = run("models", "--verify")
    assert verified.code == 1
    assert "generation_config.json" in verified.out
    assert "1 of 1 models" in verified.sentence
    assert json.loads(run("models", "--verify", "--json").out)[str(folder)].startswith("changed since 20")


def test_the_model_of_a_memory(run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dtype is that of the memory unless another is given; its code runs only if its name is given too."""
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: HEADS)
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "note.txt").write_text("A zinc trunk.")
    read = run("read", "note.txt", "--into", "m", "--model", str(folder), "--dtype", "bfloat16")
    assert read.code == 0
    assert run("search", "m", "zinc", "--json").code == 0
    other = run("search", "m", "zinc", "--dtype", "float32")
    assert other.code == 2
    assert "with dtype bfloat16, but here it is float32" in other.sentence
    assert "--trust-remote-code needs --model" in run("ask", "m", "Who?", "--trust-remote-code").sentence
    folder.rename(tmp_path / "moved")
    gone = run("search", "m", "zinc")
    assert gone.code == 2
    assert f"no model '{folder}' here. If its folder was moved, give the new one with --model" in gone.sentence
    assert run("search", "m", "zinc", "--model", str(tmp_path / "moved"), "--json").code == 0


def test_training_asks_nobody_whether_code_may_run(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPAN_MARKER", str(tmp_path / "marker"))
    folder = shutil.copytree(tiny_model, tmp_path / "remote")
    code_of_config(folder)
    code_of_tokenizer(folder)
    (tmp_path / "doc.txt").write_text("A zinc trunk. " * 500)
    options = [
        "--task",
        "language_modelling",
        "--data",
        "doc.txt",
        "--model",
        str(folder),
        "--lora",
        "2",
        "--steps",
        "2",
    ]
    trained = run("train", *options, stdin="y\n" * 10)
    assert trained.code == 2
    assert "contains code of its own" in trained.sentence
    assert not (tmp_path / "marker").exists()
