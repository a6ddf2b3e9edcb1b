"""Texts as streams, and labels read from them; what holds here holds for every task on texts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.state import State
from memspan.tasks import IGNORE_INDEX, DataSource, build
from memspan.tasks.records import Example
from memspan.tasks.text.classification import Classification

LONG = "word " * 400


@pytest.fixture(scope="module")
def task() -> Classification:
    return Classification(segment=16, vocabulary=300)


def table(path: Path, lines: list[str]) -> str:
    path.write_text("text,label\n" + "".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


class Knows(nn.Module):
    """Says label `choose(ids)`."""

    def __init__(self, task: Classification, choose: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.task, self.choose, self.unused = task, choose, nn.Parameter(torch.zeros(()))

    def forward(self, ids: Tensor, state: State = None, keep: int | None = None) -> tuple[Tensor, State]:
        logits = torch.zeros(len(ids), 1, self.task.vocabulary)
        for row, one in enumerate(ids):
            logits[row, 0, self.task.tokenizer.size + self.choose(one)] = 1.0
        return logits, None


def test_the_label_is_asked_for_behind_the_text(task: Classification) -> None:
    record = task.records[0]
    batch = task.streams([record], 100)
    ids, targets = batch.ids[0].tolist(), batch.targets[0].tolist()
    assert len(ids) % 16 == 0
    assert task.tokenizer.decode([one for one in ids if one not in task.tokenizer.answer]) == record["text"]
    assert tuple(ids[-1:]) == task.tokenizer.answer
    assert targets[:-1] == [IGNORE_INDEX] * (len(targets) - 1)
    assert task.labels[targets[-1] - task.tokenizer.size] == record["label"]


def test_a_text_that_is_too_long_loses_its_end_but_not_the_question(task: Classification) -> None:
    ids = task.streams([{"text": LONG, "label": "praise"}], 2).ids[0].tolist()
    assert len(ids) == 32
    assert ids == [*task.tokenizer.encode(LONG)[:31], *task.tokenizer.answer]


def test_a_question_that_is_too_long_keeps_its_end(task: Classification) -> None:
    question = [*task.tokenizer.encode("\nWhich of all the labels is it?"), *task.tokenizer.answer]
    assert task.prompt_ids(Example(LONG, "", "Which of all the labels is it?"), 5) == question[-5:]
    assert task.prompt_ids(Example("", "", "Which of all the labels is it?"), 99) == question


def test_labels_that_are_not_trained_on_are_not_held_out(tmp_path: Path) -> None:
    rare = [f"once {number},rare {number}" for number in range(20)]
    source = DataSource(table(tmp_path / "rare.csv", [*rare, *["again,a", "again,b"] * 10]), held_out=0.5)
    task = Classification(source, vocabulary=300)
    labels = {record["label"] for record in task.records}
    assert {record["label"] for record in task.held_out_records} <= labels
    assert 0 < len(task.held_out_records) < 20
    assert 3 < len(labels) < 22


def test_the_seed_of_the_split_holds_out_other_records(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [f"text {number},{'ab'[number % 2]}" for number in range(40)])
    held_out = [
        {
            record["text"]
            for record in Classification(DataSource(path, split_seed=seed), vocabulary=300).held_out_records
        }
        for seed in (0, 0, 1)
    ]
    assert held_out[0] == held_out[1] != held_out[2]
    assert len(held_out[2]) == 4


def test_rows_of_a_batch_are_about_as_long(task: Classification) -> None:
    batch = task.batch(8, 100, torch.Generator().manual_seed(0))
    lengths = (batch.ids != task.tokenizer.pad).sum(1)
    assert lengths.max() - lengths.min() < 60
    assert batch.ids.shape[1] - lengths.max() < 16


def test_records_held_out_are_not_trained_on(task: Classification) -> None:
    held = {record["text"] for record in task.held_out().records}
    assert len(held) == 60
    assert not held & {record["text"] for record in task.records}


def test_scores_of_a_model_that_knows(task: Classification) -> None:
    gold = {
        tuple(task.prompt_ids(task.example(one), 1600)): task.numbers[one["label"]] for one in task.held_out_records
    }
    right = Knows(task, lambda ids: gold[tuple(one for one in ids.tolist() if one != task.tokenizer.pad)])
    assert task.score(right, 100) == {"accuracy": 1.0, "macro F1": 1.0}
    always = task.score(Knows(task, lambda ids: 0), 100)
    assert always["accuracy"] == sum(one["label"] == task.labels[0] for one in task.held_out_records) / 60
    assert task.baselines()["most frequent label"] < 0.3 < task.baselines()["TF-IDF + linear"]


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_measured_in_eval_mode_and_left_as_it_was(task: Classification, training: bool) -> None:
    modes = []
    model = Knows(task, lambda ids: modes.append(model.training) or 0).train(training)
    task.score(model, 100, limit=4)
    assert modes == [False] * 4
    assert model.training == training


def test_a_saved_task_predicts_without_data(task: Classification, tmp_path: Path) -> None:
    task.save(tmp_path)
    twin = Classification(DataSource(None), segment=16, saved=str(tmp_path))
    assert (twin.vocabulary, twin.labels) == (task.vocabulary, task.labels)
    assert twin.predict(Knows(twin, lambda ids: 2), ["anything", "else"], 4) == [task.labels[2]] * 2


def test_the_order_of_texts_is_kept(task: Classification) -> None:
    said = task.predict(Knows(task, lambda ids: min(3, int((ids != 0).sum()) - 2)), ["a b c", "a", "a b"], 4)
    assert len({*said}) == 3
    assert said == [
        task.labels[3 if n > 3 else n] for n in (len(task.tokenizer.encode(t)) - 1 for t in ["a b c", "a", "a b"])
    ]


def test_outside_of_all_labels_is_counted_apart(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ["buy it,buy", "sell it,sell", "how is the weather,oos"] * 20)
    task = Classification(DataSource(path), vocabulary=300)
    records = [{"text": "", "label": label} for label in ("buy", "sell", "oos", "oos")]
    scores = task.compute_metrics(records, ["buy", "buy", "oos", "sell"])
    assert scores["in-scope accuracy"] == scores["out-of-scope recall"] == 0.5
    scores = task.compute_metrics(records, ["buy", "buy", "buy", "sell"])
    assert (scores["in-scope accuracy"], scores["out-of-scope recall"]) == (0.5, 0.0)


def test_what_is_rejected_is_no_label_of_its_own(tmp_path: Path) -> None:
    """A rejection costs the recall of the right label, and nothing more; a method that rejects nothing is measured alike."""
    path = table(tmp_path / "a.csv", ["buy it,buy", "sell it,sell", "how is the weather,oos"] * 20)
    task = Classification(DataSource(path), vocabulary=300, reject=0.05)
    assert task.metric == "in-scope macro F1"
    records = [{"text": "", "label": label} for label in ("buy", "buy", "sell", "sell", "oos", "oos")]
    scores = task.compute_metrics(records, ["buy", "oos", "sell", "sell", "oos", "buy"])
    assert scores == {
        "accuracy": pytest.approx(4 / 6),
        "in-scope macro F1": pytest.approx((2 / 3 + 1) / 2),
        "in-scope rejected": 0.25,
        "in-scope accuracy": 0.75,
        "out-of-scope recall": 0.5,
    }
    never = task.compute_metrics(records, ["buy", "buy", "sell", "sell", "sell", "buy"])
    assert (never["in-scope macro F1"], never["in-scope rejected"], never["out-of-scope recall"]) == (1, 0, 0)
    intervals = task.intervals(records * 10, ["buy", "oos", "sell", "sell", "oos", "buy"] * 10)
    assert intervals.keys() == scores.keys()
    assert all(low <= scores[name] <= high for name, (low, high) in intervals.items())
    assert task.baselines().keys() == {"TF-IDF + linear", "most frequent label"}


def test_mistakes(tmp_path: Path) -> None:
    good = table(tmp_path / "good.csv", ["one,a", "two,b"] * 10)
    with pytest.raises(UsageError, match="one label 'a'"):
        Classification(DataSource(table(tmp_path / "one.csv", ["one,a", "two,a"] * 10)))
    with pytest.raises(UsageError, match=r"label 'c', which the model was not trained for. Known: a, b"):
        Classification(DataSource(good, table(tmp_path / "strange.csv", ["one,a", "three,c"])))
    with pytest.raises(UsageError, match="too few records"):
        Classification(DataSource(table(tmp_path / "empty.csv", [",a", ",b", ",a"])))
    with pytest.raises(UsageError, match="held_out=2"):
        build("classification", held_out=2)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="must be a tokenizer that memspan saved"):
        Classification(DataSource(None), saved=str(tmp_path))
