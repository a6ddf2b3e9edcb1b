"""Histories of users: which items they had, in the order of time, from records, and from texts that name them."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from memspan.data.corpora import Record
from memspan.errors import UsageError

MIN_EVENTS = 4  # of a history: one to read, one to predict after it, one to choose a model by, one to test it on


class Item(NamedTuple):
    """Something that can be recommended."""

    id: str
    title: str = ""
    genres: str = ""


class Event(NamedTuple):
    """That a user had an item, how they rated it, when (a number that grows with time), and how much it counts."""

    item: Item
    rating: float | None = None
    time: float = 0.0
    weight: float = 1.0


def histories_of(records: Sequence[Record], min_item_events: int = 1) -> list[Record]:
    """The events of each user in the order of time, {"user": str, "events": [Event, ...]}.

    Events of the same time are in random order, because files sort them by item. Users with fewer than `MIN_EVENTS`
    events are left out, and so are items with fewer than `min_item_events`.

    Raises UsageError for a time or rating that is not one, or fewer than two histories.
    """
    events_of = _events_of(records)
    counts = Counter(event.item.id for events in events_of.values() for event in events)
    kept = {
        user: [event for event in events if counts[event.item.id] >= min_item_events]
        for user, events in events_of.items()
    }
    return _enough(kept)


class DatedHistories(NamedTuple):
    """Histories up to a date, and what users had afterwards.

    Attributes:
        date: the time of the first event that is held out.
        known: the histories before it.
        held_out: histories that end with an event after it; what the user had before, also after the date, comes first.
    """

    date: float
    known: list[Record]
    held_out: list[Record]


def histories_by_date(
    records: Sequence[Record], held_out: float, targets: int, min_item_events: int = 1
) -> DatedHistories:
    """Histories divided at the date after which the newest events happened, a share `held_out` of all.

    Held out are at most `targets` events of each user, drawn at random among those with `MIN_EVENTS` - 1 events or more
    before them, of items that the user had not had. Items that had fewer than `min_item_events` before the date are left out, and so are new ones: nobody
    could have recommended them then.

    Raises UsageError for a time or rating that is not one, fewer than two histories before the date, or none after it.
    """
    events_of = _events_of(records)
    times = sorted(event.time for events in events_of.values() for event in events)
    date = times[min(len(times) - 1, int(len(times) * (1 - held_out)))]
    counts = Counter(event.item.id for events in events_of.values() for event in events if event.time < date)
    kept = {
        user: [event for event in events if counts[event.item.id] >= max(1, min_item_events)]
        for user, events in events_of.items()
    }
    known = _enough({user: [event for event in events if event.time < date] for user, events in kept.items()})
    draw, later = random.Random(0), list[Record]()
    for user, events in kept.items():
        first = {event.item.id: index for index, event in reversed(list(enumerate(events)))}
        possible = [
            index
            for index in range(MIN_EVENTS - 1, len(events))
            if events[index].time >= date and first[events[index].item.id] == index
        ]
        for index in sorted(draw.sample(possible, min(targets, len(possible)))):
            later.append({"user": user, "events": events[: index + 1]})
    if not later:
        raise UsageError(
            f"After the date that holds out {held_out:.0%} of the events, no user with {MIN_EVENTS - 1} earlier events has "
            "an item that was known before it: hold out more, or the last item of each user with split=last."
        )
    return DatedHistories(date, known, later)


def _events_of(records: Sequence[Record]) -> dict[str, list[Event]]:
    """The events of each user in the order of time."""
    draw = random.Random(0)
    items: dict[str, Item] = {}
    events_of: dict[str, list[tuple[float, float, Event]]] = {}
    for record in records:
        if not all(_filled(record[column]) for column in ("user", "item", "time")):
            continue
        name = str(record["item"]).strip()
        if name not in items:
            items[name] = Item(name, str(record.get("title") or ""), str(record.get("genres") or ""))
        event = Event(
            items[name],
            _rating(record.get("rating"), record),
            _time(record["time"], record),
            1.0 if record.get("weight") is None else float(record["weight"]),
        )
        events_of.setdefault(str(record["user"]), []).append((event.time, draw.random(), event))
    return {
        user: [event for *_, event in sorted(events, key=lambda timed: timed[:2])] for user, events in events_of.items()
    }


def _enough(events_of: Mapping[str, list[Event]]) -> list[Record]:
    """The histories of `MIN_EVENTS` events or more. Raises UsageError for fewer than two."""
    histories: list[Record] = [
        {"user": user, "events": events} for user, events in events_of.items() if len(events) >= MIN_EVENTS
    ]
    if len(histories) < 2:
        raise UsageError(
            f"Of {len(events_of)} users in the data {len(histories)} have {MIN_EVENTS} events or more: "
            "recommending needs at least 2 such users."
        )
    return histories


class Catalogue:
    """The items that a model can recommend, numbered in the order of their ids.

    Attributes:
        items: all items.
        numbers: {id: number}.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)
        self.numbers = {item.id: number for number, item in enumerate(self.items)}
        self._titles = {name.lower(): number for number, item in enumerate(self.items) for name in _names(item)}

    def number(self, name: str) -> int | None:
        """The number of the item with this id or title, one of them where items share a title; None for no item."""
        name = name.strip()
        return self.numbers.get(name, self._titles.get(name.lower()))

    def history(self, text: str) -> list[Event]:
        """The events in a text: items by id or title, a line each or separated by semicolons.

        A rating may follow: "Heat (1995) = 4". Raises UsageError for an unknown item, or a text without items.
        """
        events: list[Event] = []
        for line in text.split("\n"):
            names = [line] if self.number(line) is not None else line.split(";")
            events.extend(self._event(name.strip()) for name in names if name.strip())
        if not events:
            raise UsageError("The history holds no item: name ids or titles, separated by semicolons.")
        return events

    def _event(self, text: str) -> Event:
        number, rating = self.number(text), None
        if number is None and "=" in text:
            name, _, value = text.rpartition("=")
            number, rating = self.number(name), _rating(value, text)
        if number is None:
            near = get_close_matches(text.lower(), self._titles, 1, 0.5)
            if not near:
                raise UsageError(f"There is no item '{text}': training never saw it.")
            raise UsageError(
                f"There is no item '{text}': do you mean '{self.items[self._titles[near[0]]].title or near[0]}'?"
            )
        return Event(self.items[number], rating)


def line_of(event: Event) -> str:
    """An event as `Catalogue.history` reads it."""
    return event.item.id if event.rating is None else f"{event.item.id} = {event.rating:g}"


def _names(item: Item) -> list[str]:
    """The names of an item: its title, also without a year, and its id."""
    return [name for name in (item.title.rpartition(" (")[0], item.title, item.id) if name]


def _filled(value: Any) -> bool:
    return value is not None and value != ""


def _rating(value: Any, origin: Record | str) -> float | None:
    if not _filled(value):
        return None
    try:
        rating = float(value)
    except (TypeError, ValueError):
        rating = math.nan
    if not math.isfinite(rating):
        raise UsageError(f"The rating '{value}' in {_shown(origin)} is no number.")
    return rating


def _time(value: Any, record: Record) -> float:
    """A number, or a date in ISO 8601, in seconds."""
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError as error:
        raise UsageError(f"The time '{value}' in {_shown(record)} is neither a number nor a date.") from error


def _shown(origin: Record | str) -> str:
    if isinstance(origin, str):
        return f"'{origin}'"
    return f"the event of user {origin['user']} with item {origin['item']}"
