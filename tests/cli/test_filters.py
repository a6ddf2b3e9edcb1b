"""Filters, tags and several memories on the command line."""

import json
from pathlib import Path

from memspan import load_memory
from tests.commands import Run


def sources(run: Run, *arguments: str) -> list[str]:
    outcome = run("search", *arguments, "--no-rerank", "--json")
    assert outcome.code == 0, outcome.err
    return sorted({passage["source"] for passage in json.loads(outcome.out)["passages"]})


def test_filters_limit_what_is_found_answered_and_forgotten(run: Run, library: Path, tmp_path: Path) -> None:
    assert (
        run("read", "secret.md", "--as", "own", "--into", "library", "--where", "team=red", "--where", "year=2024").code
        == 0
    )
    assert load_memory(library).sources["own"].meta["tags"] == {"team": ["red"], "year": ["2024"]}
    question = ["library", "Where does the zinc trunk stand?"]
    assert sources(run, *question, "--source", "*.md") == ["secret.md"]
    assert sources(run, *question, "--where", "team=RED", "--where", "year=2024") == ["own"]
    assert sources(run, *question, "--source", "own", "--source", "log.txt", "--since", "1h") == ["log.txt", "own"]
    answered = json.loads(run("ask", *question, "--where", "team=red", "--max-new-tokens", "2", "--json").out)
    assert {passage["source"] for passage in answered["passages"]} == {"own"}
    assert "no passage is until 1700" in run("ask", *question, "--until", "1700").sentence
    assert (
        "no source with text matches 'secret'; did you mean" in run("search", *question, "--source", "secret").sentence
    )
    assert "--since must be a date or a time" in run("search", *question, "--since", "soon").sentence
    assert "--where must be a name and a value" in run("search", *question, "--where", "team").sentence
    assert run("forget", "library", "--where", "team=red", "--yes").out == "Forgot own.\n"
    assert list(load_memory(library).sources) == ["log.txt", "secret.md"]


def test_several_memories_are_searched_together(run: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("The zinc trunk stands in the harbour office.", "utf-8")
    assert run("read", "other.txt", "--into", "other.mem").code == 0
    question = ["library", "Where does the zinc trunk stand?", "--also", "other.mem"]
    assert {"library/secret.md", "other.mem/other.txt"} <= set(sources(run, *question))
    assert sources(run, *question, "--source", "other.txt") == ["other.mem/other.txt"]
    answered = json.loads(run("ask", *question, "--max-new-tokens", "2", "--json").out)
    both = load_memory(library).tokens + load_memory(tmp_path / "other.mem").tokens
    assert answered["memory_tokens"] == both
