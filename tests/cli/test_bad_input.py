"""What users get wrong about tasks, their data and their models: one sentence with cause and way out, and nothing is lost."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memspan.models.folders import write_checksums
from tests.commands import Run

SMALL = ("--steps", "2", "--width", "16", "--segments", "2", "--batch-size", "4", "--device", "cpu")
GOOD = b"text,label\n" + b"hello,a\nbye,b\n" * 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two steps, by the names of their tasks."""
    from memspan.training.config import TrainConfig
    from memspan.training.loop import train

    folder = tmp_path_factory.mktemp("trained")
    for task in ("classification", "recommendation", "recall"):
        settings = {} if task == "recall" else {"limit": 40}
        options = {"steps": 2, "width": 16, "segments": 2, "batch_size": 4, "device": "cpu", "mechanism": "delta"}
        train(TrainConfig.of(task=task, task_settings=settings, output=str(folder / task), **options))
    return folder


@pytest.fixture
def runs(trained: Path, run: Run, tmp_path: Path) -> Path:
    """A copy of them, to be damaged."""
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


def lines(*records: object) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in records)


TURNS, QA = {"turns": "a text"}, {"context": "c", "question": "q"}
EVENTS = "".join(f"u{number % 3},i{number},{{0}},{{1}}\n" for number in range(60))


@pytest.mark.parametrize(
    ("task", "file", "content", "told"),
    [
        ("classification", "wrong.csv", b"body,kind\na,b\n", "no column 'text', only body, kind"),
        ("classification", "a.csv", b"", "must be a readable table, got"),
        ("classification", "a.csv", b"text,label\n", "There is no record in a.csv."),
        ("classification", "a.csv", b"text,label\n" + b"hello,\n" * 20, "0 of 2 held out. Those whose text or label is empty"),
        ("classification", "a.csv", b"text,label\n" + b"hello,a\n" * 20, "All records have the one label 'a'"),
        ("classification", "a.csv", "你好,再见\n".encode("gb18030") * 9, "a.csv is not UTF-8 text"),
        ("classification", "a.csv", b"text,label\nhello,a\nbye,b,c,d\n", "Expected 2 fields in line 3, saw 4"),
        ("classification", "a.json", b'[{"text": "a", "label": "b"},', "must be a readable table, got"),
        ("classification", "a.parquet", b"PAR1", "must be a readable table, got"),
        ("classification", "a.txt", b"hello", "Tables must be files of the same kind (.csv, .tsv"),
        ("dialogue", "a.jsonl", lines(*[TURNS] * 20), "must be a list of texts, got 'a text'"),
        ("dialogue", "a.jsonl", lines(*[{"turns": None}, {"turns": ["a"]}] * 9), "too few records"),
        ("question_answering", "a.jsonl", lines(*[{**QA, "answers": {"txt": ["x"]}}] * 9), "or {text: a list}, got {'txt'"),
        ("question_answering", "a.jsonl", lines(*[{**QA, "answers": [None]}] * 9), "too few records"),
        ("summarisation", "a.jsonl", lines(*[{"text": "c", "summary": "  "}] * 20), "too few records"),
        ("recommendation", "a.csv", f"user,item,time,rating\n{EVENTS.format('long ago', 3)}".encode(), "time 'long ago'"),
        ("recommendation", "a.csv", f"user,item,time,rating\n{EVENTS.format(7, 'good')}".encode(), "rating 'good'"),
        ("recommendation", "a.csv", b"user,item,time\na,b,1\n", "at least 2 such users"),
        ("language_modelling", "a.txt", b"", "The text a.txt is empty"),
        ("language_modelling", "a.txt", b"abc", "The text is too short"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["train", "compare"])
def test_files(run: Run, task: str, file: str, content: bytes, told: str, command: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    outcome = run(command, "--task", task, "--mechanism", "delta", *SMALL, "--data", file)
    assert outcome.code == 2
    assert told in outcome.sentence


@pytest.mark.parametrize(
    ("name", "format", "content", "told"),
    [
        ("a.json", "squad", b'{"a": 1}', "not in the format squad: KeyError 'data'"),
        ("a.zip", "labelled_folders", b"PK\x03\x04nonsense", "not in the format labelled_folders: BadZipFile"),
        ("a.zip", "squad", b"PK\x05\x06" + bytes(18), "not in the format squad: StopIteration"),
        ("a.tsv", "csl_category", b"a\n", "not in the format csl_category"),
        ("a.txt", "phrasebank", b"no label here", "There is no record in a.txt"),
        ("a.csv", "nonsense", GOOD, "no format 'nonsense'. Known: clinc150"),
    ],
)
def test_corpora(run: Run, name: str, format: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    outcome = run("train", "--task", "classification", *SMALL, "--data", name, "--task-settings", f"format={format}")
    assert outcome.code == 2
    assert told in outcome.sentence


def test_paths(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    train = ("train", "--task", "classification", *SMALL)
    assert "There is no file missing.csv." in run(*train, "--data", "missing.csv").sentence
    assert "folder is a folder: name the files in it" in run(*train, "--data", "folder").sentence
    assert "no file missing.csv" in run(*train, "--task-settings", "test=missing.csv").sentence
    told = run("train", "--task", "recommendation", *SMALL, "--data", "folder", "--task-settings", "format=movielens")
    assert "folder must be a readable file" in told.sentence


@pytest.mark.parametrize(
    ("task", "setting", "told"),
    [
        ("classification", "colour=red", "no setting 'colour'; it knows data, test"),
        ("classification", "segment=many", "The setting 'segment' of the task 'classification' must be a whole number, got segment='many'"),
        ("classification", "segment=2.5", "must be a whole number"),
        ("classification", "held_out=lots", "must be a number"),
        ("classification", "limit=few", "limit='few'"),
        ("classification", "vocabulary=10", "at least 259"),
        ("classification", "data=7", "must be a text or a list of texts"),
        ("classification", "test=[1]", "test=[1]"),
        ("classification", "rename=x", "must be a mapping of texts, like {theirs: ours}"),
        ("classification", "rename={utterance: text}", "name the files with `data`"),
        ("classification", "format=squad", "name the files with `data`"),
        ("classification", "test_format=squad", "name the files with `data`"),
        ("classification", "all_tokens=7", "must be true or false"),
        ("classification", "saved=nowhere", "nowhere/tokenizer.json must be a readable file"),
        ("recommendation", "event_columns=colour", "must be among title, genres, rating"),
        ("recommendation", "cards=some", "must be a number"),
        ("recommendation", "held_out=.2", "the end of each history is held out"),
        ("language_modelling", "valid=2", "between 0 and 1"),
        ("language_modelling", "data=nowhere.txt", "cannot be read"),
        ("recall", "facts=true", "must be a whole number"),
    ],
)  # fmt: skip
def test_settings(run: Run, task: str, setting: str, told: str) -> None:
    outcome = run("train", "--task", task, *SMALL, "--task-settings", setting)
    assert outcome.code == 2
    assert told in outcome.sentence


def test_an_output_that_cannot_be(run: Run, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    train = ("train", "--task", "classification", "--task-settings", "limit=40", *SMALL)
    for output in ("file", "file/run"):
        assert "file is a file, so" in run(*train, "--output", output).sentence
        (tmp_path / "run.yaml").write_text("task: {name: recall}\noptimisation: {steps: 2}\nmodel: {width: 16}\n")
        told = run("tune", "run.yaml", "--trials", "1", "--search", "depth=1:2", "--output", output)
        assert "file is a file, so" in told.sentence  # before the first trial, not after the last
    assert (tmp_path / "file").read_text() == "mine"
    before = contents(runs / "classification")
    assert "holds a run already" in run(*train, "--output", "runs/classification").sentence
    assert "width differ" in run(*train, "--width", "32", "--output", "runs/classification", "--resume").sentence
    assert contents(runs / "classification") == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("predict", "runs/none", "hello"), "There is no folder runs/none"),
        (("predict", "runs", "hello"), "runs holds no config.yaml, so no model was saved there"),
        (("eval", "runs/none"), "There is no folder runs/none"),
        (("explain", "runs/classification", "hello"), "is the folder of a run: its model is runs/classification/best"),
        (("predict", "runs/recall/best", "hello"), "was trained for recall, which has no predictions for texts"),
        (("explain", "runs/recall/best", "hello"), "was trained for recall, which has no predictions for texts"),
        (("predict", "runs/classification/best", "hello", "--task", "dialogue"), "trained for classification, not for dialogue"),
        (("eval", "runs/classification/best", "--task", "dialogue"), "trained for classification, not for dialogue"),
        (("eval", "runs/classification/best", "--task", "recall"), "trained for classification, not for recall"),
        (("eval", "runs/recall/best", "--task", "classification"), "trained for recall, not for classification"),
        (("predict", "runs/classification/best", "hello", "--with", "runs/recall/best"), "must have the same vocabulary, got"),
        (("eval", "runs/classification/best", "--task-settings", "data=strange.csv"), "label 'zebra', which the model was not"),
        (("eval", "runs/recommendation/best", "--task-settings", "data=events.csv"), "which training never saw: leave such events out"),
        (("predict", "runs/recommendation/best", "No such film"), "There is no item 'No such film'"),
        (("predict", "runs/classification/best", "--file", "latin.txt"), "latin.txt must be UTF-8 text"),
    ],
)  # fmt: skip
def test_models_and_what_they_are_asked(
    run: Run, runs: Path, arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    (tmp_path / "strange.csv").write_text("text,label\n" + "hello,booking\nbye,zebra\n" * 20)
    (tmp_path / "events.csv").write_text("user,item,time,rating\n" + EVENTS.format(1, 2))
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    outcome = run(*arguments)
    assert outcome.code == 2
    assert told in outcome.sentence


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def says(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


DAMAGE = [
    ("classification", "model.safetensors", cut, "cannot be read"),
    ("classification", "model.safetensors", Path.unlink, "holds no model.safetensors"),
    ("classification", "config.json", cut, "is damaged"),
    ("classification", "config.json", says(b'{"model": "dream"}'), "got 'dream'"),
    ("classification", "config.yaml", says(b"task: [x"), "not valid YAML"),
    ("classification", "config.yaml", says(b"task: {name: juggling}\n"), "no task 'juggling'"),
    ("classification", "config.yaml", says(b"task: {name: classification}\nmodel: {width: wide}\n"), "config.yaml cannot be used: width must be"),
    ("classification", "config.yaml", says(b"task: {name: classification, settings: 5}\n"), "task_settings must be a mapping, got 5"),
    ("classification", "labels.json", cut, "labels.json, which holds the labels, is damaged"),
    ("classification", "labels.json", Path.unlink, "labels.json, which holds the labels, cannot be read"),
    ("classification", "labels.json", says(b"{}"), "is damaged"),
    ("classification", "labels.json", says(b"[1, 2, 3, 4]"), "is damaged"),
    ("classification", "tokenizer.json", cut, "must be a tokenizer that memspan saved"),
    ("classification", "tokenizer.json", Path.unlink, "tokenizer"),
    ("recommendation", "items.json", cut, "items.json, which holds the items, is damaged"),
    ("recommendation", "items.json", says(b'[["a"]]'), "is damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "file", "damage", "told"), DAMAGE)
@pytest.mark.parametrize("command", ["predict", "eval", "explain"])
def test_a_damaged_model(
    run: Run, runs: Path, task: str, file: str, damage: Callable[[Path], None], told: str, command: str
) -> None:
    damage(runs / task / "best" / file)
    write_checksums(runs / task / "best")  # as if it had been written so; without this it is refused by its checksum
    options = ["--segments", "2"] if command == "eval" else ["The Lighthouse 1"]
    assert told in run(command, f"runs/{task}/best", *options).sentence


def test_labels_of_another_run(run: Run, runs: Path) -> None:
    (runs / "classification" / "best" / "labels.json").write_text('["a", "b"]')
    write_checksums(runs / "classification" / "best")
    assert "but the files beside it have" in run("predict", "runs/classification/best", "hello").sentence


@pytest.mark.parametrize("file", ["training.json", "training.safetensors", "model.safetensors", "config.yaml"])
@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_damaged_checkpoint_is_not_gone_on_from(
    run: Run, runs: Path, file: str, damage: Callable[[Path], None]
) -> None:
    """And the best model stays what it was."""
    damage(runs / "classification" / "last" / file)
    before = contents(runs)
    assert run("train", "--output", "runs/classification", "--resume").sentence
    assert contents(runs) == before


def test_bytes_that_are_not_utf8_end_in_a_sentence(run: Run, library: Path) -> None:
    """An argument of the byte FF arrives as a lone surrogate."""
    for arguments in (
        ("ask", "library", "Who is \udcff?"),
        ("search", "library", "\udcff"),
        ("chat", "--memory", "library", "--system", "Be \udcff."),
        ("read", "log.txt", "--into", "other", "--as", "name \udcff"),
    ):
        outcome = run(*arguments, stdin="Who?\n")
        line = outcome.sentence if arguments[0] != "chat" else outcome.err
        assert "must be valid Unicode" in line, arguments
        assert "unexpected" not in line


def test_a_file_whose_name_is_not_utf8_is_read(run: Run, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("The zinc trunk stands here.", "utf-8")
    outcome = run("read", name, "--into", "library")
    assert outcome.code in (0, 2), outcome
    assert "unexpected" not in outcome.err
