"""The notebook among the examples runs from its first cell to its last, on the tiny model."""

import json

import pytest

import memspan
from memspan.assistant.language_model import LanguageModel
from tests.paths import ROOT


@pytest.fixture(scope="module")
def tiny(tiny_model) -> LanguageModel:
    return memspan.load_model(tiny_model)


def test_it_runs(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((ROOT / "examples" / "memory.ipynb").read_text("utf-8"))
    monkeypatch.setattr(memspan, "load_model", lambda name: tiny, raising=False)
    names: dict[str, object] = {}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        exec(compile(cell, "memory.ipynb", "exec"), names)
    assert len(names["memory"].sources) == 2
    assert names["answer"].passages
    assert not any(cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
