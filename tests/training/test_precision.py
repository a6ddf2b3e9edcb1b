"""The precision `auto` is what the hardware computes in, and what a task chooses by itself is never another."""

import pytest
import torch

from memspan.pretrained.adapt import DTYPES, adapt
from memspan.tasks import TASKS
from memspan.training import build
from memspan.training.config import TrainConfig
from memspan.training.loop import make_accelerator
from memspan.training.precision import precision_of


def with_products(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": bfloat16}, raising=False)


@pytest.mark.parametrize(("bfloat16", "expected"), [(False, "fp32"), (True, "bf16")])
def test_auto_is_what_the_processor_computes_in(
    monkeypatch: pytest.MonkeyPatch, bases: dict[str, str], bfloat16: bool, expected: str
) -> None:
    with_products(monkeypatch, bfloat16=bfloat16)
    config = TrainConfig.of(task="classification", data=["texts.csv"], model=bases["causal"], precision="auto")
    assert precision_of(config) == expected
    assert make_accelerator(config).mixed_precision == {"fp32": "no", "bf16": "bf16"}[expected]
    assert build.sources_of(config).dtype == DTYPES[expected]
    model = adapt(config.model.name, 400, precision=precision_of(config))
    assert {weight.dtype for weight in model.body.parameters()} == {getattr(torch, DTYPES[expected])}


@pytest.mark.parametrize("named", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_named_stays(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    with_products(monkeypatch, bfloat16=named == "fp32")
    assert precision_of(TrainConfig.of(task="mqar", precision=named)) == named


def test_no_task_chooses_a_precision_that_a_processor_may_lack() -> None:
    chosen = {
        run.options["precision"] for task in TASKS.values() for run in task.default_runs if "precision" in run.options
    }
    assert chosen == {"auto"}
