"""What somebody will want next, after all that they have had: films, books, wares.

Letters: B batch, T tokens, N items.
"""

import json
import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from memspan.data.datasets import TABLE, Record, pad
from memspan.errors import MemspanError, UsageError
from memspan.tasks import metrics
from memspan.tasks.base import IGNORE_INDEX, Batch
from memspan.tasks.text.base import Example, TextTask, damaged, read_learned

ITEMS = "items.json"
TOLD = ("title", "genres", "rating")  # columns besides those that there must be
SHOWN = 10  # items that are recommended, and among which the right one counts
LEAST = 4  # events of a history: one to read, one to say after it, one to choose a model by, one to test it on


class Item(NamedTuple):
    """Something that can be recommended."""

    id: str
    title: str = ""
    genres: str = ""


class Event(NamedTuple):
    """That somebody had an item, and what they thought of it."""

    item: Item
    rating: float | None = None


class Recommendation(TextTask):
    """Columns: user, item, time; where there are some also title, genres, rating.

    What a user had, in the order of time, is a stream; behind every item the next one is asked for, as in SASRec (Kang and
    McAuley 2018, arXiv 1808.09781). Of each user the last item is held out to test on, and the one before to choose a
    model by; training sees neither. Events of the same time stand in random order, because files sort them by item.

    An item is an id behind those of the tokenizer, which reads the rest: an event may also tell columns of its own
    before its item, and `cards` are streams that tell an item's title and genres and ask which it is, meant to
    make rare items known by their texts. All items are ranked but those that the user had already.

    Deviations from the paper: no negatives are sampled, the softmax is over all items; and the metrics rank all items,
    not a hundred (Krichene and Rendle 2020 show why).

    The baselines are the items that most users had, and Bayesian personalised ranking (Rendle et al. 2009) by the library
    implicit; both know every event but the one to be said.

    Args:
        data: files to train on; without any, a small sample that memspan generates; None for a saved task that is only
            to predict.
        test: files with the histories of other users, whose last items are asked for instead.
        format: of the files: table, hub, or movielens, which is a folder.
        rename: columns that are called otherwise, {theirs: ours}.
        limit: users at most.
        least: events of an item; those of items that have fewer are left out. The paper takes 5.
        segment: tokens of a segment.
        told: columns of an event that are told before its item: title, genres, rating.
        cards: the part of the batches that are cards.
        asked: the last segments of a stream in which items are asked for; by default in all of them. A logit of every
            item at every token is most of the work, also at tokens that ask nothing.
        vocabulary: ids of the byte-pair encoding that is learned from titles and genres.
        tokenizer: take that of this pretrained model instead.
        saved: a folder that `save` wrote: tokenizer and items come from there.
    """

    columns, metric = ("user", "item", "time"), f"NDCG@{SHOWN}"
    is_text = False  # items stand in the streams
    _choosing = False  # whether `batch` asks for the items that models are chosen by

    def __init__(
        self,
        data: str | Sequence[str] | None = (),
        test: str | Sequence[str] = (),
        format: str = TABLE,
        rename: Mapping[str, str] | None = None,
        limit: int | None = None,
        least: int = 1,
        segment: int = 32,
        told: str | Sequence[str] = (),
        cards: float = 0.0,
        asked: int | None = None,
        vocabulary: int = 1024,
        tokenizer: str | None = None,
        saved: str | None = None,
    ) -> None:
        self.told = (told,) if isinstance(told, str) else tuple(told)
        unknown = [column for column in self.told if column not in TOLD]
        if unknown:
            raise UsageError(f"An event cannot tell its '{unknown[0]}', only {', '.join(TOLD)}.")
        if not 0 <= cards < 1 or (asked is not None and asked < 1):
            raise UsageError(f"cards={cards}, asked={asked} cannot be: from 0 to below 1, and at least 1.")
        self.cards, self.asked, self.limit, self.least = cards, asked, limit, least
        super().__init__(
            data, test, format, rename=rename, limit=limit, segment=segment, vocabulary=vocabulary,
            tokenizer=tokenizer, saved=saved,
        )  # fmt: skip

    # ---- records

    def split(
        self, records: Sequence[Record], share: float, limit: int | None
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        """The same users twice: what is held out is the end of each history."""
        histories = self.histories(records)
        return histories, histories

    def usable(self, records: Sequence[Record]) -> list[Record]:
        return list(records) if "events" in records[0] else self.histories(records)

    def histories(self, records: Sequence[Record]) -> list[Record]:
        """The events of each user in the order of time, {"user": str, "events": [Event, ...]}; four events or more."""
        draw = random.Random(0)
        counts = Counter(str(record["item"]).strip() for record in records) if self.least > 1 else Counter()
        items: dict[str, Item] = {}
        users: dict[str, list[tuple[float, float, Event]]] = {}
        for record in records:
            if not all(map(_filled, (record["user"], record["item"], record["time"]))):
                continue
            name = str(record["item"]).strip()
            if self.least > 1 and counts[name] < self.least:
                continue
            if name not in items:
                items[name] = Item(name, str(record.get("title") or ""), str(record.get("genres") or ""))
            event = Event(items[name], _rating(record.get("rating"), record))
            users.setdefault(str(record["user"]), []).append((_time(record["time"], record), draw.random(), event))
        histories: list[Record] = [
            {"user": user, "events": [event for _, _, event in sorted(events, key=lambda one: one[:2])]}
            for user, events in users.items()
            if len(events) >= LEAST
        ]
        if len(histories) < 2:
            raise UsageError(
                f"Of {len(users)} users in the data {len(histories)} have {LEAST} events or more: "
                "recommending needs at least 2 such users."
            )
        return histories[: self.limit]

    def prepare(self, saved: str | None) -> None:
        if saved is None:
            found = {event.item.id: event.item for record in self.records for event in record["events"]}
            self.items = [found[name] for name in sorted(found)]
        else:
            kept = read_learned(saved, ITEMS, "items")
            if not isinstance(kept, list) or not all(_is_item(one) for one in kept):
                raise damaged(Path(saved) / ITEMS, "items")
            self.items = [Item(*one) for one in kept]
        if len(self.items) <= SHOWN:
            raise UsageError(f"There are {len(self.items)} items: to recommend {SHOWN} of them, there must be more.")
        self.numbers = {item.id: number for number, item in enumerate(self.items)}
        self.titles = {name.lower(): number for number, item in enumerate(self.items) for name in _names(item)}
        strange = [
            event.item.id
            for record in (*self.records, *self._rest)
            for event in record["events"]
            if event.item.id not in self.numbers
        ]
        if strange:
            raise UsageError(
                f"The data have the item '{strange[0]}', which training never saw: leave such events out, or train on them."
            )
        self.extra = len(self.items)
        self._encoded = lru_cache(2**16)(self.tokenizer.encode)
        self._streams = [self.event_ids(record["events"][:-2]) for record in self.records]
        self._described = [number for number, item in enumerate(self.items) if item.title or item.genres]
        if self.cards and not self._described:
            raise UsageError(f"cards={self.cards} cannot be: the data tell neither titles nor genres.")

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        items = {event.item for record in records for event in record["events"]}
        return (text for item in sorted(items) for text in (item.title, item.genres) if text)

    # ---- streams

    def event_ids(self, events: Sequence[Event]) -> list[list[int]]:
        """The ids of each event; the last one is its item's."""
        return [[*self._told_ids(event), self.tokenizer.size + self.numbers[event.item.id]] for event in events]

    def _told_ids(self, event: Event) -> list[int]:
        if not self.told:
            return []
        rating = "" if event.rating is None else str(round(event.rating))
        words = {"title": event.item.title, "genres": event.item.genres, "rating": rating}
        return self._encoded(" ".join(words[column] for column in self.told))

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        def below(bound: int) -> int:
            return int(torch.randint(0, bound, (), generator=generator))

        if self._choosing:
            chosen = [self.records[below(len(self.records))]["events"] for _ in range(rows)]
            return self._asking_last([events[:-1] for events in chosen], segments)
        if torch.rand((), generator=generator) < self.cards:
            return self._cards([self._described[below(len(self._described))] for _ in range(rows * segments)])
        return self._following([self._streams[below(len(self._streams))] for _ in range(rows)], segments, below)

    def _following(self, histories: Sequence[list[list[int]]], segments: int, below: Callable[[int], int]) -> Batch:
        """A part of each history, the next item asked for behind every item in it."""
        room = segments * self.segment
        rows, wanted = [], []
        for events in histories:
            ends = list(accumulate(map(len, events)))
            stream = [one for event in events for one in event]
            asks = [IGNORE_INDEX] * len(stream)
            for end, after in pairwise(ends):
                asks[end - 1] = stream[after - 1]
            possible = ends[bisect_left(ends, min(room, ends[-2])) : -1]  # all that is before it need not be cut off
            end = possible[below(len(possible))]
            rows.append(stream[max(0, end - room) : end])
            wanted.append(asks[max(0, end - room) : end])
        ids, _ = pad(rows, self.segment, self.tokenizer.pad)
        targets, _ = pad(wanted, self.segment, IGNORE_INDEX)
        if self.asked is not None:
            targets[:, : -self.asked * self.segment] = IGNORE_INDEX
        return Batch(ids, targets)

    def _asking_last(self, histories: Sequence[Sequence[Event]], segments: int) -> Batch:
        """Histories whose last item alone is asked for."""
        read = [self._last(self.event_ids(events[:-1]), segments) for events in histories]
        ids, _ = pad(read, self.segment, self.tokenizer.pad)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -1] = torch.tensor([self.tokenizer.size + self.numbers[events[-1].item.id] for events in histories])
        return Batch(ids, targets)

    def _cards(self, items: Sequence[int]) -> Batch:
        """What is said about each item, and behind it which one it is."""
        room = self.segment - len(self.tokenizer.answer)
        texts = (f"{self.items[item].title} {self.items[item].genres}".strip() for item in items)
        read = [[*self.tokenizer.encode(text)[:room], *self.tokenizer.answer] for text in texts]
        ids, _ = pad(read, self.segment, self.tokenizer.pad)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -1] = torch.tensor(items) + self.tokenizer.size
        return Batch(ids, targets)

    def _last(self, events: Sequence[list[int]], segments: int) -> list[int]:
        return [one for event in events for one in event][-segments * self.segment :]

    def held_out(self) -> Self:
        twin = super().held_out()
        twin._choosing = True
        return twin

    # ---- saying

    def example(self, record: Record) -> Example:
        """A line for each item that a user had, and the one to be said."""
        *read, last = record["events"]
        return Example("\n".join(map(_line, read)), last.item.id)

    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, rows: int = 32) -> list[str]:
        """Ten items for each history, best first, a line each."""
        device = next(model.parameters()).device
        said = []
        with torch.no_grad():
            for first in range(0, len(examples), rows):
                histories = [self.history(example.source) for example in examples[first : first + rows]]
                read = [self._last(self.event_ids(events), segments) for events in histories]
                ids, _ = pad(read, self.segment, self.tokenizer.pad)
                logits, _ = model(ids.to(device), None, 1)
                scores = logits[:, -1, self.tokenizer.size : self.vocabulary].float().cpu()
                said += [self._best(row, events) for row, events in zip(scores, histories, strict=True)]
        return said

    def _best(self, scores: Tensor, seen: Sequence[Event]) -> str:
        """The items of the highest scores (N,), without those seen."""
        scores = scores.clone()
        scores[[self.numbers[event.item.id] for event in seen]] = -math.inf
        return "\n".join(self.items[number].id for number in scores.topk(SHOWN).indices.tolist())

    def history(self, text: str) -> list[Event]:
        """The events in a text: items by id or title, a line each or parted by semicolons.

        A rating may follow: "Heat (1995) = 4". Raises UsageError for an item that is not known.
        """
        events: list[Event] = []
        for line in text.split("\n"):
            parts = [line] if self._number(line) is not None else line.split(";")
            events.extend(self._event(part.strip()) for part in parts if part.strip())
        if not events:
            raise UsageError("The history holds no item: name ids or titles, parted by semicolons.")
        return events

    def _event(self, text: str) -> Event:
        number, rating = self._number(text), None
        if number is None and "=" in text:
            name, _, told = text.rpartition("=")
            number, rating = self._number(name), _rating(told, text)
        if number is None:
            near = get_close_matches(text.lower(), self.titles, 1, 0.5)
            meant = (
                f": do you mean '{self.items[self.titles[near[0]]].title or near[0]}'?"
                if near
                else ": training never saw it."
            )
            raise UsageError(f"There is no item '{text}'{meant}")
        return Event(self.items[number], rating)

    def _number(self, text: str) -> int | None:
        """Of the item with this id or title; of items with the same title, one."""
        name = text.strip()
        return self.numbers.get(name, self.titles.get(name.lower()))

    def predict(self, model: nn.Module, texts: Sequence[str], segments: int, question: str = "") -> list[str]:
        """The titles of ten items, a line each, for histories as `history` reads them."""
        said = super().predict(model, texts, segments)
        return ["\n".join(self.items[self.numbers[name]].title or name for name in one.split("\n")) for one in said]

    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        """NDCG@10 and Recall@10 of the items said, a line each."""
        places = []
        for record, lines in zip(records, said, strict=True):
            names, right = lines.split("\n"), record["events"][-1].item.id
            places.append(names.index(right) + 1 if right in names else SHOWN + 1)
        return metrics.ranking(places, SHOWN)

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self._rest[:limit]
        counts = Counter(self.numbers[event.item.id] for record in self._rest for event in record["events"][:-1])
        common = torch.tensor([float(counts[number]) for number in range(len(self.items))])
        popular = [self._best(common, record["events"][:-1]) for record in rest]
        ranked = [
            self._best(scores, record["events"][:-1])
            for scores, record in zip(self._bpr()[: len(rest)], rest, strict=True)
        ]
        return {
            "popularity": self.compute_metrics(rest, popular)[self.metric],
            "BPR": self.compute_metrics(rest, ranked)[self.metric],
        }

    def _bpr(self) -> Tensor:
        """How much each user held out wants each item, (users, N), by matrix factors."""
        import numpy as np
        from implicit.bpr import BayesianPersonalizedRanking
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits

        pairs = [
            (user, self.numbers[event.item.id])
            for user, record in enumerate(self._rest)
            for event in record["events"][:-1]
        ]
        users, items = zip(*pairs, strict=True)
        shape = (len(self._rest), len(self.items))
        had = csr_matrix((np.ones(len(pairs), dtype=np.float32), (users, items)), shape=shape)
        with threadpool_limits(1, "blas"):
            model = BayesianPersonalizedRanking(  # on MovieLens the best of five settings, by the test items themselves
                factors=64, iterations=50, learning_rate=0.05, num_threads=1, random_state=0
            )
            model.fit(had, show_progress=False)
            scores = model.user_factors @ model.item_factors.T
        return torch.from_numpy(scores)

    # ---- keeping

    def save(self, folder: Path) -> None:
        super().save(folder)
        try:
            (folder / ITEMS).write_text(json.dumps(self.items, ensure_ascii=False), "utf-8")
        except OSError as error:
            raise MemspanError(f"The items cannot be written to {folder}: {error.strerror}.") from error

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """A lending library: a reader takes the volumes of two series in order, now of this one and now of that."""
        draw = random.Random(0)
        return [event for number in range(count) for event in _lent(f"reader {number + 1}", draw)]


VOLUMES = 6
SERIES = {
    "The Lighthouse": "Crime", "The Ferryman": "Crime", "Salt and Tar": "Sea", "The Long Voyage": "Sea",
    "Under Apple Trees": "Love", "Letters from Home": "Love", "The Iron Moon": "Space", "Nine Stars": "Space",
}  # fmt: skip


def _lent(user: str, draw: random.Random) -> list[dict[str, Any]]:
    document_sets = draw.sample(list(SERIES), 2)
    left = {name: list(range(1, VOLUMES + 1)) for name in document_sets}
    records: list[dict[str, Any]] = []
    for day in range(2 * VOLUMES):
        name = draw.choice([one for one in document_sets if left[one]])
        volume = left[name].pop(0)
        records.append(
            {
                "user": user,
                "item": f"{name} {volume}",
                "time": day,
                "title": f"{name}, volume {volume}",
                "genres": SERIES[name],
                "rating": draw.choice((3, 4, 4, 5)),
            }
        )
    return records


def _is_item(told: Any) -> bool:
    return isinstance(told, list) and len(told) == len(Item._fields) and all(isinstance(one, str) for one in told)


def _line(event: Event) -> str:
    return event.item.id if event.rating is None else f"{event.item.id} = {event.rating:g}"


def _names(item: Item) -> list[str]:
    """What an item may be called: its title, also without a year, and its id."""
    return [name for name in (item.title.rpartition(" (")[0], item.title, item.id) if name]


def _filled(value: Any) -> bool:
    return value is not None and value != ""


def _rating(value: Any, where: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        rating = float(value)
    except (TypeError, ValueError):
        rating = math.nan
    if not math.isfinite(rating):
        raise UsageError(f"The rating '{value}' in {_shown(where)} is no number.")
    return rating


def _time(value: Any, record: Record) -> float:
    """A number, or a date as ISO 8601 writes it, in seconds."""
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError as error:
        raise UsageError(f"The time '{value}' in {_shown(record)} is neither a number nor a date.") from error


def _shown(where: Any) -> str:
    if isinstance(where, str):
        return f"'{where}'"
    return f"the event of user {where['user']} with item {where['item']}"
