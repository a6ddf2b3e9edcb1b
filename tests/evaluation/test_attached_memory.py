"""A pretrained model with a memory attached answers questions about texts: each way sees what it says."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memspan.errors import UsageError
from memspan.evaluation import attached_memory
from memspan.evaluation.ablation import NONE
from memspan.evaluation.attached_memory import WHOLE, AttachedReader, View, compare_attached
from memspan.evaluation.memory_vs_window import draw_documents
from memspan.tasks import TextTask
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from tests.commands import Run

EVERYTHING = {"mechanism": "sink_window", "mechanism_settings": {"sinks": 4, "window": 1536, "block": 64}}
FEW = {"mechanism": "sink_window", "mechanism_settings": {"sinks": 0, "window": 16, "block": 16}}


def config(tiny_model: Path, **options: object) -> TrainConfig:
    settings = {"words": 80, "texts": 4, "segment": 32, "kind": "multi_key", "needles": 2}
    given = {"task_settings": settings, "mechanism": "retrieval", **options}
    return TrainConfig.of(task="long_context", model=str(tiny_model), device="cpu", **given)


def prepared(tiny_model: Path, **options: object) -> tuple[AttachedReader, TextTask]:
    run = config(tiny_model, **options)
    task = build_task(run)
    assert isinstance(task, TextTask)
    task.answer_tokens = 6
    return AttachedReader(run, task), task


def written(folder: Path, ids: list[int], count: int) -> str:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    out = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)
    return tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip()


def test_a_memory_that_keeps_everything_answers_as_the_window_does(tiny_model: Path) -> None:
    reader, task = prepared(tiny_model, **EVERYTHING)
    drawn = draw_documents(task, 2, 4, random.Random(0))
    remembered, size = reader.answers(drawn, View(None, True))
    in_window, nothing = reader.answers(drawn, View(None, False))
    assert remembered == in_window
    assert size > nothing == 0
    (document,), records = drawn[0]
    ids = reader.prompt(document, task.example(records[0]).question)
    assert len(ids) > 3 * 32  # read in several segments
    assert in_window[0] == written(tiny_model, ids, 6)


def test_without_a_memory_only_the_end_is_read(tiny_model: Path) -> None:
    reader, task = prepared(tiny_model, **FEW)
    drawn = draw_documents(task, 2, 4, random.Random(1))
    (document,), records = drawn[0]
    last = reader._last_tokens(document, 20)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert document.endswith(last)
    assert len(tokenizer(last, add_special_tokens=False)["input_ids"]) == 20
    answers, _ = reader.answers(drawn, View(20, False))
    ids = reader.prompt(last, task.example(records[0]).question)
    assert answers[0] == written(tiny_model, ids, 6)
    assert answers != reader.answers(drawn, View(None, True))[0]


def test_a_text_beyond_the_positions_has_no_window(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("memspan.tasks.synthetic.long_context.LongContext.answer_tokens", 4)
    compared = compare_attached(config(tiny_model), [0, 1], 2, 2, 40, lines.append)
    assert [each.name for each in compared.contenders] == ["retrieval", NONE, WHOLE]
    assert len(lines) == 6
    assert compared.baselines["nearest sentence"] >= 0.5
    long = {"words": 1600, "texts": 2, "segment": 128, "needles": 2}
    compared = compare_attached(config(tiny_model, task_settings=long), [0], 1, 1, 40)
    assert [each.name for each in compared.contenders] == ["retrieval", NONE]
    assert compared.contenders[0].state_bytes > 0


def test_a_trained_model_is_asked_in_the_form_of_its_training(tiny_model: Path) -> None:
    reader, task = prepared(tiny_model, lora=2, steps=1, batch_size=2, segments=6)
    ids = reader.prompt("A text.", "Why?")
    assert AutoTokenizer.from_pretrained(tiny_model).decode(ids) == "A text.\nWhy?\nAnswer:"
    drawn = draw_documents(task, 1, 1, random.Random(0))
    answers, _ = reader.answers(drawn, View(None, True))
    assert len(answers or []) == 1


def test_what_cannot_be_compared(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="must be at least 1, got 0, 1 and 1"):
        compare_attached(config(tiny_model), [0], 0, 1, 1)
    with pytest.raises(UsageError, match="labels rather than written answers"):
        compare_attached(config(tiny_model).replace(task="classification", task_settings={}), [0])


def test_the_command(run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached_memory, "Sampling", lambda max_new_tokens: Shortest)
    options = ["--task", "long_context", "--model", str(tiny_model), "--task-settings", "words=60"]
    options += ["--mechanism", "sink_window", "--mechanism-settings", "window=128", "--limit", "1", "--seeds", "1"]
    done = run("compare", *options, "--json")
    assert done.code == 0, done
    compared = json.loads(done.out)
    assert [each["name"] for each in compared["contenders"]] == ["sink_window (window 128)", NONE, WHOLE]
    assert compared["metric"] == "recall"
    done = run("compare", *options, "--shots", "1")
    assert (done.code, "leave out --shots and --answer-with" in done.err) == (2, True)


Shortest = attached_memory.Sampling(max_new_tokens=2)
