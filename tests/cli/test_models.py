"""The models at hand, and names that are none."""

import json
from pathlib import Path

import pytest

from tests.commands import Run


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
