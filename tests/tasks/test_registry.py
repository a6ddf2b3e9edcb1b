"""The registry: flat settings, sources of records, tasks of other packages, and the types that other rooms name."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from memspan.errors import UsageError
from memspan.tasks import (
    TASKS,
    DataSource,
    RecordTask,
    TextTask,
    build,
    require,
    settings_of,
    task_class,
    task_names,
)
from memspan.tasks.data_source import drawn
from memspan.tasks.samples import word_lists
from memspan.tasks.synthetic.recall import Recall
from memspan.tasks.text.classification import Classification

RECORD_TASKS = sorted(name for name in TASKS if issubclass(TASKS[name], RecordTask))
SOURCE = ["data", "test", "format", "test_format", "rename", "held_out", "split_seed", "limit"]

PLUGIN = '''
from memspan.tasks import Example, Guide, Task, TextTask


class Echo(TextTask):
    """A task on texts in a file of its own, as another package would write it."""

    columns, metric = ("text",), "exact"
    guide = Guide("text", "none", on_sample="--mechanism delta", on_files="--data echo.csv")

    def example(self, record):
        return Example(record["text"], record["text"])

    def compute_metrics(self, records, predictions):
        pairs = zip(records, predictions, strict=True)
        return {"exact": sum(record["text"] == text for record, text in pairs) / len(records)}

    @staticmethod
    def sample(count):
        return [{"text": f"echo {number % 7}"} for number in range(count)]


class NoTask:
    pass
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a task, a class that is none, and an entry point that does not import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "echo_tasks.py").write_text(PLUGIN, "utf-8")
    info = tmp_path / "echo_tasks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo_tasks\nVersion: 1.0\n", "utf-8")
    entries = {
        "echo": "echo_tasks:Echo",
        "none": "echo_tasks:NoTask",
        "lost": "echo_tasks:Lost",
        "recall": "echo_tasks:Echo",
    }
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[memspan.tasks]", *lines, ""]), "utf-8")


def test_a_source_is_filled_from_flat_settings() -> None:
    assert list(settings_of("classification")) == [
        *SOURCE, "segment", "vocabulary", "tokenizer", "answer_tokens", "all_tokens", "saved", "reject", "balance",
    ]  # fmt: skip
    assert list(settings_of("recall")) == ["facts", "segment", "aligned"]
    flat = build("classification", limit=40, held_out=0.25, vocabulary=300)
    direct = Classification(DataSource(limit=40, held_out=0.25), vocabulary=300)
    assert isinstance(flat, Classification)
    assert flat.records == direct.records
    assert flat.held_out_records == direct.held_out_records
    assert (len(flat.records), len(flat.held_out_records)) == (40, 40)


@pytest.mark.parametrize("name", RECORD_TASKS)
def test_every_task_on_records_takes_the_settings_of_a_source(name: str) -> None:
    assert set(settings_of(name)) >= {*SOURCE, "segment", "vocabulary", "tokenizer", "saved"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"limit": 1}, "limit must be at least 2, got limit=1"),
        ({"held_out": 1.0}, r"held_out must be between 0 and 1, got held_out=1\.0"),
        ({"segment": 0}, "segment must be at least 1, got segment=0"),
        ({"test_format": "squad"}, "name the files with `data`"),
        ({"colour": "red"}, "no setting 'colour'; it knows data, test, format"),
        ({"limit": "few"}, "'limit' of the task 'classification' must be a whole number, got limit='few'"),
    ],
)
def test_a_source_that_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        build("classification", **settings)


def test_files_held_out_and_their_format(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.jsonl"
    train.write_text("text,label\n" + "".join(f"train {n},{'ab'[n % 2]}\n" for n in range(30)), "utf-8")
    rows = [{"body": f"test {n}", "kind": "ab"[n % 2]} for n in range(12)]
    test.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    settings = {"data": str(train), "test": [str(test)], "rename": {"body": "text", "kind": "label"}}
    task = build("classification", **settings)
    assert [record["text"] for record in task.records] == [f"train {n}" for n in range(30)]  # type: ignore[attr-defined]
    held_out = task.held_out().records  # type: ignore[attr-defined]
    assert [record["text"] for record in held_out] == [f"test {n}" for n in range(12)]
    few = build("classification", **settings, limit=10)
    assert len(few.records) == len(few.held_out().records) == 10  # type: ignore[attr-defined]
    assert drawn(range(3), 5) == range(3)


@pytest.mark.parametrize("with_test", [False, True])
def test_a_limit_draws_from_the_whole_of_sorted_files_and_always_the_same(tmp_path: Path, with_test: bool) -> None:
    """Files that hold all texts of a label before those of the next one, as folders of labels do."""
    path = tmp_path / "sorted.csv"
    path.write_text("text,label\n" + "".join(f"text {n},label {n // 50}\n" for n in range(200)), "utf-8")
    settings = {"data": str(path), "held_out": 0.4, "limit": 24, "vocabulary": 300}
    settings |= {"test": str(path)} if with_test else {}
    tasks = [build("classification", split_seed=seed, **settings) for seed in (0, 0, 1)]
    first, again, other = (task.records for task in tasks)  # type: ignore[attr-defined]
    assert first == again != other
    for records in (first, tasks[0].held_out().records):  # type: ignore[attr-defined]
        assert len(records) == 24
        assert len({record["label"] for record in records}) == 4
        assert records == sorted(records, key=lambda record: int(record["text"].split()[1]))


def test_a_part_of_the_held_out_records_is_drawn_from_all_labels(tmp_path: Path) -> None:
    path = tmp_path / "sorted.csv"
    path.write_text("text,label\n" + "".join(f"text {n},label {n // 50}\n" for n in range(200)), "utf-8")
    task = Classification(DataSource(str(path), str(path)), vocabulary=300)
    part = task.some_held_out(24)
    assert part == task.some_held_out(24)
    assert {record["label"] for record in part} == {f"label {n}" for n in range(4)}
    assert task.some_held_out(None) == task.held_out_records


def test_test_files_of_another_format(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "pairs.txt"
    train.write_text("source,target\n" + "".join(f"one {n},eins {n}\n" for n in range(20)), "utf-8")
    test.write_text("two\tzwei\tCC-BY\nthree\tdrei\tCC-BY\n", "utf-8")
    task = build("translation", data=str(train), test=str(test), test_format="tatoeba", vocabulary=300)
    assert [record["source"] for record in task.held_out().records] == ["two", "three"]  # type: ignore[attr-defined]
    assert len(task.records) == 20  # type: ignore[attr-defined]


def test_records_can_be_replaced() -> None:
    task = Classification(DataSource(limit=40), vocabulary=300, segment=16)
    some, other = task.records[:3], task.records[5:7]
    changed = task.with_records(some, held_out=other)
    assert (changed.records, changed.held_out_records) == (some, other)
    assert (len(task.records), len(task.held_out_records)) == (40, 40)
    assert task.with_records(some).held_out_records == task.held_out_records
    assert task.with_records(held_out=other).records == task.records
    assert changed.held_out().records == other
    generator = torch.Generator().manual_seed(0)
    streams = changed.batch(8, 99, generator).ids.tolist()
    assert {task.tokenizer.decode(row) for row in streams} <= {record["text"] for record in some}


def test_histories_that_are_replaced_are_trained_on() -> None:
    task = build("recommendation", limit=20, segment=4)
    assert isinstance(task, RecordTask)
    changed = task.with_records(task.records[:1])
    items = {task.tokenizer.size + task.catalogue.numbers[event.item.id] for event in task.records[0]["events"]}  # type: ignore[attr-defined]
    ids = changed.batch(16, 3, torch.Generator().manual_seed(0)).ids
    assert set(ids[ids >= task.tokenizer.size].tolist()) <= items


def test_a_task_is_required_to_be_of_a_kind() -> None:
    task = build("translation", limit=10, vocabulary=300)
    assert require(task, TextTask, "never") is task
    with pytest.raises(UsageError, match=r"^Nothing to read\.$"):
        require(Recall(), TextTask, "Nothing to read.")
    with pytest.raises(UsageError, match="items"):
        require(build("recommendation"), TextTask, "Its input are items.")


def test_samples_are_the_same_at_every_call_and_of_their_word_lists() -> None:
    for name in RECORD_TASKS:
        cls = task_class(name)
        assert cls.sample(9) == cls.sample(20)[:9] or name == "recommendation"  # type: ignore[attr-defined]
    cards = build("recommendation").sample(2)  # type: ignore[attr-defined]
    assert {event["genres"] for event in cards} <= set(word_lists("recommendation")["genre_of_series"].values())


def test_a_task_of_another_package(plugin: None) -> None:
    assert set(task_names()) >= {"echo", "none", *TASKS}
    task = build("echo", limit=20, vocabulary=300, segment=8)
    text_task = require(task, TextTask, "never")
    assert text_task.records[0]["text"].startswith("echo ")
    assert text_task.document_sets(3, random.Random(0))
    assert task.batch(2, 2, torch.Generator().manual_seed(0)).ids.shape[0] == 2
    assert task_class("recall") is Recall  # memspan's own are not replaced


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "The plugin 'none' of memspan.tasks must be a subclass of memspan.tasks.Task, got .*NoTask"),
        ("lost", "The plugin 'lost' of memspan.tasks must be importable, got AttributeError.*uninstall echo_tasks"),
        ("neither", "There is no task 'neither'. Known: babi_book, .*echo"),
    ],
)
def test_a_plugin_that_is_no_task_is_refused(plugin: None, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        build(name)
