"""Measuring: the counts are right, memory does not grow with the stream, and a model is measured on what it was made for."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.evaluation.evaluate import evaluate, measured_on, plot
from memspan.evaluation.predict import predict
from memspan.mechanisms import window_only
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.state import State
from memspan.tasks import IGNORE_INDEX, Batch, Task
from memspan.tasks.synthetic.recall import Recall
from memspan.training.build import task_of_checkpoint
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.measure import loss_and_correct, measure


class Alternating(Task):
    """Zeros and ones in turn, asked at every second token."""

    vocabulary, segment = 2, 4

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        ids = (torch.arange(segments * 4) % 2).expand(rows, -1)
        return Batch(ids, torch.where(ids == 1, 0, IGNORE_INDEX))


class Counting(nn.Module):
    """Says 0 with probability 3/4, but after eight tokens 1; its state is the tokens so far, as long as it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.lengths: list[int] = []

    def forward(self, ids: Tensor, state: State = None, keep: int | None = None) -> tuple[Tensor, State]:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.lengths.append(ids.shape[1])
        seen = ids.new_zeros(len(ids), 1) if state is None else state["seen"]
        places = seen + torch.arange(ids.shape[1])
        likely = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log()
        logits = likely[(places >= 8).long()]
        return logits[:, logits.shape[1] - keep :] if keep is not None else logits, {"seen": seen + ids.shape[1]}


def test_counts() -> None:
    model = Counting()
    score = measure(model, Alternating(), segments=3, batch_size=5)
    assert model.lengths == [4, 4, 4]  # segment by segment
    assert model.training
    assert (score.targets, score.distance) == (30, 12)
    assert score.accuracy == pytest.approx(4 / 6)  # tokens 1, 3, 5, 7 of 1, 3, ..., 11
    assert score.loss == pytest.approx(-(4 * math.log(0.75) + 2 * math.log(0.25)) / 6)
    assert score.bits == pytest.approx(score.loss / math.log(2))
    assert score.state_bytes == 8
    assert measure(model, Alternating(), 3, batch_size=2, batches=3).targets == 36


class Divided(Alternating):
    """Its training streams have no target at all."""

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        batch = super().batch(rows, segments, generator)
        return Batch(batch.ids, torch.full_like(batch.targets, IGNORE_INDEX))

    def held_out(self) -> Task:
        return Alternating()


def test_what_is_measured_is_held_out() -> None:
    assert measure(Counting(), Divided(), segments=3, batch_size=5).targets == 30


def test_tally_is_cross_entropy_of_what_is_asked() -> None:
    logits = torch.randn(2, 3, 5)
    targets = torch.tensor([[1, IGNORE_INDEX, 2], [IGNORE_INDEX, IGNORE_INDEX, 4]])
    counts = loss_and_correct(logits, targets)
    assert counts is not None
    logarithms = logits.log_softmax(2)
    torch.testing.assert_close(counts[0], -(logarithms[0, 0, 1] + logarithms[0, 2, 2] + logarithms[1, 2, 4]))
    assert loss_and_correct(logits, torch.full((2, 3), IGNORE_INDEX)) is None


def save(folder: Path, vocabulary: int = 64) -> ScratchModel:
    torch.manual_seed(0)
    model = ScratchModel(ScratchConfig(vocabulary, 16, [[window_only(8), {"name": "delta"}]]))
    model.save_pretrained(folder)
    return model


def test_segments_are_the_whole_stream(tmp_path: Path) -> None:
    model, task = save(tmp_path), Recall(facts=1, segment=8)
    batch = task.batch(6, 4, torch.Generator().manual_seed(3))
    counts = loss_and_correct(model(batch.ids)[0], batch.targets)
    assert counts is not None
    (score,) = evaluate(tmp_path, "recall", {"facts": 1, "segment": 8}, segments=[4], batch_size=6, seed=3)
    assert score.loss == pytest.approx(counts[0].item() / 6, rel=1e-4)


def test_a_bounded_state_stays_as_large(tmp_path: Path) -> None:
    save(tmp_path)
    scores = evaluate(tmp_path, "recall", {"facts": 1, "segment": 8}, segments=[4, 40], batch_size=2)
    assert [one.distance for one in scores] == [32, 320]
    assert scores[0].state_bytes == scores[1].state_bytes > 0
    plot(scores, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
    with pytest.raises(UsageError, match="cannot be written"):
        plot(scores, tmp_path / "none" / "a.png")


def test_without_matplotlib_there_is_a_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'memspan\[plots\]'"):
        plot([], tmp_path / "a.png")


def test_the_task_of_the_training(tmp_path: Path) -> None:
    save(tmp_path)
    TrainConfig.of(task="recall", task_settings={"facts": 2, "segment": 8}).save(tmp_path / "config.yaml")
    task = task_of_checkpoint(tmp_path, None, {"facts": 1})
    assert isinstance(task, Recall)
    assert (task.facts, task.segment) == (1, 8)


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    save(tmp_path, vocabulary=10)
    with pytest.raises(UsageError, match="name a task"):
        evaluate(tmp_path)
    with pytest.raises(UsageError, match="a vocabulary of 64 tokens, but the model one of 10"):
        evaluate(tmp_path, "recall")
    with pytest.raises(UsageError, match="numbers of at least 1"):
        evaluate(tmp_path, "recall", segments=[])
    with pytest.raises(UsageError, match="There is no folder"):
        evaluate(tmp_path / "none", "recall")
    with pytest.raises(UsageError, match="no files of held-out records"):
        measured_on(tmp_path, ["new.csv"], "recall")
    assert measured_on(tmp_path, []) == {}


def test_a_model_predicts_when_its_data_are_gone(tmp_path: Path) -> None:
    for name in ("train", "test"):
        lines = "".join(f"buy {number},buy\nsell {number},sell\n" for number in range(20))
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{lines}")
    config = TrainConfig.of(
        task="classification",
        task_settings={"test": str(tmp_path / "test.csv"), "segment": 8, "vocabulary": 300},
        data=[str(tmp_path / "train.csv")],
        mechanism="gru",
        segments=2,
        width=16,
        depth=1,
        batch_size=8,
        steps=30,
        learning_rate=2e-2,
        augment={"swap": 0.1},
        device="cpu",
        output=str(tmp_path / "first"),
    )
    train(config)
    train(config.replace(init_from=str(tmp_path / "first" / "last"), replay=0.5, output=str(tmp_path / "second")))
    for path in (tmp_path / "train.csv", tmp_path / "test.csv"):
        path.unlink()
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    said = predict(tmp_path / "second" / "last", ["buy 3", "sell 4"])
    assert said == ["buy", "sell"]
    first = tmp_path / "elsewhere" / "last"
    assert predict(first, ["sell 5", "buy 1"]) == ["sell", "buy"]
    (tmp_path / "new.csv").write_text("text,label\nbuy 8,buy\nsell 9,buy\nsell 7,sell\nsell 1,sell\n")
    (score,) = evaluate(first, settings=measured_on(first, [tmp_path / "new.csv"]), segments=[2])
    assert score.metrics["accuracy"] == 0.75
