"""`memspan train --task dialogue`: a ranker of replies on features of turns, with the state of the conversation."""

import json
from pathlib import Path

import pytest

from memspan.cli.train_options import default_run, with_default_run
from tests.commands import Run

FEW = ("--features", "words", "--width", "32", "--dropout", "0.1", "--steps", "60", "--batch-size", "16")


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    """Only the first turn tells which colour the last reply names."""
    colours = ["red", "green", "blue", "white", "black", "brown"]
    rows = []
    for number in range(90):
        colour = colours[number % 6]
        aside = ["It rains.", "It snows.", "It is late."][number % 5 % 3]
        turns = [f"Paint it {colour}.", f"{colour} it is.", aside, "True.", "Well?", f"Painted {colour}, as you said."]
        rows.append({"turns": turns})
    path = tmp_path / "dialogues.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return path


def train(dialogues: Path, model: Path, *arguments: str) -> list[str]:
    return ["train", "--task", "dialogue", "--data", str(dialogues), "--model", str(model), *FEW, *arguments]


def test_the_state_of_the_conversation_finds_what_the_last_turn_does_not_tell(
    run: Run, dialogues: Path, tiny_model: Path
) -> None:
    reports = [json.loads(run(*train(dialogues, tiny_model, "--json", *more)).out) for more in ([], ["--window", "1"])]
    (remembers, forgets) = (report["metrics"]["R@1"] for report in reports)
    assert remembers > 0.9
    assert forgets < 0.75
    assert reports[0]["score"]["state_bytes"] > 0
    assert reports[0]["details"]["baselines"]["TF-IDF, last turn"]["metrics"]["R@1"] < remembers
    low, high = reports[0]["details"]["intervals"]["R@1"]
    assert low <= remembers <= high


def test_a_saved_ranker_ranks_known_replies_and_given_ones(
    run: Run, dialogues: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = run(*train(dialogues, tiny_model, "--output", "out"))
    assert done.code == 0, done
    assert "TF-IDF, last turn" in done.out
    assert "memspan predict out/best --file turns.txt --top 5" in done.out
    conversation = "Paint it green.\ngreen it is.\nIt snows.\nTrue.\nWell?\n"
    (tmp_path / "talk.txt").write_text(conversation, "utf-8")
    (tmp_path / "replies.txt").write_text("Painted black, as you said.\n\nPainted  green, as you said.\n", "utf-8")
    best = run("predict", "out/best", "--file", str(tmp_path / "talk.txt"))
    assert best.out.strip() == "Painted green, as you said."
    top = run("predict", "out/best", "--file", str(tmp_path / "talk.txt"), "--top", "3").out.splitlines()
    assert len(set(top)) == 3
    assert top[0] == best.out.strip()
    given = run(
        "predict", "out/best", conversation, "--candidates", str(tmp_path / "replies.txt"), "--top", "5", "--json"
    )
    replies = json.loads(given.out)["predictions"][0]["replies"]
    assert [found["reply"] for found in replies] == ["Painted green, as you said.", "Painted black, as you said."]
    assert replies[0]["score"] > replies[1]["score"]
    (tmp_path / "none.txt").write_text("\n", "utf-8")
    assert "give candidates" in run("predict", "out/best", "Hello.", "--candidates", "none.txt").sentence
    assert "at least one turn" in run("predict", "out/best", " ", "--top", "2").sentence
    measured = json.loads(run("eval", "out/best", "--json").out)
    saved = json.loads(Path("out/report.json").read_text("utf-8"))
    assert measured["metrics"] == pytest.approx(saved["metrics"])
    assert measured["intervals"] == saved["details"]["intervals"]


def test_the_twin_stands_beside_the_ranker(run: Run, dialogues: Path, tiny_model: Path) -> None:
    arguments = ["--data", str(dialogues), "--model", str(tiny_model), *FEW, "--seeds", "1", "--json"]
    comparison = json.loads(run("compare", "--task", "dialogue", *arguments).out)
    memory, none = comparison["contenders"]
    assert none["name"] == "no memory"
    assert memory["parameters"] == none["parameters"]
    assert comparison["baselines"].keys() >= {"TF-IDF, last turn", "TF-IDF, all turns"}
    assert memory["figures"][0].keys() == {"R@10", "R@1", "MRR"}


def test_a_mechanism_that_sees_ahead_is_refused(run: Run, dialogues: Path, tiny_model: Path) -> None:
    refused = run(*train(dialogues, tiny_model, "--mechanism", "bidirectional"))
    assert "causal" in refused.sentence


def test_the_twin_is_a_ranker_too() -> None:
    """Without a kind of features, and whatever its window and its width."""
    for twin in ({}, {"window": 1}, {"width": 64}, {"window": 1, "seconds": 9, "features": ["words"]}):
        given = {"task": "dialogue", **twin}
        options = with_default_run(given, default_run(given))
        assert options["model"] == "smollm2"
        assert {**options, **twin} == options
        assert ("steps" in options) == ("seconds" not in twin)
    assert default_run({"task": "dialogue", "mechanism": "delta", "window": 1}) is None
