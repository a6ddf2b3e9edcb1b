"""Reading on: the memory and the windows are measured on the same tokens, and each way sees what it says."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from memspan.errors import UsageError
from memspan.evaluation.long_text import SLIDING, compare_reading
from memspan.tasks import LanguageModelling
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from tests.commands import Run

WINDOW = 16


def config(tiny_model: Path, **options: object) -> TrainConfig:
    settings = {"segment": 8, "valid": 0.01}
    return TrainConfig.of(
        task="language_modelling", model=str(tiny_model), task_settings=settings, device="cpu", **options
    )


def held_out(tiny_model: Path) -> LanguageModelling:
    task = build_task(config(tiny_model))
    assert isinstance(task, LanguageModelling)
    return task


def bits(model: torch.nn.Module, ids: torch.Tensor, first: int) -> float:
    """The bits of the last tokens of ids (T,), all but `first`, each predicted from all before it."""
    with torch.no_grad():
        logs = model(ids[None, :-1]).logits[0].float().log_softmax(1)
    return -float(logs[torch.arange(len(ids) - 1), ids[1:]][first - 1 :].sum()) / math.log(2)


def test_windows_see_their_own_tokens_alone(tiny_model: Path) -> None:
    """The whole stretch is the text but one token, so that its beginning is known."""
    task, model = held_out(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    windows = (len(task.held_out_text) - 2) // WINDOW - 1
    compared = compare_reading(config(tiny_model), [0], windows, WINDOW)
    memory, alone, sliding = compared.contenders
    assert (alone.name, sliding.name) == ("no memory", SLIDING)
    length = (1 + windows) * WINDOW
    start = random.Random(0).randrange(len(task.held_out_text) - length)
    ids = task.held_out_text[start : start + length + 1].long()
    count = windows * WINDOW * task.bytes_per_token
    each = [ids[at : at + WINDOW + 1] for at in range(WINDOW, length, WINDOW)]
    assert alone.mean == pytest.approx(sum(bits(model, part, 1) for part in each) / count, rel=1e-3)
    half = WINDOW // 2
    parts = [ids[at - half : at + half + 1] for at in range(WINDOW, length, half)]
    assert sliding.mean == pytest.approx(sum(bits(model, part, half + 1) for part in parts) / count, rel=1e-3)
    assert alone.state_bytes == sliding.state_bytes == 0 < memory.state_bytes


def test_a_memory_that_keeps_everything_is_the_whole_text(tiny_model: Path) -> None:
    task, model = held_out(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    compared = compare_reading(config(tiny_model), [3], 2, WINDOW)  # 48 tokens, fewer than the default memory holds
    start = random.Random(3).randrange(len(task.held_out_text) - 3 * WINDOW)
    ids = task.held_out_text[start : start + 3 * WINDOW + 1].long()
    expected = bits(model, ids, WINDOW + 1) / (2 * WINDOW * task.bytes_per_token)
    assert compared.contenders[0].mean == pytest.approx(expected, rel=1e-3)


def test_a_memory_of_one_window_forgets(tiny_model: Path) -> None:
    few = {"mechanism": "sink_window", "mechanism_settings": {"sinks": 0, "window": 8, "block": 8}}
    compared = compare_reading(config(tiny_model, **few), [0, 1], 2, 8)
    memory, alone, _ = compared.contenders
    assert memory.name == "sink_window (sinks 0, window 8, block 8)"
    assert [row["bits"] for row in memory.figures] == pytest.approx([row["bits"] for row in alone.figures], rel=1e-3)
    assert compared.lower_is_better


def test_what_cannot_be_compared(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match=r"The held-out text has .* tokens, but .* are to be read"):
        compare_reading(config(tiny_model), [0], 10**6, WINDOW)
    with pytest.raises(UsageError, match="must be an even number of tokens"):
        compare_reading(config(tiny_model), [0], 1, 15)


def test_the_command(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("It was a quiet street, and nobody came by. " * 40, "utf-8")
    done = run(
        *("compare", "--task", "language_modelling", "--model", str(tiny_model), "--data", str(book)),
        *("--task-settings", "segment=8", "--task-settings", "valid=0.5", "--mechanism", "retrieval"),
        *("--mechanism-settings", "block=8", "--budget", "16", "--limit", "2", "--seeds", "1", "--json"),
    )
    assert done.code == 0, done
    compared = json.loads(done.out)
    assert [each["name"] for each in compared["contenders"]] == ["retrieval (block 8)", "no memory", SLIDING]
    assert compared["baselines"]
