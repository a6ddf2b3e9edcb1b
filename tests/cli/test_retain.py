"""`memspan retain`: rules that stay with a memory, and that reading and chatting apply."""

import json
import time
from pathlib import Path

import pytest

import memspan
from memspan import load_memory
from memspan.errors import DamagedMemory
from memspan.memory.retention import Rule, keep_rules, rules_of
from memspan.memory.store.folder import Folder
from tests.commands import SECRET, Run

DAY = 86_400


def lines(now: float) -> str:
    """An exported memory with a document and two exchanges of 200, 100 and 10 days ago."""
    sources = [("notes.txt", "document", 200), ("chat/old", "exchange", 100), ("chat/new", "exchange", 10)]
    passages = [
        {"source": name, "start": 0, "text": f"{SECRET} {name}", "kind": kind, "added": now - age * DAY}
        for name, kind, age in sources
    ]
    return "".join(json.dumps(passage) + "\n" for passage in passages)


@pytest.fixture
def diary(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "lines.jsonl").write_text(lines(time.time()), "utf-8")
    assert run("import", "lines.jsonl", "diary").code == 0
    return tmp_path / "diary"


def test_a_rule_is_shown_kept_applied_and_removed(run: Run, diary: Path, tmp_path: Path) -> None:
    rule = ("retain", "diary", "--days", "90", "--kind", "exchange")
    shown = run(*rule, "--dry-run")
    assert shown.out == "This memory keeps kind exchange: 90 days.\nWould forget chat/old.\n"
    assert not (diary / "retention.json").exists()
    assert "Confirm with --yes" in run(*rule).sentence
    assert list(load_memory(diary).sources) == ["notes.txt", "chat/old", "chat/new"]
    done = run(*rule, "--yes")
    assert done.out == "This memory keeps kind exchange: 90 days.\nForgot chat/old.\n"
    assert "Forks and copies made before keep theirs." in done.err
    assert b"chat/old" not in b"".join(path.read_bytes() for path in diary.rglob("*") if path.is_file())
    everything = run("retain", "diary", "--days", "150", "--yes").out
    assert everything == "This memory keeps kind exchange: 90 days; all sources: 150 days.\nForgot notes.txt.\n"
    again = run("retain", "diary")  # as a timer would
    assert (again.code, again.out) == (0, "This memory keeps kind exchange: 90 days; all sources: 150 days.\n")
    assert run("retain", "diary", "--remove").out == "This memory keeps kind exchange: 90 days.\n"
    assert (
        "There is no rule with these conditions. This memory keeps kind" in run("retain", "diary", "--remove").sentence
    )
    assert run("fork", "diary", "copy").code == 0
    assert rules_of(Folder(tmp_path / "copy")) == [Rule(90, (), ("exchange",))]
    assert run("retain", "diary", "--remove", "--kind", "exchange").out == "This memory keeps everything.\n"
    assert not (diary / "retention.json").exists()
    assert "has no rule: give --days" in run("retain", "diary").sentence


def test_reading_and_chatting_apply_the_rules(run: Run, diary: Path, tmp_path: Path) -> None:
    keep_rules(Folder(diary), [Rule(5, kinds=("exchange",))])
    assert run("fork", "diary", "other").code == 0
    (tmp_path / "more.txt").write_text("The mast is of pine.", "utf-8")
    report = run("read", "more.txt", "--into", "diary", "--json")
    assert json.loads(report.out)["forgotten"] == ["chat/old", "chat/new"]
    assert "forgot chat/old: older than this memory keeps it" in report.err
    assert list(load_memory(diary).sources) == ["notes.txt", "more.txt"]
    chatted = run("chat", "--memory", "other", stdin="/memory\n")
    assert "1 source:" in chatted.out
    assert "forgot chat/new: older than this memory keeps it" in chatted.err


def test_tags_and_names_choose_sources(run: Run, tmp_path: Path) -> None:
    for name, tag in (("ann.txt", "Ann"), ("bob.txt", "Bob")):
        (tmp_path / name).write_text(f"{SECRET} {name}", "utf-8")
        assert run("read", name, "--into", "library", "--where", f"customer={tag}").code == 0
    time.sleep(0.01)
    short = ("retain", "library", "--days", "0.0000001", "--dry-run")
    assert run(*short, "--where", "customer=ann").out.endswith("Would forget ann.txt.\n")
    assert run(*short, "--source", "bob*").out.endswith("Would forget bob.txt.\n")
    assert "Would" not in run(*short, "--where", "customer=Eve").out


def test_mistakes_are_sentences(run: Run, diary: Path) -> None:
    assert "`days` must be above 0 and at most 36,525, got 0.0" in run("retain", "diary", "--days", "0").sentence
    assert "A rule needs --days" in run("retain", "diary", "--kind", "exchange").sentence
    assert "--remove takes no --days" in run("retain", "diary", "--remove", "--days", "3").sentence
    assert "there is no memory" in run("retain", "nowhere", "--days", "3").sentence


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"rules": 3}',
        '{"rules": [{"days": -1, "sources": [], "kinds": [], "where": {}}]}',
        '{"rules": [{"days": true, "sources": [], "kinds": [], "where": {}}]}',
        '{"rules": [{"days": 1, "sources": "*", "kinds": [], "where": {}}]}',
        '{"rules": [{"days": 1, "sources": [], "kinds": [3], "where": {}}]}',
        '{"rules": [{"days": 1, "sources": [], "kinds": [], "where": {"a": {}}}]}',
        '{"rules": [], "rules": []}',
        "[" * 5000,
        "\x00",
    ],
)
def test_forged_rules_forget_nothing(tiny_model: Path, tmp_path: Path, content: str) -> None:
    lm = memspan.load_model(str(tiny_model))
    memory = lm.new_memory(tmp_path / "library")
    lm.read(SECRET, memory, source="secret")
    (tmp_path / "library" / "retention.json").write_text(content, "utf-8")
    with pytest.raises(DamagedMemory, match="holds no rules of retention"):
        rules_of(Folder(tmp_path / "library"))
