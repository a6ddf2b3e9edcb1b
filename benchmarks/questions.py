"""Paragraphs and questions of SQuAD-like data sets, split by article into a half for choosing and a half for testing."""

import json
import random
import re
import string
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import DATA, needs


@dataclass(frozen=True)
class Question:
    paragraph: int
    question: str
    answers: tuple[str, ...]


def seed_of(test: bool) -> int:
    """The seed that draws the paragraphs and questions of one half of the articles."""
    return 2 if test else 1


def load(name: str, *, test: bool, paragraphs: int = 300, questions: int = 200) -> tuple[list[str], list[Question]]:
    """Shuffled paragraphs, and questions about them. `test=False` takes other articles: for choosing prompts and weights."""
    articles = _articles(name)
    chosen = [article for index, article in enumerate(articles) if index % 2 == test]
    rng = random.Random(seed_of(test))
    pool = [paragraph for article in chosen for paragraph in article["paragraphs"]]
    rng.shuffle(pool)
    pool = pool[:paragraphs]
    questions_of_pool = [
        Question(number, item["question"].strip(), tuple(answer["text"] for answer in item["answers"]))
        for number, paragraph in enumerate(pool)
        for item in paragraph["qas"]
    ]
    rng.shuffle(questions_of_pool)
    return [paragraph["context"].strip() for paragraph in pool], questions_of_pool[:questions]


def half(name: str, *, test: bool) -> dict[str, Any]:
    """The articles of one half, in the form of SQuAD."""
    return {"data": [article for index, article in enumerate(_articles(name)) if index % 2 == test]}


def _articles(name: str) -> list[dict[str, Any]]:
    if name == "squad":
        path = needs(DATA / "squad11_dev" / "dev-v1.1.json.zip")
        with zipfile.ZipFile(path) as archive:
            data: list[dict[str, Any]] = json.loads(archive.read(archive.namelist()[0]))["data"]
            return data
    path = needs(DATA / "cmrc2018" / "cmrc2018_dev.json")
    articles: list[dict[str, Any]] = json.loads(Path(path).read_text("utf-8"))["data"]
    return articles


def normalise(text: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    text = "".join(
        " " if mark in string.punctuation or unicodedata.category(mark)[0] == "P" else mark for mark in text.lower()
    )
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def contained(answer: str, gold: tuple[str, ...]) -> bool:
    """Whether one of the right answers stands in the answer, as whole words."""
    words = f" {normalise(answer)} "
    return any(f" {normalise(expected)} " in words for expected in gold)
