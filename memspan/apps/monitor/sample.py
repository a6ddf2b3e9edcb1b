"""A generated sample: labelled texts to train on, and a stream of opinions about a bank over a year with planted rises.

Beside the rises of negative opinion there is what a detector must not take for them: days with far more texts, weeks of
praise, a weekly rhythm, and shares that move slowly by a few points.
"""

import csv
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from memspan.errors import MemspanError, UsageError

LANGUAGES = ("en", "zh")
LABELLED, STREAM, RISES = "labelled.csv", "stream.jsonl", "rises.json"
BEGIN, DAYS = date(2025, 1, 1), 365
PLANTED, QUIET_DAYS, APART = 8, 40, 30  # rises in a year; days before the first; days between two of a topic
_BURSTS, _PRAISES = 6, 4
_ANOTHER = 0.06  # share of texts whose second sentence is of another sentiment


@dataclass(frozen=True)
class Rise:
    """A planted rise of the negative share of a topic.

    Attributes:
        begins, ends: the first day, and the first day after it, as ISO dates.
        added: by how much the share of negative texts is higher.
    """

    topic: str
    begins: str
    ends: str
    added: float


@dataclass(frozen=True)
class Day:
    """What is said about a topic on a day: the weight of its volume, and the shares of the sentiments."""

    topic: str
    day: date
    weight: float
    negative: float
    positive: float


@dataclass(frozen=True)
class Year:
    """A simulated year."""

    days: list[Day]
    rises: list[Rise]


def simulate(seed: int, topics: Sequence[str]) -> Year:
    """A year of days for each topic, with `PLANTED` rises."""
    draw = random.Random(f"year {seed}")
    rises = _planted(draw, topics)
    bursts = [(draw.choice(topics), draw.randrange(DAYS), draw.randint(2, 5)) for _ in range(_BURSTS)]
    praises = [(draw.choice(topics), draw.randrange(DAYS), draw.randint(7, 20)) for _ in range(_PRAISES)]
    days = []
    for topic in topics:
        base, phase, volume = draw.uniform(0.14, 0.28), draw.uniform(0, math.tau), draw.uniform(0.7, 1.4)
        for number in range(DAYS):
            day = BEGIN + timedelta(days=number)
            weight = volume * draw.lognormvariate(0, 0.15) * (0.7 if day.weekday() > 4 else 1.0)
            weight *= 2.5 if _within(bursts, topic, number) else 1.0
            negative = base + 0.03 * math.sin(math.tau * number / 200 + phase) + (0.02 if day.weekday() == 0 else 0.0)
            negative += sum(rise.added for rise in rises if rise.topic == topic and rise.begins <= str(day) < rise.ends)
            positive = 0.35 + (0.2 if _within(praises, topic, number) else 0.0)
            days.append(Day(topic, day, weight, negative, min(positive, 1 - negative)))
    return Year(days, rises)


def _planted(draw: random.Random, topics: Sequence[str]) -> list[Rise]:
    found: list[Rise] = []
    begun: dict[str, list[int]] = {topic: [-APART] for topic in topics}
    while len(found) < PLANTED:
        topic, first, length = draw.choice(topics), draw.randrange(QUIET_DAYS, DAYS - 20), draw.randint(6, 14)
        if all(abs(first - other) >= APART + 14 for other in begun[topic]):
            begun[topic].append(first)
            days = [str(BEGIN + timedelta(days=number)) for number in (first, first + length)]
            found.append(Rise(topic, days[0], days[1], round(draw.uniform(0.3, 0.45), 2)))
    return sorted(found, key=lambda rise: rise.begins)


def _within(stretches: Sequence[tuple[str, int, int]], topic: str, number: int) -> bool:
    return any(name == topic and first <= number < first + length for name, first, length in stretches)


def stream(count: int, seed: int, language: str = "en") -> Iterator[dict[str, Any]]:
    """Records with id, time and text, in the order of their times."""
    lists = word_lists(language)
    year, draw = simulate(seed, list(lists["topics"])), random.Random(f"stream {seed}")
    drawn = draw.choices(range(len(year.days)), [day.weight for day in year.days], k=count)
    moments = sorted(
        (datetime(*year.days[index].day.timetuple()[:3], tzinfo=UTC) + timedelta(seconds=draw.randrange(86400)), index)
        for index in drawn
    )
    for number, (moment, index) in enumerate(moments, 1):
        day = year.days[index]
        share = draw.random()
        sentiment = (
            "negative" if share < day.negative else "positive" if share < day.negative + day.positive else "neutral"
        )
        text = compose(draw, lists, day.topic, sentiment)
        yield {"id": f"{number:07}", "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "text": text}


def labelled(count: int, seed: int, language: str = "en") -> Iterator[dict[str, str]]:
    """Records with text, topic and sentiment, each as likely as any other."""
    lists, draw = word_lists(language), random.Random(f"labelled {seed}")
    for _ in range(count):
        topic, sentiment = draw.choice(list(lists["topics"])), draw.choice(list(lists["sentiments"]))
        text = compose(draw, lists, topic, sentiment)
        yield {"text": text, "topic": topic, "sentiment": lists["sentiments"][sentiment]}


def compose(draw: random.Random, lists: Mapping[str, Any], topic: str, sentiment: str) -> str:
    """A text of one or two sentences."""
    words = lists["topics"][topic]
    sentence: str = draw.choice(lists["openings"]) + draw.choice(words[sentiment]).replace(
        "{}", draw.choice(words["subjects"])
    )
    if draw.random() < 0.6:
        other = draw.choice(list(lists["more"])) if draw.random() < _ANOTHER else sentiment
        sentence += lists["stop"] + draw.choice(lists["more"][other])
    else:
        sentence += lists["stop"].rstrip()
    while "{day}" in sentence:
        sentence = sentence.replace("{day}", draw.choice(lists["days"]), 1)
    return sentence[0].upper() + sentence[1:]


def word_lists(language: str) -> dict[str, Any]:
    """The words of the sample. Raises UsageError for a language without any."""
    if language not in LANGUAGES:
        raise UsageError(f"The language must be one of {', '.join(LANGUAGES)}, got '{language}'.")
    lists: dict[str, Any] = json.loads((files(__package__) / "sample.json").read_text("utf-8"))[language]
    return lists


def write(folder: Path, texts: int, labelled_texts: int, seed: int, language: str) -> None:
    """Write the labelled texts, the stream and the planted rises into a folder. Raises MemspanError where that fails."""
    rises = simulate(seed, list(word_lists(language)["topics"])).rises
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LABELLED).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["text", "topic", "sentiment"])
            table.writeheader()
            table.writerows(labelled(labelled_texts, seed, language))
        with (folder / STREAM).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in stream(texts, seed, language))
        (folder / RISES).write_text(json.dumps([asdict(rise) for rise in rises], indent=2, ensure_ascii=False), "utf-8")
    except OSError as error:
        raise MemspanError(f"The sample cannot be written to {folder}: {error.strerror}.") from error
