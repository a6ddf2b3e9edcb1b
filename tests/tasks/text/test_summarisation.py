"""Summarisation: what is read and judged, and the beginnings of texts that a network has to beat."""

import pytest

from memspan.tasks import IGNORE_INDEX, build
from memspan.tasks.text.summarisation import Summarisation
from tests.paths import DATA

CSL = DATA / "csl_zh/ts_test.tsv"
SQUALITY = DATA / "squality/v1-3_dev.jsonl"


def made(**settings: object) -> Summarisation:
    task = build("summarisation", vocabulary=400, **settings)
    assert isinstance(task, Summarisation)
    return task


def test_a_question_stands_between_text_and_summary() -> None:
    task = made()
    record = {"text": "It rained. Then it snowed.", "summary": "bad weather", "question": "What was it like?"}
    batch = task.streams([record], segments=4)
    text, summary = (task.tokenizer.encode(record[name]) for name in ("text", "summary"))
    question = task.tokenizer.encode("\n" + record["question"])
    assert batch.ids[0].tolist() == [*text, *question, *task.tokenizer.answer, *summary]
    assert batch.targets[0][batch.targets[0] != IGNORE_INDEX].tolist() == [*summary, task.tokenizer.end]


def test_a_long_text_loses_its_end_but_not_the_question() -> None:
    task = made(segment=16)
    record = {"text": "word " * 500, "summary": "words", "question": "What is it?"}
    (ids,) = task.streams([record], segments=2).ids.tolist()
    asked = [*task.tokenizer.encode("\n" + record["question"]), *task.tokenizer.answer, *task.tokenizer.encode("words")]
    assert len(ids) == 32
    assert ids[-len(asked) :] == asked


def test_the_best_of_several_summaries_counts() -> None:
    task = made()
    records = [{"summary": "a b c", "summaries": ["a b c", "x y z"]}]
    assert task.compute_metrics(records, ["x y z"])["ROUGE-L"] == 1.0
    assert task.compute_metrics([{"summary": "a b c"}], ["x y z"])["ROUGE-L"] == 0.0


def test_the_baselines_are_beginnings() -> None:
    task = made()
    train = [{"text": "", "summary": "three words here"}]
    task = task.with_records(train, held_out=[{"text": "One two three. Four five.", "summary": "one two three"}])
    assert task.baselines() == {"first sentence": 1.0, "first 3 words": 1.0}
    task = task.with_records(held_out=[{"text": "版本3.5很好。第二句话。", "summary": "版本3.5很好"}])
    assert task.baselines()["first sentence"] == 1.0


@pytest.mark.skipif(not CSL.exists(), reason="the corpus is not at hand")
def test_csl() -> None:
    task = made(data=str(CSL), format="csl_title")
    assert 0.1 < task.baselines(100)["first sentence"] < 0.4


@pytest.mark.skipif(not SQUALITY.exists(), reason="the corpus is not at hand")
def test_questions_about_one_story_stay_together() -> None:
    task = made(data=str(SQUALITY), format="squality", tokenizer=None, held_out=0.3)
    assert not {record["text"] for record in task.records} & {record["text"] for record in task.held_out_records}
    assert task.example(task.held_out_records[0]).question
