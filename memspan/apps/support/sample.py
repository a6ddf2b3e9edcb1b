"""A generated sample: the customers of a shop for garden tools, in English and Chinese."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from memspan.errors import MemspanError, UsageError

BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)


def write_sample(folder: Path) -> dict[str, Path]:
    """Write the sample into a new folder; its files by what they are.

    Raises UsageError for a folder that is not empty, MemspanError where it cannot be written.
    """
    texts: dict[str, Any] = json.loads((files("memspan.apps.support") / "sample.json").read_text("utf-8"))
    paths = {
        "knowledge": folder / "knowledge",
        "dialogues": folder / "dialogues.csv",
        "templates": folder / "templates.csv",
        "test": folder / "test.csv",
    }
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} must be a new or an empty folder.")
        paths["knowledge"].mkdir(parents=True)
        for name, text in texts["knowledge"].items():
            (paths["knowledge"] / name).write_text(text, "utf-8")
        _write(paths["dialogues"], ["customer", "time", "message", "reply", "intent"], _dialogues(texts["dialogues"]))
        templates = [(intent, reply) for intent, replies in texts["templates"].items() for reply in replies]
        _write(paths["templates"], ["intent", "reply"], iter(templates))
        _write(paths["test"], ["message", "intent", "source"], _test(texts["test"]))
    except OSError as error:
        raise MemspanError(f"The sample cannot be written to {folder}: {error.strerror}.") from error
    return paths


def _write(path: Path, names: list[str], rows: Iterator[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        table.writerows(rows)


def _dialogues(intents: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Every message of another customer, and a row without a message, as tables have it."""
    draw = Random(0)
    pairs = [
        (intent, message, spoken["replies"])
        for intent, languages in intents.items()
        for spoken in languages.values()
        for message in spoken["messages"]
    ]
    draw.shuffle(pairs)
    for row, (intent, message, replies) in enumerate(pairs):
        number = str(draw.randint(10_000, 99_999))
        reply = draw.choice(replies) if replies and "{number}" in message else next(iter(replies[-1:]), "")
        reply = "" if "{number}" in reply and "{number}" not in message else reply
        when = (BEGIN + timedelta(minutes=37 * row)).isoformat(timespec="minutes")
        yield f"c{row:03}", when, message.replace("{number}", number), reply.replace("{number}", number), intent
    yield "c999", BEGIN.isoformat(timespec="minutes"), "", "Thank you.", "refund"


def _test(test: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    draw = Random(1)
    for intent, messages in test["intents"].items():
        for message in messages:
            yield message.replace("{number}", str(draw.randint(10_000, 99_999))), intent, ""
    for source, questions in test["knowledge"].items():
        for question in questions:
            yield question, "", source
    for message in test["outside"]:
        yield message, "none of these", ""
