"""`--audit` and `memspan audit`, as a user runs them: what is logged, what is not, and what an altered log shows."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import SECRET, Run
from tests.servers import completion, dialect, serving

QUESTION = "Where does the zinc trunk stand?"


@pytest.fixture(autouse=True)
def no_log_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMSPAN_AUDIT", "MEMSPAN_AUDIT_DETAIL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def url() -> Iterator[str]:
    with serving(dialect("vllm", completion("Under the stairs."))) as server:
        yield server.url


def logged(run: Run, *options: str) -> list[dict[str, Any]]:
    """The lines of log.jsonl, which is whole."""
    shown = run("audit", "log.jsonl", "--json", *options)
    assert shown.code == 0, shown
    lines: list[dict[str, Any]] = json.loads(shown.out)["lines"]
    return lines


def test_everything_done_with_a_memory_is_logged_without_its_text(run: Run, tmp_path: Path, url: str) -> None:
    log = ("--audit", "log.jsonl")
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    assert run(*log, "read", "secret.md", "--into", "library").code == 0
    asking = ("ask", "library", QUESTION, "--answer-anyway", "--answer-with", url)
    assert run(*log, *asking).code == 0
    assert run(*asking).code == 0  # without the option nothing is logged
    assert run(*log, "search", "library", QUESTION).code == 0
    assert run(*log, "chat", "--memory", "library", "--answer-with", url, stdin=f"{QUESTION}\n/forget\n").code == 0
    assert "--yes" in run(*log, "forget", "library", "--source", "secret.md").sentence  # changes nothing
    assert run(*log, "ask", "library", QUESTION, "--min-confidence", "1").code == 3
    assert run(*log, *asking, "--source", "nothing").code == 2
    before = logged(run, "--memory", "library")
    assert [(line["command"], line["outcome"], line["sources"]) for line in before] == [
        ("read", "done", ["secret.md"]),
        ("ask", "done", ["secret.md"]),
        ("search", "done", ["secret.md"]),
        ("chat", "done", before[3]["sources"]),
        ("forget", "done", before[4]["sources"]),
        ("ask", "nothing found", before[5]["sources"]),
        ("ask", "failed: NoMatch", []),
    ]
    assert before[4]["number_of_sources"] == 1
    assert run(*log, "forget", "library", "--source", "secret.md", "--yes").code == 0
    content = Path("log.jsonl").read_text("utf-8")
    for text in ("secret.md", "zinc", "stairs"):
        assert text not in content
    assert stat.S_IMODE(os.stat("log.jsonl").st_mode) == 0o600
    after = logged(run, "--memory", "library")
    assert "secret.md" not in json.dumps(after)  # what was forgotten has no name any more
    assert len(logged(run, "--question", QUESTION)) == 5
    assert [line["command"] for line in logged(run, "--source", "secret.md")][-1] == "forget"
    assert {line["user"] for line in after} == {after[0]["user"]}
    shown = run("audit", "log.jsonl", "--memory", "library").out
    assert "The chain is whole: 8 lines, the last with the hash " in shown
    assert "ask " in shown


def test_the_environment_names_the_log_and_how_much_stands_in_it(
    run: Run, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPAN_AUDIT", "log.jsonl")
    monkeypatch.setenv("MEMSPAN_AUDIT_DETAIL", "names")
    assert run("search", "library", QUESTION, "--top", "1").code == 0
    monkeypatch.setenv("MEMSPAN_AUDIT_DETAIL", "text")
    assert run("search", "library", QUESTION, "--top", "1").code == 0
    names, text = logged(run)
    assert names["sources"] == text["sources"] == ["secret.md"]
    assert "question" not in names
    assert text["question"] == QUESTION
    assert len(logged(run, "--question", QUESTION)) == 2
    monkeypatch.setenv("MEMSPAN_AUDIT_DETAIL", "everything")
    assert "must be one of hashes, names, text, got 'everything'" in run("search", "library", QUESTION).sentence


def test_what_cannot_be_logged_is_not_done(run: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Dear diary\n", "utf-8")
    for log, reason in (("notes.txt", "holds no entry"), ("nowhere/log", "cannot be written"), ("library", "written")):
        assert reason in run("--audit", log, "forget", "library", "--source", "*", "--yes").sentence, log
    assert (tmp_path / "notes.txt").read_text("utf-8") == "Dear diary\n"
    assert "log.txt" in run("inspect", "library").out
    assert "is no audit log" in run("audit", "notes.txt").sentence
    assert "is not readable" in run("audit", "nothing").sentence


def test_an_altered_log_is_told(run: Run, library: Path) -> None:
    for query in ("one", "two", "three", "four"):
        assert run("--audit", "log.jsonl", "search", "library", query, "--top", "1").code == 0
    head = json.loads(run("audit", "log.jsonl", "--json").out)["head"]
    lines = Path("log.jsonl").read_text("utf-8").splitlines(keepends=True)

    def shown(altered: list[str], *options: str) -> str:
        Path("log.jsonl").write_text("".join(altered), "utf-8")
        outcome = run("audit", "log.jsonl", *options)
        assert outcome.code == (1 if outcome.err.startswith("tampered") else 0), outcome
        return outcome.err

    assert shown(lines, "--head", head) == ""
    assert shown([lines[0], lines[1].replace("search", "inspect"), *lines[2:]]).startswith("tampered: line 3: ")
    assert shown([lines[0], *lines[2:]]).startswith("tampered: line 2: ")
    assert shown([lines[0], lines[2], lines[1], lines[3]]).startswith("tampered: line 2: ")
    assert shown(lines[1:]).startswith("tampered: line 1: ")
    assert shown(lines[:3]) == ""  # nothing in the log shows that its end is gone
    assert "lines were cut off or changed" in shown(lines[:3], "--head", head)
    assert "it is not whole" in shown([*lines[:3], lines[3][:40]])
    assert run("--audit", "log.jsonl", "search", "library", "five", "--top", "1").code == 0  # after a crash
    after = run("audit", "log.jsonl")
    assert after.code == 0
    assert after.err.startswith("line 4: it is not whole")
    assert "The chain is whole: 5 lines" in after.out
