"""Extractive models as a user meets them: trained, used and compared by commands, with a pretrained model by default."""

import json
from pathlib import Path
from typing import Any

import pytest

from memspan.errors import UsageError
from memspan.models.saved import open_model
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.commands import Run

TOWNS = ("Aldburg", "Brevik", "Corvino", "Dunmore", "Estrela", "Falkirk", "Gruyere", "Hovden", "Imatra", "Jesenik")


@pytest.fixture
def towns(tmp_path: Path) -> Path:
    """Paragraphs about towns with a question about each."""
    rows: list[dict[str, Any]] = [
        {
            "context": f"The old market of {town} was built by {number + 20} men. The river runs past it.",
            "question": f"How many men built the market of {town}?",
            "answers": [str(number + 20)],
        }
        for number, town in enumerate(TOWNS)
    ]
    path = tmp_path / "towns.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def test_an_answer_is_words_of_the_text(run: Run, towns: Path, tiny_model: Path) -> None:
    options = ["--task", "question_answering", "--data", str(towns), "--task-settings", "held_out=0.3"]
    done = run("train", *options, "--model", str(tiny_model), "--precision", "fp32", "--output", "out")
    assert done.code == 0, done
    assert "Trained on 7 texts" in done.out
    assert "nearest sentence" in done.out
    assert "memspan predict out/best --file TEXT --question" in done.out
    context = json.loads(towns.read_text("utf-8").splitlines()[0])["context"]
    predicted = run("predict", "out/best", context, "--question", "How many men built the market?")
    assert predicted.code == 0, predicted
    assert predicted.out.strip() in context
    measured = json.loads(run("eval", "out", "--json").out)
    saved = json.loads(Path("out/report.json").read_text("utf-8"))
    assert measured["records"] == saved["details"]["texts"]["held out"] == 3
    assert measured["metrics"] == saved["metrics"]
    low, high = measured["intervals"]["F1"]
    assert low <= measured["metrics"]["F1"] <= high
    assert "Measured on 10 records of towns.jsonl." in run("eval", "out/best", "--data", "towns.jsonl").out
    assert open_model("out/best").config.extract == "spans"


def test_comparison_without_a_model_named_extracts(
    run: Run, towns: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memspan.pretrained.hub.DEFAULT", str(tiny_model))
    options = ["--task", "question_answering", "--data", str(towns), "--task-settings", "held_out=0.5", "--seeds", "1"]
    done = run("compare", *options, "--precision", "fp32", "--documents", "5", "--budget", "30", "--json")
    assert done.code == 0, done
    memory, window = json.loads(done.out)["contenders"]
    assert memory["figures"][0]["in sight"] == 1.0 > window["figures"][0]["in sight"]
    assert memory["state_bytes"] > 0


def test_summaries_and_what_an_engine_writes_from_them(
    run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    class Engine:
        name, window = "engine", None

        def answer(self, messages: Any, sampling: Any) -> Any:
            prompts.append(messages[-1]["content"])
            yield " written "

    monkeypatch.setattr("memspan.assistant.answerers.answerer_of", lambda target, note: Engine())
    options = ["compare", "--task", "summarisation", "--extract", "--model", str(tiny_model), "--precision", "fp32"]
    options += ["--seeds", "1", "--limit", "6", "--documents", "6", "--budget", "20", "--task-settings", "limit=60"]
    extracted = json.loads(run(*options, "--json").out)
    assert extracted["contenders"][0]["mean"] > extracted["contenders"][1]["mean"]
    assert not prompts
    written = json.loads(run(*options, "--json", "--answer-with", "engine").out)
    assert len(prompts) == 12
    assert written["contenders"][0]["mean"] == 0.0
    assert all("Answer from the text above, in one paragraph: What is the text about?" in prompt for prompt in prompts)


def test_what_cannot_be(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match=r"^`extract` reads with a pretrained model as it is"):
        TrainConfig.of(task="summarisation", extract=True)
    with pytest.raises(UsageError, match="it is for question_answering and summarisation"):
        train(TrainConfig.of(task="translation", extract=True, model=str(tiny_model)))
