"""Translation: what is held out and said, and the neighbour that a network has to beat."""

from pathlib import Path

import pytest
import torch

from memspan.errors import UsageError
from memspan.tasks import IGNORE_INDEX, build
from memspan.tasks.text.translation import Translation
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.paths import DATA

TATOEBA = DATA / "tatoeba_cmn_eng/cmn_2019.txt"


def made(**settings: object) -> Translation:
    task = build("translation", vocabulary=400, **settings)
    assert isinstance(task, Translation)
    return task


def test_the_answer_is_asked_behind_the_source() -> None:
    task = made()
    batch = task.streams(task.records[:4], segments=4)
    for record, ids, targets in zip(task.records, batch.ids, batch.targets, strict=False):
        source, target = (task.tokenizer.encode(str(record[column])) for column in ("source", "target"))
        asked = targets[targets != IGNORE_INDEX].tolist()
        assert asked == [*target[:31], task.tokenizer.end]
        read = ids[ids != task.tokenizer.pad].tolist()
        assert read == [*source, *task.tokenizer.answer, *asked[:-1]]


def test_all_tokens_may_be_asked_for() -> None:
    task = made(all_tokens=True)
    batch = task.streams(task.records[:4], segments=4)
    for ids, targets in zip(batch.ids, batch.targets, strict=True):
        asked = targets != IGNORE_INDEX
        assert torch.equal(ids[asked][1:], targets[asked][:-1])
        assert (ids[~asked] == task.tokenizer.pad).all()


def test_one_source_is_never_on_both_sides(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("source,target\n" + "".join(f"s{number % 20},t{number}\n" for number in range(80)), "utf-8")
    task = made(data=str(file), held_out=0.2)
    assert not {record["source"] for record in task.records} & {record["source"] for record in task.held_out_records}
    assert (len(task.records), len(task.held_out_records)) == (64, 16)
    assert [record["source"] for record in task.held_out_records] != sorted(
        record["source"] for record in task.held_out_records
    )


def test_the_other_way_round() -> None:
    forth = made()
    assert forth.example(forth.records[0]).source.isascii()
    assert not forth.example(forth.records[0]).target.isascii()


def test_the_baseline_knows_what_it_was_shown() -> None:
    task = made()
    seen = task.records[:20]
    assert task.with_records(held_out=seen).baselines()["most similar sentence"] == pytest.approx(100.0)
    assert task.compute_metrics(seen, [str(record["target"]) for record in seen]) == pytest.approx(
        {"chrF": 100.0, "BLEU": 100.0}
    )


def test_an_answer_has_a_token() -> None:
    with pytest.raises(UsageError, match="at least one token"):
        made(answer_tokens=0)


def test_it_is_learned_and_said(tmp_path: Path) -> None:
    """A few sentences by heart: training, saving and saying fit together."""
    file = tmp_path / "pairs.tsv"
    pairs = [("I am tired.", "我累了。"), ("Open the door.", "打开门。"), ("It is raining.", "下雨了。")]
    file.write_text("source\ttarget\n" + "".join(f"{one}\t{other}\n" for one, other in pairs), "utf-8")
    settings = {"test": str(file), "vocabulary": 300, "segment": 8}
    config = TrainConfig.of(
        task="translation", data=[str(file)], task_settings=settings, segments=4, width=32, depth=1,
        mechanism="delta", steps=150, batch_size=3, learning_rate=1e-2, eval_every=10**6,
    )  # fmt: skip
    report = train(config)
    task = build_task(config)
    assert isinstance(task, Translation)
    assert task.predict(report.model, [one for one, _ in pairs], segments=4) == [other for _, other in pairs]
    assert report.metrics["chrF"] == pytest.approx(100.0)


@pytest.mark.skipif(not TATOEBA.exists(), reason="the corpus is not at hand")
def test_tatoeba() -> None:
    task = made(data=str(TATOEBA), format="tatoeba", limit=2000, rename={"source": "target", "target": "source"})
    assert not task.example(task.records[0]).source.isascii()
    assert 5 < task.baselines(100)["most similar sentence"] < 50
