"""Briefs for decisions: what is cited, on which side, and what is said not to be known."""

import json
from pathlib import Path

import pytest

from memspan.apps.desk.decision import forms_of
from tests.apps.desk.engine import engine
from tests.commands import Run
from tests.servers import serving

NOTES = """# Workshop

## 3 March 2024

Moving the workshop to the harbour would save a third of the rent.

## 9 May 2024

The harbour floods every spring, and the workshop would stand in water.

## 1 January 2024

The hall at the harbour for the workshop was built in 1961.
"""
QUESTION = "Should we move the workshop to the harbour?"


@pytest.fixture
def notes(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "notes.md").write_text(NOTES, "utf-8")
    assert run("read", "notes.md", "--into", "notes.mem").code == 0
    return tmp_path / "notes.mem"


def sides(messages: list[dict[str, str]]) -> str:
    """Saves: for; floods: against; the third is left out."""
    lines = []
    for line in messages[-1]["content"].split("\n"):
        number, _, text = line.partition(": ")
        if number.isdigit() and "save" in text:
            lines.append(f"{number}: for")
        elif number.isdigit() and "floods" in text:
            lines.append(f"- {number}. Against")
    return "\n".join([*lines, "99: for"])


def test_without_an_engine_sentences_stand_by_date(run: Run, notes: Path) -> None:
    outcome = run("brief", "notes.mem", QUESTION)
    assert outcome.code == 0
    assert "Not grouped into for and against" in outcome.err
    shown = [line for line in outcome.out.splitlines() if line.startswith("  20")]
    assert [line.split()[0] for line in shown] == ["2024-01-01", "2024-03-03", "2024-05-09"]
    assert outcome.out.count("notes.md, Workshop") + outcome.out.count("notes.md, line") == 3


def test_an_engine_says_on_which_side_a_sentence_is(run: Run, notes: Path) -> None:
    with serving(engine(sides)) as server:
        outcome = run("brief", "notes.mem", QUESTION, "--answer-with", server.url, "--json", "--output", "brief.json")
        shown = run("brief", "notes.mem", QUESTION, "--answer-with", server.url).out
    assert outcome.code == 0
    assert "did not say on which side 1 sentence is" in outcome.err
    found = json.loads(Path("brief.json").read_text("utf-8"))
    assert [finding["side"] for finding in found["findings"]] == ["for", "against", "neither"]
    for finding in found["findings"]:
        assert finding["text"] == " ".join(NOTES[finding["start"] : finding["end"]].split())
    assert shown.index("\nFor\n") < shown.index("save") < shown.index("\nAgainst\n") < shown.index("floods")


def test_what_is_not_known_is_named(run: Run, notes: Path) -> None:
    with serving(engine(lambda messages: "1: for\n2: for\n3: for")) as server:
        words = ["brief", "notes.mem", "Should we move the workshop to the harbour by helicopter?"]
        found = json.loads(run(*words, "--answer-with", server.url, "--json").out)
    assert "It says nothing that speaks against it." in found["unknown"]
    assert any("helicopter" in sentence for sentence in found["unknown"])


def test_a_memory_that_says_nothing(run: Run, notes: Path) -> None:
    outcome = run("brief", "notes.mem", "Zanzibar quokka xylophone?")
    assert outcome.code == 3
    assert "The memory says nothing about this." in outcome.out
    assert "is empty" in run("brief", "notes.mem", " ").sentence


def test_a_question_is_asked_in_its_own_language() -> None:
    assert forms_of("我们应该搬到港口吗？")[2].endswith("风险 问题 成本 反对的理由")
    assert forms_of(QUESTION)[1].startswith("Should we move the workshop to the harbour: advantages")
