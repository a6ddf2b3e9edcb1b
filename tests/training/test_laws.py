"""The laws of the training loop: what the optimizer receives, against a naive loop; shares and limits to the exact step."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from memspan.models.scratch import ScratchModel
from memspan.state import detach, losses
from memspan.tasks import IGNORE_INDEX, Batch, Task
from memspan.training import loop
from memspan.training.build import build_model, build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import make_accelerator, train
from memspan.training.measure import Score
from memspan.training.run import Run
from tests.training.test_loop import tiny


def cosine(fraction: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if fraction < warmup:
        return fraction / warmup
    return 0.5 * (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup)))


def naive(config: TrainConfig, steps: int) -> tuple[dict[str, Tensor], list[float]]:
    """The weights after so many steps, and the norms of the gradients before clipping: AdamW written out, one weight
    matrix after the other, from the config's numbers."""
    options = config.optimisation
    torch.manual_seed(config.run.seed)
    task = build_task(config)
    model = build_model(config, task)
    generator = torch.Generator().manual_seed(config.run.seed)
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in model.named_parameters()}
    norms, (beta1, beta2) = [], options.betas
    assert options.steps is not None
    for step in range(steps):
        rate = options.learning_rate * cosine(step / options.steps, options.warmup)
        batches = [
            task.batch(options.batch_size, config.task.segments, generator)
            for _ in range(options.gradient_accumulation)
        ]
        count = sum(int((batch.targets != IGNORE_INDEX).sum()) for batch in batches)
        for batch in batches:
            logits, state = model(batch.ids, None, None)
            loss = cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum") / count
            for own in losses(state):
                loss = loss + options.auxiliary_loss_weight * own.mean() / options.gradient_accumulation
            loss.backward()
        norm = torch.sqrt(sum((w.grad**2).sum() for w in model.parameters() if w.grad is not None))  # type: ignore[arg-type]
        norms.append(float(norm))
        scale = 1.0 if options.max_grad_norm is None else min(1.0, options.max_grad_norm / (float(norm) + 1e-6))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.grad is None:
                    continue
                gradient, (first, second) = weight.grad * scale, moments[name]
                weight.mul_(1 - rate * (options.weight_decay if weight.dim() >= 2 else 0.0))
                first.mul_(beta1).add_(gradient, alpha=1 - beta1)
                second.mul_(beta2).add_(gradient**2, alpha=1 - beta2)
                corrected = (second / (1 - beta2 ** (step + 1))).sqrt() + 1e-8
                weight.sub_(rate * (first / (1 - beta1 ** (step + 1))) / corrected)
                weight.grad = None
    return dict(model.named_parameters()), norms


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mechanism": "ltm", "mechanism_settings": {"segment": 8, "latents": 4}, "auxiliary_loss_weight": 0.7},
        {"gradient_accumulation": 3, "batch_size": 4},
        {"max_grad_norm": None, "weight_decay": 0.5, "betas": (0.5, 0.7), "warmup": 0.0},
    ],
    ids=["plain", "auxiliary loss", "accumulated", "unclipped"],
)
def test_five_steps_are_those_of_a_naive_loop(changes: dict[str, Any]) -> None:
    """Rate per step, decay per group, clipping, accumulation and auxiliary losses, weight by weight."""
    config = tiny(
        **{"steps": 12, "warmup": 0.25, "learning_rate": 1e-2, "weight_decay": 0.2, "max_grad_norm": 0.05, **changes}
    )
    run = Run(config, make_accelerator(config))
    run.prepared.train()
    for _ in range(5):
        run.step()
    expected, norms = naive(config, 5)
    assert config.optimisation.max_grad_norm is None or max(norms) > 2 * config.optimisation.max_grad_norm  # it clips
    for name, weight in run.model.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=2e-4, atol=2e-6, msg=name)


def test_matrices_decay_and_vectors_do_not() -> None:
    """Without a gradient, decay is all that changes a weight."""
    config = tiny(weight_decay=0.5, learning_rate=0.1, warmup=0.0, max_grad_norm=1e-30, steps=1000)
    run = Run(config, make_accelerator(config))
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    run.step()
    for name, weight in run.model.named_parameters():
        factor = 1 - 0.1 * 0.5 if weight.dim() >= 2 else 1.0
        # Clipped to nothing, Adam's normalised step is not nothing: at most the rate times |g| / eps, here below 1e-3.
        torch.testing.assert_close(weight.detach(), before[name] * factor, rtol=0, atol=2e-3, msg=name)


def test_the_share_of_replayed_batches(tmp_path: Any) -> None:
    """A fifth: a share that its complement cannot be taken for."""
    first = tiny(output=str(tmp_path / "first"), steps=1)
    train(first)
    config = tiny(init_from=str(tmp_path / "first" / "last"), replay=0.2)
    run = Run(config, make_accelerator(config))
    own = sum(run.next_batch()[1] for _ in range(400))
    assert 0.74 < own / 400 < 0.86


@pytest.fixture
def no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements whose loss falls twice and then never again."""
    made: Iterator[float] = iter([3.0, 2.0, 1.0, *[1.0] * 100])

    def measure(*_: Any) -> Score:
        return Score(1, 1, 0.0, next(made), 0.0, 1, 1, 1.0)

    monkeypatch.setattr(loop, "measure", measure)


@pytest.mark.usefixtures("no_better")
@pytest.mark.parametrize("patience", [1, 3])
def test_patience_ends_at_the_exact_step(patience: int) -> None:
    report = train(tiny(steps=60, eval_every=2, patience=patience))
    assert (report.best_step, report.stopped) == (4, "patience")
    assert report.step == 4 + 2 * patience


@pytest.mark.usefixtures("no_better")
def test_patience_waits_for_the_end_of_the_curriculum() -> None:
    """Held-out streams are as long as those at the end, so a model that is still trained on short ones is not judged."""
    report = train(tiny(steps=20, eval_every=2, patience=1, segments=3, curriculum=2, curriculum_accuracy=1.0))
    assert report.history[-1]["segments"] == 2
    assert (report.step, report.stopped) == (20, "steps")


class Counting(Task):
    """Streams that go on from batch to batch: token n of the stream is n."""

    vocabulary, segment = 512, 4

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        return self.next_batch(0, batch_size, segments, generator)[0]

    def next_batch(
        self, position: int, batch_size: int, segments: int, generator: torch.Generator
    ) -> tuple[Batch, int]:
        end = position + segments * 4
        ids = torch.arange(position, end).expand(batch_size, -1)
        return Batch(ids, ids.clone(), position == 0), 0 if end >= 96 else end


def test_gradients_stop_at_a_cut_and_the_state_does_not() -> None:
    """Two segments per batch, cut after each: equals reading the same segments with detached states in between."""
    config = tiny(segments=2, bptt_segments=1, max_grad_norm=None, mechanism="delta", steps=50, warmup=0.0)
    run = Run(config, make_accelerator(config), Counting())
    model = build_same(config)
    state, taken = None, []
    run.optimizer.optimizer.register_step_pre_hook(
        lambda *_: taken.append([p.grad.clone() for p in run.parameters if p.grad is not None])
    )
    for step in range(3):
        model.load_state_dict(run.model.state_dict())
        model.zero_grad()
        run.step()
        batch, _ = Counting().next_batch(step * 8, 8, 2, torch.Generator())
        for ids, targets in zip(batch.ids.split(4, 1), batch.targets.split(4, 1), strict=True):
            logits, state = model(ids, state, None)
            (cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / targets.numel() / 2).backward()
            state = detach(state)
        expected = [p.grad for p in model.parameters() if p.grad is not None]
        for seen, wanted in zip(taken[-1], expected, strict=True):
            torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-6)


def build_same(config: TrainConfig) -> ScratchModel:
    torch.manual_seed(config.run.seed)
    model = build_model(config, Counting())
    assert isinstance(model, ScratchModel)
    return model
