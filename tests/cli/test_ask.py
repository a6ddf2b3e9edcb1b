"""Asking and searching: what is printed, and questions that have no answer."""

import json
from pathlib import Path

import pytest
import torch

from memspan import load_memory
from tests.commands import Run
from tests.tiny import logbook, save_codec, save_trained_memory


def test_json(run: Run, library: Path, tiny_model: Path) -> None:
    question = ["library", "Where does the zinc trunk stand?", "--json"]
    answer = json.loads(run("ask", *question, "--max-new-tokens", "4", "--budget", "300").out)
    assert {"answer", "passages", "memory_tokens", "prompt_tokens", "answer_tokens", "seconds"} <= answer.keys()
    assert answer["passages"][0].keys() >= {"source", "start", "end", "score", "text"}
    assert sum(one["tokens"] for one in answer["passages"]) <= 300
    found = json.loads(run("search", *question, "--top", "3").out)
    assert found.keys() == {"query", "passages", "memory_tokens"}
    assert len(found["passages"]) == 3
    assert found["memory_tokens"] == answer["memory_tokens"] == load_memory(library).tokens
    contents = json.loads(run("inspect", "library", "--json").out)
    assert [one["name"] for one in contents["sources"]] == ["log.txt", "secret.md"]
    assert contents["fingerprint"]["name"] == str(tiny_model.resolve())
    report = json.loads(run("read", "log.txt", "--into", "library", "--json").out)
    assert report["documents"] == [{"source": "log.txt", "tokens": 0, "characters": 6000}]
    assert report.keys() == {
        "documents",
        "skipped",
        "failed",
        "forgotten",
        "tokens",
        "passages",
        "seconds",
        "speed",
        "memory",
    }
    listed = json.loads(run("models", "--json").out)
    assert listed["embedded"][0]["name"] == "smollm2"
    families = json.loads(run("models", "--families", "--json").out)
    assert families["llama"]["tier"] == "full"


def test_a_seed_makes_an_answer_repeatable(run: Run, library: Path) -> None:
    options = ["--temperature", "1.5", "--max-new-tokens", "8", "--seed"]
    first, same, other = (run("ask", "library", "Who?", *options, seed).out for seed in ("1", "1", "2"))
    assert first == same != other


def test_what_a_document_says_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("All is \x1b[31mwell\x07 here.", "utf-8")
    assert run("read", "log.txt", "--into", "library").code == 0
    assert "All is [31mwell here." in run("search", "library", "well").out  # and `run` has looked for escapes


def test_the_sentence_that_was_looked_for_is_shown_and_in_json_the_whole_passage(run: Run, tmp_path: Path) -> None:
    text = f"{'All days were calm. ' * 15}The zinc trunk is under the stairs. {'All days were calm. ' * 15}"
    (tmp_path / "log.txt").write_text(text, "utf-8")
    assert run("read", "log.txt", "--into", "library").code == 0
    asked = run(
        "ask", "library", "Where is the zinc trunk?", "--max-new-tokens", "2", "--passages", "1", "--no-rerank"
    ).out
    assert asked.splitlines()[-1].startswith("    ... The zinc trunk is under the stairs. All days")
    question = ["search", "library", "the zinc trunk", "--top", "1", "--no-rerank"]
    shown = run(*question).out.splitlines()[1]
    (passage,) = json.loads(run(*question, "--json").out)["passages"]
    assert shown.startswith("    ... The zinc trunk is under the stairs. All days")
    assert shown.endswith(" ...")
    assert passage["text"] in text
    assert len(passage["text"]) > len(shown)


@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_question_longer_than_the_window(run: Run, library: Path, command: str) -> None:
    assert "window" in run(command, "library", "word " * 5000).sentence


def test_threads(run: Run, library: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert run("search", "library", "Who?", "--threads", "2").code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


FOREIGN = "Who won the football championship of 1998 in Paris?"


def test_a_question_that_the_memory_does_not_answer(run: Run, library: Path) -> None:
    refused = run("ask", "library", FOREIGN)
    assert refused.code == 3
    assert refused.out.startswith("The memory says nothing about this.\n")
    assert "[1] " in refused.out  # the nearest passages
    assert json.loads(run("ask", "library", FOREIGN, "--json").out)["is_answered"] is False
    answered = run("ask", "library", FOREIGN, "--answer-anyway", "--max-new-tokens", "4")
    assert answered.code == 0
    assert "says nothing" not in answered.out
    assert "may not hold the answer: confidence 0.0" in answered.err
    held = "Where does the zinc trunk stand under the stairs of the boathouse?"
    asked = run("ask", "library", held, "--max-new-tokens", "4")
    assert (asked.code, asked.err) == (0, "")
    assert run("ask", "library", held, "--min-confidence", "1").code == 3


def test_passages_below_a_confidence_are_not_shown(run: Run, library: Path) -> None:
    options = ["--min-confidence", "0.25", "--json"]
    passages = json.loads(run("search", "library", "the zinc trunk under the stairs", *options).out)["passages"]
    assert passages
    assert all(passage["confidence"] >= 0.25 for passage in passages)
    assert json.loads(run("search", "library", FOREIGN, *options).out)["passages"] == []


def test_which_text_carried_the_answer(run: Run, library: Path) -> None:
    question = [
        "library",
        "Where does the zinc trunk stand?",
        "--max-new-tokens",
        "4",
        "--carried-by",
        "--answer-anyway",
    ]
    carried = json.loads(run("ask", *question, "--json").out)["carried_by"]
    assert [text["number"] for text in carried]
    assert f"carried by [{carried[0]['number']}] {carried[0]['gain']:+.2f}" in run("ask", *question).out


def test_passages_in_condensed_form(run: Run, library: Path, tiny_model: Path, tmp_path: Path) -> None:
    weights = save_trained_memory(str(tiny_model), tmp_path / "run", rate=4, window=64, block=64, code=4, hidden=4)
    question = [
        "library",
        "Where does the zinc trunk stand?",
        "--answer-anyway",
        "--max-new-tokens",
        "4",
        "--passages",
        "1",
    ]
    options = ["--condensed", "2", "--memory-weights", str(weights)]
    printed = run("ask", *question, *options)
    assert printed.code == 0
    assert printed.out.splitlines()[-1].startswith("read condensed: log.txt, line ")
    assert len(json.loads(run("ask", *question, *options, "--json").out)["condensed"]) == 2
    refused = run("ask", *question, "--condensed", "2")
    assert refused.code == 2
    assert "has no trained memory to read condensed passages with: `memspan train --task memory" in refused.err


def test_passages_from_latents(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """They are chosen when a memory is made; the commands that go on with it say how where they cannot."""
    (tmp_path / "log.txt").write_text(logbook()[:6000], "utf-8")
    (tmp_path / "more.txt").write_text("One more text.", "utf-8")
    weights = save_trained_memory(str(tiny_model), tmp_path / "run", rate=4, window=64, block=64, code=4, hidden=4)
    latents = ["--latents", "--memory-weights", "run", "--encoder", "none"]
    without = run("read", "log.txt", *latents, "--into", "new")
    assert without.code == 2
    assert "it has no codec" in without.err
    assert not (tmp_path / "new").exists()
    save_codec(tiny_model, weights, logbook())
    assert run("read", "log.txt", *latents, "--into", "new").code == 0
    assert f"latents by {weights}" in run("inspect", "new").out
    question = ["ask", "new", "Where does the zinc trunk stand?", "--answer-anyway", "--passages", "1"]
    options = ["--condensed", "2", "--memory-weights", "run", "--max-new-tokens", "4", "--json"]
    assert len(json.loads(run(*question, *options).out)["condensed"]) == 2
    refused = run("read", "more.txt", "--into", "new")
    assert refused.code == 2
    assert f"--latents --memory-weights {weights}" in refused.err
    assert run("read", "more.txt", *latents, "--into", "new").code == 0
    assert run("read", "log.txt", "--encoder", "none", "--into", "old").code == 0
    late = run("read", "more.txt", *latents, "--into", "old")
    assert late.code == 2
    assert "must have latents from its beginning on" in late.err
    assert "give that too" in run("read", "more.txt", "--memory-weights", "run", "--into", "old").err
