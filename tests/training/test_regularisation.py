"""What regularisation does to losses, gradients and weights; and that a run with all of it can be resumed."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from memspan.errors import UsageError
from memspan.models.scratch import ScratchModel
from memspan.tasks import IGNORE_INDEX
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.measure import loss_and_correct, measure
from memspan.training.regularisation import Attack, Average, symmetric_kl
from tests.training.test_loop import Stopped, assert_same_weights, gradients, reading, stopped_at, text, tiny, weights

__all__ = ["text"]


def test_smoothing_is_that_of_torch() -> None:
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[1, IGNORE_INDEX, 4], [IGNORE_INDEX, 0, 2]])
    counts = loss_and_correct(logits, targets, 0.2)
    assert counts is not None
    expected = cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(counts[0], expected)
    batch = build_task(tiny()).batch(8, 2, torch.Generator().manual_seed(3))
    plain, smooth = (gradients(tiny(max_grad_norm=None, label_smoothing=one), [batch]) for one in (0.0, 0.2))
    assert any(not torch.allclose(one, other) for one, other in zip(plain, smooth, strict=True))


# ---- adversarial training


class Linear(nn.Module):
    """Its loss is linear in the embedded tokens, so the worst change is known."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.weight = nn.Embedding(5, 3), nn.Parameter(torch.tensor([2.0, -1.0, 2.0]))

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.embedding(ids) @ self.weight
        return scores[:, -2:].sum()


@pytest.mark.parametrize("steps", [1, 3])
def test_the_worst_change_of_a_linear_loss(steps: int) -> None:
    model, ids = Linear(), torch.tensor([[0, 1, 2], [3, 4, 0]])
    before = model.embedding.weight.detach().clone()
    attack = Attack(model, epsilon=0.5, steps=steps)
    with attack.watched():
        clean = model(ids)
    assert torch.equal(clean, model(ids))
    clean.backward()
    assert model.weight.grad is not None
    own = model.weight.grad.clone()
    perturbed_loss = attack.perturbed_loss(lambda: (model(ids),))
    # Along the gradient, 0.5 in each of two rows; there the gradient is the weight at two of three tokens.
    torch.testing.assert_close(perturbed_loss - clean, torch.tensor(2 * 0.5 * (2 * 9) ** 0.5))
    perturbed_loss.backward()
    assert not torch.allclose(model.weight.grad - own, own)  # the weights learn from other inputs
    assert torch.equal(model.embedding.weight, before)
    assert torch.equal(model(ids), clean)  # and nothing stays behind


@pytest.mark.parametrize("kind", ["fgm", "pgd"])
def test_adversarial_training_changes_gradients_by_epsilon(kind: str) -> None:
    batch = build_task(tiny()).batch(8, 2, torch.Generator().manual_seed(3))
    plain = gradients(tiny(max_grad_norm=None), [batch])
    nothing, much = (
        gradients(tiny(max_grad_norm=None, adversarial=kind, adversarial_epsilon=one), [batch]) for one in (1e-9, 2.0)
    )
    for one, twice in zip(plain, nothing, strict=True):
        torch.testing.assert_close(2 * one, twice, rtol=1e-3, atol=1e-6)  # the same loss, once more
    assert any(not torch.allclose(one, other, rtol=0.01) for one, other in zip(nothing, much, strict=True))


def test_a_model_without_an_embedding() -> None:
    with pytest.raises(UsageError, match="no embedding"):
        Attack(nn.Linear(2, 2), 1.0)


# ---- agreement


def test_disagreement_is_the_symmetric_divergence_of_what_is_asked() -> None:
    one, other, targets = torch.randn(1, 2, 4), torch.randn(1, 2, 4), torch.tensor([[IGNORE_INDEX, 3]])
    p, q = one[0, 1].softmax(-1), other[0, 1].softmax(-1)
    expected = (kl_div(q.log(), p, reduction="sum") + kl_div(p.log(), q, reduction="sum")) / 2
    torch.testing.assert_close(symmetric_kl(one, other, targets), expected)
    assert symmetric_kl(one, one, targets) == 0


def test_consistency_needs_dropout() -> None:
    with pytest.raises(UsageError, match="set `dropout`"):
        tiny(rdrop=1.0)
    batch = build_task(tiny()).batch(8, 2, torch.Generator().manual_seed(3))
    little, much = (gradients(tiny(max_grad_norm=None, dropout=0.2, rdrop=one), [batch]) for one in (1e-9, 5.0))
    assert any(not torch.allclose(one, other) for one, other in zip(little, much, strict=True))


def test_two_passes_that_agree_weigh_as_much_as_one() -> None:
    """The loss is the mean of both passes, not their sum: with next to no dropout R-Drop changes nothing."""
    batch = build_task(tiny()).batch(8, 2, torch.Generator().manual_seed(3))
    once, twice = (gradients(tiny(max_grad_norm=None, dropout=1e-12, rdrop=weight), [batch]) for weight in (0.0, 1.0))
    for plain, doubled in zip(once, twice, strict=True):
        torch.testing.assert_close(doubled, plain)


# ---- averages


def test_the_average_follows_its_recurrence() -> None:
    weight = nn.Parameter(torch.zeros(1))
    average, expected = Average([weight], 0.5), 0.0
    for step in range(1, 20):
        with torch.no_grad():
            weight.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.weights[0].item() == pytest.approx(expected)
    average.swap_weights()
    assert weight.item() == pytest.approx(expected)
    assert average.weights[0].item() == 19
    average.swap_weights()
    assert weight.item() == 19


def test_averaged_weights_are_measured_and_saved(tmp_path: Path) -> None:
    plain, averaged = train(tiny()), train(tiny(ema_decay=0.9, output=str(tmp_path / "run")))
    assert any(not torch.equal(one, weights(plain)[name]) for name, one in weights(averaged).items())
    saved = ScratchModel.from_pretrained(tmp_path / "run" / "last")
    assert_same_weights(dict(saved.state_dict()), weights(averaged))
    assert measure(saved, build_task(tiny()), 2, 8).loss == pytest.approx(averaged.score.loss)
    assert plain.history[1]["loss"] == averaged.history[1]["loss"]  # what is trained is not the average


def test_a_run_with_all_of_it_goes_on_exactly(text: Path, tmp_path: Path) -> None:
    changes = {"ema_decay": 0.9, "adversarial": "fgm", "rdrop": 0.5, "label_smoothing": 0.1, "steps": 10}
    whole = train(reading(text, **changes))
    config = reading(text, output=str(tmp_path / "run"), **changes)
    with pytest.raises(Stopped):
        train(config, stopped_at(7))
    assert_same_weights(weights(train(config, resume=True)), weights(whole))


def test_what_cannot_be() -> None:
    for changes, sentence in (
        ({"adversarial": "fmg"}, "adversarial must be one of fgm, pgd, got 'fmg'"),
        ({"ema_decay": 1.5}, "from 0 to 1"),
        ({"adversarial_epsilon": 0}, "above 0"),
        ({"augment": {"swap": 0.1}}, "this task has none"),
        ({"ewc": 1.0}, "name its model with `init_from`"),
    ):
        with pytest.raises(UsageError, match=sentence):
            build_task(TrainConfig.of(task="recall", **changes))
