"""A compiled model is trained as one that is not."""

import functools
from typing import Any

import pytest
import torch

from memspan.errors import UsageError
from memspan.plugins import is_installed
from memspan.training import compiling
from memspan.training.config import TrainConfig
from memspan.training.loop import train


def tiny(**changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "task": "recall", "task_settings": {"facts": 1, "segment": 8}, "segments": 2, "mechanism": "delta",
        "window": 0, "width": 8, "depth": 1, "batch_size": 4, "steps": 2, "eval_every": 1, "device": "cpu",
    }  # fmt: skip
    return TrainConfig.of(**{**fields, **changes})


def compare() -> None:
    plain, faster = train(tiny()), train(tiny(compile=True))
    assert len(plain.history) == 3
    for record, other in zip(plain.history, faster.history, strict=True):
        assert record["held_out_loss"] == pytest.approx(other["held_out_loss"], rel=1e-5)
    weights = dict(plain.model.named_parameters())
    for name, weight in faster.model.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about what it does not compile into one graph
def test_losses_are_those_of_a_model_that_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but not written as C++, which takes half a minute."""
    calls = []
    traced = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(compiling.torch, "compile", lambda model: calls.append(model) or traced(model))
    compare()
    assert len(calls) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_as_cpp() -> None:
    compare()


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler, like g\+\+: install one, or leave the option out"):
        train(tiny(compile=True))
    if not is_installed("triton"):
        with pytest.raises(UsageError, match="needs Triton for a GPU"):
            compiling.compiled(torch.nn.Linear(1, 1), torch.device("cuda"))
    with pytest.raises(UsageError, match="does not go together with `fsdp` or `adversarial`"):
        tiny(compile=True, adversarial="fgm")
