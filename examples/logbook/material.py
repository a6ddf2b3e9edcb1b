"""The material of the logbook: people, words and templates, read from the files in `templates`.

A template file holds templates, separated by empty lines. In a file of a plot, lines of two dashes separate its stages,
each a choice of templates. In `facts.txt` lines of four equals signs separate facts, each a head of `name: value` lines
and sections that begin with `-- before`, `-- event` and `-- after`.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8").strip()


def _json(name: str) -> Any:
    return json.loads((TEMPLATES / name).read_text("utf-8"))


def _templates(text: str) -> list[str]:
    """The paragraphs of `text`, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]


def _stages(text: str) -> list[list[str]]:
    return [_templates(stage) for stage in text.split("\n--\n")]


def _folder(name: str, files: Sequence[str]) -> dict[str, list[str]]:
    """{file: its templates}, in the order of `files`, which decides the random numbers."""
    return {file: _templates(_text(f"{name}/{file}.txt")) for file in files}


@dataclass(frozen=True)
class Fact:
    """Something that stands in one entry only: its question, its possible answers, and the templates around it."""

    question: str
    answers: Sequence[str]
    event: Sequence[str]  # a choice of templates that state the answer
    before: Sequence[str] = ()  # what led up to it, a stage each
    after: Sequence[str] = ()  # what came of it, a stage each
    earliest: float = 0.0  # share of the book before which it may not stand

    def draw_answer(self, rng: random.Random) -> str:
        """One of the answers, with a digit for each "#"."""
        return re.sub("#", lambda _: str(rng.randint(1, 9)), rng.choice(self.answers))


def _fact(text: str) -> Fact:
    head, *sections = re.split(r"^-- (\w+)\n", text.strip() + "\n", flags=re.MULTILINE)
    fields = dict(line.split(": ", 1) for line in head.strip().splitlines())
    parts = {name: _templates(content) for name, content in zip(sections[::2], sections[1::2], strict=True)}
    answers = fields["answers"].split(" | ")
    return Fact(fields["question"], answers, earliest=float(fields.get("earliest", 0)), **parts)


@dataclass(frozen=True)
class PlotKind:
    """A story that may happen again and again, to other people and with other things."""

    name: str
    stages: Sequence[Sequence[str]]
    cards: Sequence[str]  # its subjects: "thing|fault" for keys ("thing", "fault")
    keys: Sequence[str]
    days: tuple[int, int]  # fewest and most between two stages
    heroes: Sequence[str]
    idles: bool = False  # its hero, A, is away or in bed between the first stage and the last


PEOPLE, WORDS, SUBJECTS = _json("people.json"), _json("words.json"), _json("plots/subjects.json")
TITLES: Mapping[str, str] = PEOPLE["titles"]  # job -> what stands before the surname
FEASTS = {date.fromisoformat(day): template for day, template in WORDS["feasts"].items()}

WEATHER = _folder("weather", ("calm", "breeze", "fresh", "gale", "fog", "rain", "frost"))
NATURE = _folder("nature", ("spring", "summer", "autumn", "winter"))
SET_PIECES = _folder("set_pieces", ("any", "fair", "foul"))  # each once, if at all, in weather that suits it
ANY_DAY = _folder("days", ("light", "food", "evening", "talk", "thoughts", "stores"))
SOME_DAYS = _folder("days", ("fair_work", "foul_work", "survey", "passing", "sunday", "mail", "cargo"))

MEN = [job for job in TITLES if job not in PEOPLE["women"] and job != "captain"]  # who may be <A>, <B> or <C>
TRAVELLERS = ["smith", "second", "coxswain", "carpenter"]


def _plot(name: str, keys: Sequence[str], days: tuple[int, int], heroes: Sequence[str] = MEN, **more: bool) -> PlotKind:
    stages = _stages(_text(f"plots/{name}.txt"))
    return PlotKind(name, stages, SUBJECTS.get(name, [""]), keys, days, heroes, **more)


PLOT_KINDS = [
    _plot("repair", ("thing", "fault"), (1, 4)),
    _plot("quarrel", ("cause",), (2, 6)),
    _plot("illness", ("ailment",), (2, 5), idles=True),
    _plot("loss", ("thing", "where"), (1, 5)),
    _plot("making", ("thing",), (5, 14)),
    _plot("reading", ("thing",), (4, 9)),
    _plot("hope", ("thing",), (8, 25)),
    _plot("absence", ("cause",), (20, 45), TRAVELLERS, idles=True),
]
ONCE = [_stages(story) for story in _text("plots/once.txt").split("\n====\n")]
FACTS = [_fact(text) for text in _text("facts.txt").split("\n====\n")]
NOVEMBER = _fact(_text("november.txt"))
PREFACE, OPENING, CLOSING = _text("preface.txt"), _templates(_text("opening.txt")), _templates(_text("closing.txt"))
