"""The invented logbook: the same for the same seed, as long as asked, and with each answer in one entry only."""

import hashlib
import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import pytest

from examples.logbook.generate import make_logbook
from examples.picture import picture, typed
from tests.paths import ROOT


def entries_of(text: str) -> dict[str, str]:
    """Heading -> text of the entry."""
    return dict(entry.split("\n", 1) for entry in re.split(r"(?m)^### ", text)[1:])


def test_the_seed_decides_the_book() -> None:
    assert make_logbook(8000, 1) == make_logbook(8000, 1)
    assert make_logbook(8000, 1) != make_logbook(8000, 2)


def test_a_seed_writes_the_book_that_it_always_wrote() -> None:
    """Benchmarks and the demo read the book of seed 7: a template out of order would change all of it."""
    text, questions = make_logbook(30_000, 7)
    digest = hashlib.sha256((text + json.dumps(questions)).encode()).hexdigest()
    assert digest == "c5a148d219a862661ed7e922dcb43b76b7a85b191e07c15892def2d68d4e71e1"


@pytest.mark.parametrize("words", [5000, 20_000, 60_000])
def test_the_length_is_as_asked(words: int) -> None:
    text, _ = make_logbook(words, 7)
    assert len(text.split()) == pytest.approx(words, rel=0.1)


def test_too_short_a_book_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5000"):
        make_logbook(1000, 7)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("words", [5000, 30_000])
def test_each_answer_stands_once_in_the_entry_of_its_date(words: int, seed: int) -> None:
    text, questions = make_logbook(words, seed)
    entries = entries_of(text)
    assert len({one["question"] for one in questions}) == len(questions) == 12
    for one in questions:
        day = date.fromisoformat(one["date"])
        answer = one["answer"].lower()
        assert answer in entries[f"{day:%A}, {day.day} {day:%B %Y}"].lower()
        assert text.lower().count(answer) == 1
        assert answer not in one["question"].lower()


def test_the_mail_of_november_comes_in_november() -> None:
    for seed in range(5):
        (mail,) = [one for one in make_logbook(10_000, seed)[1] if "November" in one["question"]]
        assert mail["date"].startswith("1887-11-")


def test_no_paragraph_comes_twice_and_no_template_shows() -> None:
    text, _ = make_logbook(60_000, 7)
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert re.search(r"[\[\]<>|_]|  |\b[Aa] [aei]|\.\.| ,", text) is None


def test_whoever_is_away_is_not_seen() -> None:
    text, _ = make_logbook(60_000, 7)
    entries = list(entries_of(text).values())
    leaving = r"(\w+) (?:left us in|is gone ashore)"
    returning = r"(\w+) is back from the mainland|put (\w+) ashore this morning"
    journeys = 0
    for number, entry in enumerate(entries):
        for traveller in re.findall(leaving, entry):
            gone = entries[number + 1 :]
            back = next(
                n for n, later in enumerate(gone) if any(traveller in found for found in re.findall(returning, later))
            )
            assert not any(re.search(rf"\b{traveller}\b", later) for later in gone[:back])
            journeys += 1
    assert journeys > 0


def test_the_script_writes_the_book_and_its_questions(tmp_path: Path) -> None:
    out = tmp_path / "log.md"
    command = [sys.executable, "-m", "examples.logbook.generate", str(out), "--words", "6000", "--seed", "3"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "12 questions" in run.stdout
    assert out.read_text(encoding="utf-8").startswith("# The Logbook of")
    lines = (tmp_path / "log.questions.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line).keys() == {"question", "answer", "date"} for line in lines)


def test_the_picture_of_a_terminal_holds_what_was_printed_and_loads_nothing() -> None:
    printed = "At the <foot> & under.\n\n> The chest is at the foot.\n[1] log.md, score 3.10"
    svg = picture([('memspan ask log.mem "Where?"', printed)])
    root = ElementTree.fromstring(svg)
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert all(line in text for line in ('$ memspan ask log.mem "Where?"', *printed.split("\n")))
    assert "url(" not in svg.replace("url(#", "")
    assert "@font-face" not in svg
    assert typed(["memspan", "ask", "a.mem", "Where's the chest?"]) == 'memspan ask a.mem "Where\'s the chest?"'
    assert svg == picture([('memspan ask log.mem "Where?"', printed)])
