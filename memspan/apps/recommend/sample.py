"""A generated sample: what the readers of a town library viewed, commented on, shared and rated."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from memspan.errors import MemspanError, UsageError

BEGIN = datetime(2026, 1, 5, 10, tzinfo=UTC)
READERS, BOOKS, NEW = 80, 12, 1  # of each topic, so many books, and so many that are new
LATER = 0.9  # share of the events that stand in the first table
EVENT_COLUMNS, ITEM_COLUMNS = ("reader", "book", "time", "event", "rating"), ("book", "title", "description", "genres")

Row = tuple[str, ...]


def write_sample(folder: Path) -> dict[str, Path]:
    """Write the sample into a new folder; its files by what they are.

    Raises UsageError for a folder that is not empty, MemspanError where it cannot be written.
    """
    content: dict[str, Any] = json.loads((files("memspan.apps.recommend") / "sample.json").read_text("utf-8"))
    names = {"events": "events.csv", "items": "books.csv", "later events": "later.csv", "new items": "new-books.csv"}
    paths = {name: folder / file for name, file in names.items()}
    events = list(_events(content))
    first = int(len(events) * LATER)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} must be a new or an empty folder.")
        folder.mkdir(parents=True, exist_ok=True)
        unusable = ("reader 01", "gardening 01", "some day", "view", "")  # as tables have it
        _write(paths["events"], EVENT_COLUMNS, [*events[:first], unusable])
        _write(paths["later events"], EVENT_COLUMNS, events[first:])
        _write(paths["items"], ITEM_COLUMNS, list(_books(content, range(BOOKS))))
        _write(paths["new items"], ITEM_COLUMNS, list(_books(content, range(BOOKS, BOOKS + NEW))))
    except OSError as error:
        raise MemspanError(f"The sample cannot be written to {folder}: {error.strerror}.") from error
    return paths


def _write(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


def _books(content: dict[str, Any], numbers: range) -> Iterator[Row]:
    for topic, words in content["words"].items():
        for number in numbers:
            draw = Random(f"{topic} {number}")
            own = words[number % len(words)]
            others = draw.sample([word for word in words if word != own], 2)
            values = {"a": own, "b": others[0], "c": others[1]}
            titled = {name: word.capitalize() for name, word in values.items()}
            title = content["titles"][number % len(content["titles"])].format(**titled)
            if number >= BOOKS:
                title = f"The New {titled['a']} and {titled['b']}"
            yield f"{topic} {number + 1:02}", title, content["texts"][topic].format(**values), content["genres"][topic]


def _events(content: dict[str, Any]) -> Iterator[Row]:
    """Each reader has two topics, and takes the books of each in order, from some book on."""
    draw = Random(0)
    rows = []
    for reader in range(1, READERS + 1):
        next_of = {topic: draw.randrange(4) for topic in draw.sample(list(content["words"]), 2)}
        when = BEGIN + timedelta(hours=draw.randrange(24 * 60))
        for _ in range(draw.randint(9, 16)):
            topic = draw.choice(list(next_of))
            if next_of[topic] >= BOOKS:
                continue
            book = f"{topic} {next_of[topic] + 1:02}"
            next_of[topic] += 1
            when += timedelta(hours=draw.randint(8, 120))
            rows.append((when, f"reader {reader:02}", book, "view", ""))
            if draw.random() < 0.4:
                kind = draw.choice(("comment", "share", "rating"))
                rating = str(draw.choice((3, 4, 5))) if kind == "rating" else ""
                rows.append((when + timedelta(hours=1), f"reader {reader:02}", book, kind, rating))
    for time, *values in sorted(rows):
        reader_name, book, kind, rating = values
        yield reader_name, book, time.isoformat(timespec="minutes"), kind, rating
