"""Question answering: records of every shape, contexts that stay together, and answers that are in the text."""

import json
import random
from pathlib import Path

import pytest
import torch

from memspan.errors import UsageError
from memspan.tasks import IGNORE_INDEX, DataSource
from memspan.tasks.text.base import TextTask
from memspan.tasks.text.question_answering import QuestionAnswering
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.paths import DATA

SMALL = {"segment": 32, "vocabulary": 400}


@pytest.fixture(scope="module")
def task() -> QuestionAnswering:
    return QuestionAnswering(**SMALL)


def test_a_stream_ends_with_question_and_answer(task: QuestionAnswering) -> None:
    batch = task.batch(4, 4, torch.Generator().manual_seed(0))
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        asked = [place for place, target in enumerate(targets) if target != IGNORE_INDEX]
        assert asked == list(range(asked[0], len(ids)))
        read = task.tokenizer.decode(ids[: asked[0]])
        context, question = read.split("\n")
        person, thing = question.strip().removeprefix("Where did ").removesuffix("?").split(" leave ")
        said = task.tokenizer.decode([targets[place] for place in asked])
        assert f"{person} left {thing} {said}." in context
        assert targets[-1] == task.tokenizer.end


def test_no_context_is_on_both_sides(tmp_path: Path) -> None:
    records = [
        {"context": f"Text {number // 3} says much.", "question": f"Which is {number}?", "answers": [str(number)]}
        for number in range(60)
    ]
    records += [{"context": "Nothing.", "question": "Why?", "answers": []}]  # not answered: left out
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    made = QuestionAnswering(DataSource([str(path)], held_out=0.3), **SMALL)
    sides = [{record["context"] for record in some} for some in (made.records, made.held_out().records)]
    assert not sides[0] & sides[1]
    assert len(made.records) + len(made.held_out().records) == 60
    (shelf,) = made.document_sets(4, random.Random(1))
    assert len(shelf.documents) == len(set(shelf.documents)) == 4
    assert len(shelf.records) == 12
    assert {record["context"] for record in shelf.records} == set(shelf.documents) <= sides[1]
    assert made.document_sets(4, random.Random(2)) != [shelf]
    alone = TextTask.document_sets(made, 4, random.Random(1))  # as other tasks have it: every source on its own
    assert [one.documents for one in alone] == [[source] for source in shelf.documents]
    assert all(record["context"] == one.documents[0] for one in alone for record in one.records)
    (everything,) = made.document_sets(1000, random.Random(0))
    assert set(everything.documents) == sides[1]


def test_answers_of_every_shape(task: QuestionAnswering) -> None:
    shapes = ["in Rome", ["in Rome", "Rome"], {"text": ["in Rome"], "answer_start": [3]}]
    records = [{"context": "x", "question": "y", "answers": shape} for shape in shapes]
    assert [task.example(record).target for record in records] == ["in Rome"] * 3
    assert task.compute_metrics(records, ["in Rome", "rome.", "It was in Rome"])["exact match"] == pytest.approx(2 / 3)
    assert task.compute_metrics(records, ["in Rome", "rome.", "It was in Rome"])["contains"] == 1


def test_the_nearest_sentence_is_a_baseline(task: QuestionAnswering) -> None:
    """It holds the answer among some words more, so its F1 is neither nothing nor everything."""
    told = task.baselines(50)["nearest sentence"]
    assert 0.2 < told < 0.9


def test_trained_from_nothing() -> None:
    settings = {"task": "question_answering", "task_settings": {**SMALL, "limit": 40}, "segments": 3, "width": 32}
    report = train(
        TrainConfig.of(**settings, mechanism="delta", batch_size=8, steps=12, eval_every=12, learning_rate=1e-2)
    )
    assert report.history[-1]["held_out_loss"] < report.history[0]["held_out_loss"] - 1
    assert set(report.metrics) == {"exact match", "F1", "contains"}


@pytest.mark.parametrize(
    ("format", "path", "question"),
    [
        ("squad", "squad11_dev/dev-v1.1.json.zip", None),
        ("squad", "cmrc2018/cmrc2018_trial.json", "？"),
        ("squad", "xquad_en_zh/xquad.zh.json", "？"),
        ("multihop", "multihop_small/musique_train.json", "?"),
    ],
)
def test_public_corpora(format: str, path: str, question: str | None) -> None:
    if not (DATA / path).exists():
        pytest.skip(f"{DATA / path} is not here")
    made = QuestionAnswering(DataSource([str(DATA / path)], format=format, limit=40), **SMALL)
    examples = [made.example(record) for record in made.held_out().records]
    if format == "squad":
        assert all(example.target in example.source for example in examples)
    assert question is None or any(question in example.question for example in examples)
    gold = [example.target for example in examples]
    assert made.compute_metrics(made.held_out().records, gold)["F1"] == pytest.approx(1)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("context,question,answer\na,b,c\n")
    with pytest.raises(UsageError, match="no column 'answers'"):
        QuestionAnswering(DataSource([str(path)]))
    made = QuestionAnswering(DataSource([str(path)] * 4, rename={"answer": "answers"}, test=[str(path)]), **SMALL)
    assert made.records[0]["answers"] == "c"
