"""A pretrained model with its memory and without: both see as much text, and only one of them sees the right one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from memspan import cli
from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE
from memspan.evaluation.memory_vs_window import MEMORY, PromptedModel, compare_memory_with_window
from memspan.memory.index.calibration import RetrievalHeads
from memspan.pretrained import hub
from memspan.pretrained.decoding import Decoder
from memspan.pretrained.identity import weights_sample
from memspan.pretrained.model_cache import cache_folder
from memspan.training.build import build_task
from memspan.training.config import TrainConfig

TOWNS = ("Aldburg", "Brevik", "Corvino", "Dunmore", "Estrela", "Falkirk", "Gruyere", "Hovden", "Imatra", "Jesenik")


@pytest.fixture(scope="module")
def setup(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Twenty paragraphs, each about a town of its own; the model's retrieval heads are taken as calibrated."""
    loaded = hub.load(str(tiny_model))
    path = cache_folder() / "heads" / f"{weights_sample(loaded.model)[:32]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    RetrievalHeads(((0, 1), (1, 0), (1, 3)), 1.0, 1.0).save(path, loaded.identity)
    about = "The old market of {0} was built by {1} men, and the river runs past it. " * 3
    records = [
        {
            "context": about.format(town + suffix, number),
            "question": f"How many men built the market of {town + suffix}?",
            "answers": [str(number)],
        }
        for number, (town, suffix) in enumerate((town, suffix) for town in TOWNS for suffix in ("", "haven"))
    ]
    path = tmp_path_factory.mktemp("towns") / "towns.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    settings = {"limit": 40, "held_out": 0.8}
    return {"task": "question_answering", "model": str(tiny_model), "data": [str(path)], "task_settings": settings}


def test_memory_sees_what_the_window_does_not(setup: dict[str, object]) -> None:
    lines: list[str] = []
    config = TrainConfig.of(**setup, device="cpu")
    told = compare_memory_with_window(config, [0, 1], limit=5, documents=12, budget=160, note=lines.append)
    memory, none = told.contenders
    assert (memory.name, none.name, told.metric) == (MEMORY, NONE, "F1")
    assert len(lines) == 4
    assert len(memory.figures) == len(none.figures) == 2
    for reminded, recent in zip(memory.figures, none.figures, strict=True):
        assert reminded["in sight"] >= 0.8 > recent["in sight"]  # BM25 knows the towns' names
        assert reminded["passage@5"] >= reminded["passage@1"] >= 0.6
        assert "passage@1" not in recent
    assert memory.state_bytes > none.state_bytes == 0
    again = compare_memory_with_window(config, [0], limit=5, documents=12, budget=160)
    assert again.contenders[0].figures[0] == memory.figures[0]


def test_both_are_asked_with_as_many_tokens(setup: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[str]] = {MEMORY: [], NONE: []}
    measure = PromptedModel.measure

    def spy(self: PromptedModel, document_sets: list, view: Any) -> tuple[dict[str, float], int]:
        texts = seen[MEMORY if view == self.with_memory else NONE]
        monkeypatch.setattr(self, "answer", lambda question, text: texts.append(text) or "")
        return measure(self, document_sets, view)

    monkeypatch.setattr(PromptedModel, "measure", spy)
    config = TrainConfig.of(**setup, device="cpu")
    compare_memory_with_window(config, [0], limit=5, documents=12, budget=160)
    lm = PromptedModel(config, build_task(config), 160, 0).lm
    lengths = {name: [len(lm.tokenizer(text)["input_ids"]) for text in texts] for name, texts in seen.items()}
    assert all(150 <= length <= 161 for length in lengths[NONE])
    assert all(0 < length <= 165 for length in lengths[MEMORY])  # whole passages, and what stands between them
    assert len(set(seen[NONE])) == 1  # the end of the text, whatever the question


def test_examples_are_shown_before_the_question(setup: dict[str, object]) -> None:
    config = TrainConfig.of(**setup, device="cpu")
    asker = PromptedModel(config, build_task(config), 160, 2)
    asker.begin(0)
    shown = asker.lm.tokenizer.decode(asker.prefix)
    assert shown.count("\nAnswer: ") == shown.count("How many men") == 2
    trained = [asker.task.example(record) for record in asker.task.records]
    assert any(f"{one.question}\nAnswer: {one.target}\n\n" in shown for one in trained)
    assert "\n" not in asker.answer("How many?", "Some text.")


@pytest.mark.parametrize(
    ("task", "instruction"),
    [("question_answering", "in a few words: How many men"), ("summarisation", "in one paragraph: ")],
)
def test_the_instruction_is_the_tasks_or_that_of_the_assistant(
    setup: dict[str, object], task: str, instruction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[list[int]] = []
    monkeypatch.setattr(Decoder, "generate", lambda self, ids, sampling: prompts.append(ids) or iter(()))
    changes = {} if task == setup["task"] else {"data": [], "task_settings": {"limit": 20, "held_out": 0.5}}
    config = TrainConfig.of(**{**setup, "task": task, **changes}, device="cpu")
    compare_memory_with_window(config, [0], limit=1, documents=2, budget=60)
    tokenizer = AutoTokenizer.from_pretrained(setup["model"])
    assert len(prompts) == 2
    assert all(f"Answer from the text above, {instruction}" in tokenizer.decode(ids) for ids in prompts)


def test_low_rank_changes_are_learned_first(setup: dict[str, object]) -> None:
    config = TrainConfig.of(**setup, device="cpu", lora=2, segments=2, batch_size=2, steps=2)
    told = compare_memory_with_window(config, [0], limit=2, documents=3, budget=100)
    plain = compare_memory_with_window(config.replace(lora=None), [0], limit=2, documents=3, budget=100)
    assert told.contenders[0].parameters > plain.contenders[0].parameters
    assert 0 <= told.contenders[0].mean <= 1


@pytest.mark.parametrize(
    ("task", "metric"),
    [("question_answering", "F1"), ("dialogue", "BLEU"), ("summarisation", "ROUGE-L"), ("translation", "chrF")],
)
@pytest.mark.parametrize("lora", [None, 2])
def test_every_task_that_writes(setup: dict[str, object], task: str, metric: str, lora: int | None) -> None:
    changes = {"task": task, "data": [], "task_settings": {"limit": 20, "held_out": 0.5}, "lora": lora, "steps": 2}
    config = TrainConfig.of(**{**setup, **changes}, device="cpu", segments=2, batch_size=2)
    told = compare_memory_with_window(config, [0], limit=2, documents=3, budget=60)
    assert told.metric == metric
    assert told.contenders[0].state_bytes > told.contenders[1].state_bytes == 0
    assert bool(told.baselines) == (task != "dialogue")


def test_baselines_are_of_the_questions_that_were_asked(setup: dict[str, object]) -> None:
    """The nearest of a paragraph's sentences has the answer as one of thirteen words or so."""
    config = TrainConfig.of(**setup, device="cpu")
    told = compare_memory_with_window(config, [0], limit=5, documents=12, budget=160)
    assert set(told.baselines) == {"nearest sentence, given the right document"}
    (value,) = told.baselines.values()
    assert 0.1 < value < 0.3
    task = build_task(config)
    one = task.with_records(held_out=task.held_out().records[:1])
    assert one.held_out().records == task.held_out().records[:1]
    assert one.records == task.records


def test_on_the_command_line(setup: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    (data,) = setup["data"]
    options = ["--task", "question_answering", "--model", setup["model"], "--data", data, "--device", "cpu"]
    options += ["--task-settings", "held_out=0.8", "--seeds", "1", "--limit", "2", "--documents", "3"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", *options, "--budget", "80", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["contenders"]] == [MEMORY, NONE]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["compare", *options, "--shots", "2"])
    assert re.search(r"The memory makes .*F1", capsys.readouterr().out)


def test_what_cannot_be(setup: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="labels rather than written answers"):
        compare_memory_with_window(TrainConfig.of(task="classification", model=str(setup["model"])), [0])
    with pytest.raises(UsageError, match="has no documents"):
        compare_memory_with_window(TrainConfig.of(task="language_modelling", model=str(setup["model"])), [0])
    with pytest.raises(UsageError, match="must be at least 1 and shots at least 0, got 40, 60, 0 and 0"):
        compare_memory_with_window(TrainConfig.of(**setup), [0], budget=0)
    with pytest.raises(UsageError, match=r"^The streams of the task 'recall' hold more than words"):
        build_task(TrainConfig.of(task="recall", model=str(setup["model"])))
