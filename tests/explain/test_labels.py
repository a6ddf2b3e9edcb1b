"""Why a classifier over features gives a label: the parts add up, and what decided is on top."""

import json
from pathlib import Path

import pytest

from memspan.explain import explain_label
from tests.commands import Run

ROWS = [("The soup was cold and the bread stale", "bad"), ("The soup was hot and the bread fresh", "good")] * 15


@pytest.fixture
def checkpoint(run: Run, tiny_model: Path, tmp_path: Path) -> str:
    path = tmp_path / "food.csv"
    rows = "".join(f"{text} on day {number}.,{label}\n" for number, (text, label) in enumerate(ROWS))
    path.write_text(f"text,label\n{rows}", "utf-8")
    options = ("--features", "words", "--features", "states", "--model", str(tiny_model), "--precision", "fp32")
    done = run("train", "--task", "classification", "--data", str(path), *options, "--output", "out")
    assert done.code == 0, done
    return "out/best"


def test_the_parts_add_up_to_the_log_odds(checkpoint: str) -> None:
    found = explain_label(checkpoint, "The soup was cold. The bread was fresh. The day was long.")
    assert found.score == pytest.approx(sum(found.parts.values()), rel=1e-4)
    assert found.parts.keys() == {"words", "states", "the constant"}
    assert found.probability is not None
    assert found.score == pytest.approx(np_log_odds(found.probability), abs=1e-3)
    assert found.answer != found.other
    assert "".join(found.spans) == "The soup was cold. The bread was fresh. The day was long."


def test_the_words_that_decide_are_on_top(checkpoint: str) -> None:
    found = explain_label(checkpoint, "The soup was cold and the bread stale.")
    assert found.answer == "bad"
    strongest = {term for term, _ in found.terms[:6]}
    assert {"cold", "stale"} <= {word for term in strongest for word in term.split()}
    falls = dict(zip((span.strip() for span in found.spans), found.falls, strict=True))
    assert falls["cold"] > falls["was"]


def test_it_is_printed_and_written(run: Run, checkpoint: str) -> None:
    done = run("explain", checkpoint, "The soup was hot and the bread fresh.", "--html", "why.html")
    assert done.code == 0, done
    assert "Compared with: bad" in done.out
    assert "Strongest terms" in done.out
    assert "The stronger the colour" in Path("why.html").read_text("utf-8")
    assert json.loads(run("explain", checkpoint, "The soup was hot.", "--json").out)["answer"] == "good"
    assert "leave out --method" in run("explain", checkpoint, "Hot soup.", "--method", "attention").sentence


def np_log_odds(probability: float) -> float:
    import math

    return math.log(probability / (1 - probability))
