"""A run after another one: it begins with its model, rehearses its task, and holds the weights that matter for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.tasks import Batch, Task
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.ewc import EWC
from memspan.training.loop import make_accelerator, train
from memspan.training.run import Run
from tests.training.test_loop import Stopped, assert_same_weights, reading, stopped_at, tiny, weights


class Bias(nn.Module):
    """Says the same whatever it reads: its Fisher information is p (1 - p)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.tensor([0.0, 1.0, 2.0])), nn.Parameter(torch.ones(2))

    def forward(self, ids: Tensor, state: Any, keep: int | None) -> tuple[Tensor, Any]:
        return self.weight.expand(*ids.shape, 3), state


class One(Task):
    vocabulary, segment = 3, 1

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        return Batch(torch.zeros(rows, 1, dtype=torch.int64), torch.zeros(rows, 1, dtype=torch.int64))


def test_importance_is_the_fisher_information() -> None:
    model = Bias()
    anchor = EWC.estimate(model, One(), 1, streams=3000)
    p = model.weight.softmax(-1)
    torch.testing.assert_close(anchor.fisher[0], (p * (1 - p)).detach(), atol=0.02, rtol=0)
    assert torch.equal(anchor.fisher[1], torch.zeros(2))
    assert model.weight.grad is None
    model.unused.requires_grad_(False)  # as most weights under low-rank changes
    assert torch.equal(EWC.estimate(model, One(), 1, streams=3).fisher[1], torch.zeros(2))
    anchor.add_gradient(list(model.parameters()), 1.0)
    assert model.unused.grad is None


def test_the_anchor_pulls_as_its_penalty_does() -> None:
    weights = [nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2, 2))]
    anchor = EWC([torch.rand(3), torch.rand(2, 2)], [torch.randn(3), torch.randn(2, 2)])
    penalty = sum(
        0.7 / 2 * (fisher * (one - first) ** 2).sum()
        for one, fisher, first in zip(weights, anchor.fisher, anchor.weights, strict=True)
    )
    expected = torch.autograd.grad(penalty, weights)  # type: ignore[arg-type]
    weights[0].grad = torch.ones(3)
    anchor.add_gradient(weights, 0.7)
    assert weights[0].grad is not None
    torch.testing.assert_close(weights[0].grad, expected[0] + 1)
    torch.testing.assert_close(weights[1].grad, expected[1])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, str]:
    """A run on one text."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "text.txt").write_bytes(bytes((7 * place * place + place // 3) % 251 for place in range(6000)))
    config = reading(folder / "text.txt", steps=8, output=str(folder / "run"))
    train(config)
    return config, str(folder / "run" / "last")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.txt"
    path.write_bytes(bytes((5 * place + place // 7) % 13 for place in range(6000)))
    return path


def test_it_begins_where_the_first_run_ended(first: tuple[TrainConfig, str]) -> None:
    config, folder = first
    again = train(config.replace(output=None, init_from=folder, steps=1))
    ended = train(config, resume=True)
    assert again.history[0]["held_out_loss"] == ended.history[-1]["held_out_loss"]
    with pytest.raises(UsageError, match="a vocabulary of 256 tokens, but this task has"):
        train(tiny(init_from=folder))


def test_rehearsal_leaves_the_own_streams_alone(first: tuple[TrainConfig, str], other: Path) -> None:
    config = reading(other, init_from=first[1], replay=0.5, gradient_accumulation=1, curriculum=None)
    run = Run(config, make_accelerator(config))
    own = 0
    for _ in range(12):
        position = run.at.position
        run.step()
        own += run.at.position != position
        assert run.at.position == own * 3 * 16  # each own batch goes on where the last one ended
        assert (run.stream_state is None) == (own == 0)
    assert 0 < own < 12
    letters = [int(run.next_batch()[0].ids.max()) for _ in range(12)]
    assert min(letters) < 13 < max(letters)  # of both texts


def test_held_weights_move_less(first: tuple[TrainConfig, str], other: Path) -> None:
    def moved(strength: float) -> float:
        config = reading(other, init_from=first[1], ewc=strength, dropout=0.0)
        run = Run(config, make_accelerator(config))
        run.ewc = EWC.estimate(run.model, build_task(first[0]), 2, streams=8) if strength else None
        before = [one.detach().clone() for one in run.parameters]
        for _ in range(6):
            run.step()
        return sum(float((one.detach() - old).abs().sum()) for one, old in zip(run.parameters, before, strict=True))

    assert moved(1e4) < moved(0.0)


def test_such_a_run_goes_on_exactly(first: tuple[TrainConfig, str], other: Path, tmp_path: Path) -> None:
    config = reading(other, init_from=first[1], replay=0.3, ewc=10.0, steps=10)
    whole = train(config)
    with pytest.raises(Stopped):
        train(config.replace(output=str(tmp_path / "run")), stopped_at(7))
    assert_same_weights(weights(train(config.replace(output=str(tmp_path / "run")), resume=True)), weights(whole))
