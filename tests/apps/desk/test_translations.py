"""Translations of long documents: paragraphs, known pairs, one word for each name, and going on after an end."""

import json
from pathlib import Path

import pytest

from memspan.apps.desk.translation import Translated, translate, verified_terms
from memspan.apps.desk.units import units
from memspan.apps.desk.work import Work
from memspan.data.documents import open_documents
from memspan.models.generate import Sampling
from tests.apps.desk.engine import engine, translator
from tests.commands import Run
from tests.servers import serving

CHAPTER = """# The ship

Ayla saw the ship at noon.
It was the ship of Korin.

- Korin waved.
- Nobody else did.

```python
ship = 1
```

1. The end.

Ayla saw the ship at noon.
It was the ship of Korin.
"""
TRANSLATED = """# THE SHIP

AYLANA SAW THE SHIP AT NOON. IT WAS THE SHIP OF KORIN.

- KORIN WAVED.
- NOBODY ELSE DID.

```python
ship = 1
```

1. THE END.

AYLANA SAW THE SHIP AT NOON. IT WAS THE SHIP OF KORIN.
"""


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    (tmp_path / "chapter.md").write_text(CHAPTER, "utf-8")
    (tmp_path / "pairs.csv").write_text("source,target\nThe boat of Korin.,DAS BOOT\nGood day.,GUTEN TAG\n", "utf-8")
    (tmp_path / "terms.csv").write_text("source,target\nship,SHIP\nnoon,MITTAG\n", "utf-8")
    return tmp_path / "chapter.md"


def test_a_chapter_keeps_its_form_and_repeats_what_it_knows(run: Run, chapter: Path) -> None:
    with serving(engine(translator)) as server:
        outcome = run("translate", "chapter.md", "--to", "German", "--answer-with", server.url, "--output", "out.md")
        asked = len(server.bodies)
        again = run("translate", "chapter.md", "--to", "German", "--answer-with", server.url, "--output", "out.md")
        assert len(server.bodies) == asked
    assert outcome.code == again.code == 0
    assert Path("out.md").read_text("utf-8") == TRANSLATED
    assert "Translated 6 units, 1 of them repeated." in outcome.err
    glossary = Path("out.md.work/glossary.csv").read_text("utf-8").splitlines()
    assert glossary == ["source,target", "Ayla,AYLANA", "Korin,KORIN"]  # what is not there on both sides is no term


def test_pairs_terms_and_what_was_translated_before_stand_in_the_prompt(run: Run, chapter: Path) -> None:
    with serving(engine(translator)) as server:
        options = ["--memory", "pairs.csv", "--glossary", "terms.csv", "--answer-with", server.url, "--json"]
        outcome = run("translate", "chapter.md", "--to", "German", *options)
    result = json.loads(outcome.out)
    assert result["text"] == TRANSLATED
    assert list(result["glossary"]) == ["ship", "noon", "Ayla", "Korin"]
    assert (result["terms"], result["missing"]) == (4, 1)  # ship twice, noon, Korin; MITTAG is never written
    bodies = [body["messages"] for body in server.bodies if "List the names" not in body["messages"][-1]["content"]]
    second = bodies[1]
    assert "Translate into German" in second[0]["content"]
    assert "Write ship as SHIP. Write noon as MITTAG." in second[0]["content"]
    assert "must contain: MITTAG." in bodies[2][0]["content"]
    turns = [message["content"] for message in second]
    assert turns.index("DAS BOOT") < turns.index("THE SHIP")  # what is nearest comes last
    assert any("Write Korin as KORIN." in body[0]["content"] for body in bodies[3:])


class Shouting:
    """An engine in this process, which can be ended."""

    name, sampling = "shouting", Sampling()

    def __init__(self, left: int = 1_000) -> None:
        self.left = left

    def translate(self, source: str, pairs: object, instruction: str) -> str:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return f"{source.upper()} {len(str(pairs))}"

    def terms(self, source: str, target: str, language: str) -> str:
        return f"{source.split()[0]} = {target.split()[0]}"


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_run_that_was_ended_goes_on_and_gives_the_same(chapter: Path, tmp_path: Path, left: int) -> None:
    (document,) = open_documents([chapter])
    whole, resumed = Translated({}), Translated({})
    with Work(tmp_path / "whole") as work:
        text = "".join(translate(document, "German", Shouting(), work, outcome=whole))
    with Work(tmp_path / "ended") as work, pytest.raises(KeyboardInterrupt):
        list(translate(document, "German", Shouting(left), work))
    with Work(tmp_path / "ended") as work:
        assert "".join(translate(document, "German", Shouting(), work, outcome=resumed)) == text
        assert work.taken == left
    assert resumed.to_dict() == whole.to_dict()


def test_units_hold_the_document(tmp_path: Path) -> None:
    text = f"{CHAPTER}\n\n　第一章　开始\n\n{'很长的一段话。' * 400}\n\n> quoted\n> lines\n\n---\n\n   \n* * *\nlast"
    (tmp_path / "text.md").write_text(text, "utf-8")
    (document,) = open_documents([tmp_path / "text.md"])
    parts = list(units(document))
    assert "".join(part.before + part.text + part.behind for part in parts) == text
    assert all(len(part.text) <= 1_200 and part.text == part.text.strip() for part in parts)
    assert "ship = 1" not in {part.text for part in parts}


def test_a_chinese_chapter(run: Run, tmp_path: Path) -> None:
    (tmp_path / "zh.txt").write_text("第一章\n\n长程记忆很重要。\n\n长程记忆很重要。\n", "utf-8")
    with serving(engine(lambda messages: "Memory matters.")) as server:
        outcome = run("translate", "zh.txt", "--to", "English", "--answer-with", server.url)
    assert outcome.out == "Memory matters.\n\nMemory matters.\n\nMemory matters.\n"


def test_only_terms_that_stand_on_both_sides_are_kept() -> None:
    lines = "1. Ayla = Aila\n- moon = Mond;\nsea = See\nAyla: Aila\n= x\n**ship** = “Schiff”"
    found = verified_terms(lines, "Ayla saw the moon and the ship.", "Aila sah den Mond und das Schiff.")
    assert found == {"Ayla": "Aila", "moon": "Mond", "ship": "Schiff"}


def test_the_embedded_model_says_what_it_cannot(run: Run, chapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMSPAN_MODEL")
    assert "cannot translate by itself" in run("translate", "chapter.md", "--to", "German").sentence
    assert "is empty" in run("translate", "chapter.md", "--to", " ").sentence
    Path("pairs.csv").write_text("a,b\n1,2\n", "utf-8")
    wrong = run("translate", "chapter.md", "--to", "German", "--memory", "pairs.csv", "--model", "smollm2")
    assert "columns source and target" in wrong.sentence


def test_a_language_model_goes_on_with_known_pairs(run: Run, chapter: Path) -> None:
    Path("short.txt").write_text("Day.\n\nNight.\n", "utf-8")
    outcome = run("translate", "short.txt", "--to", "German", "--memory", "pairs.csv")
    assert outcome.code == 0
    assert outcome.out.count("\n\n") == 1


def test_a_unit_for_which_the_engine_writes_nothing_stays_and_is_counted(run: Run, chapter: Path) -> None:
    with serving(engine(lambda messages: "" if "Korin waved" in messages[-1]["content"] else "x")) as server:
        outcome = run("translate", "chapter.md", "--to", "German", "--answer-with", server.url, "--temperature", "0.5")
    assert "- Korin waved.\n" in outcome.out
    assert "wrote nothing for 1 unit" in outcome.err
    assert {body["temperature"] for body in server.bodies} == {0.5}
