"""`memspan bias`, as a user runs it, on a classifier that it has trained on texts with a known bias."""

import json
from pathlib import Path

import pytest

from tests.commands import Run


@pytest.fixture(scope="module")
def rows() -> str:
    """Texts whose label depends on the pronoun alone."""
    things = ("the house", "a lamp", "two boats", "the report", "some bread", "a letter", "the garden", "old coins")
    actions = ("sold", "bought", "lost", "found", "praised")
    lines = [
        f"{who} {action} {thing}.,{label}"
        for who, label in (("She", "no"), ("He", "yes"))
        for action in actions
        for thing in things
    ]
    return "\n".join(["text,label", *lines])


def test_a_classifier_with_a_bias(run: Run, tmp_path: Path, rows: str, tiny_model: Path) -> None:
    (tmp_path / "rows.csv").write_text(rows, "utf-8")
    training = ("train", "--task", "classification", "--data", "rows.csv", "--features", "words", "--output", "run")
    assert run(*training, "--model", str(tiny_model)).code == 0
    (tmp_path / "mine.txt").write_text(
        "Then {they} left.{name}\nAnd {they} sold {their} car, {name}.\n{name}他{they}\n", "utf-8"
    )
    command = ("bias", "run", "--templates", "mine.txt", "--language", "en", "--data", "rows.csv")
    shown = run(*command)
    assert shown.code == 0, shown
    assert "en, gender: 120 texts" in shown.out
    assert "your texts: 80 of 80 hold a word or name of a gender" in shown.out
    assert "The label changes in 100.00% of them" in shown.out
    measured = json.loads(run(*command, "--json").out)
    assert measured["labels"] == ["no", "yes"]
    gender, origin = measured["attributes"]
    women = next(each for each in gender["differences"] if (each["group"], each["value"]) == ("female", "no"))
    assert women["interval"][0] > 0
    assert gender["flips"]["excess"] > 0.5 > abs(origin["flips"]["excess"])
    assert measured["own"]["changed"][0] == 1

    assert "--language must be en or zh, got 'de'" in run("bias", "run", "--language", "de").sentence
    assert "column 'body'" in run(*command, "--column", "body").sentence
    assert "must be a file of rows" in run("bias", "run", "--data", "run/best/config.yaml").sentence
    assert run("bias", "nothing").sentence
