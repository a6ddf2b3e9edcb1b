"""Recommendation: the item that a user takes next, given all items before it: films, books, goods.

Letters: B batch, T tokens, N items.
"""

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from memspan.data.corpora import Record
from memspan.data.datasets import TABLE, pad
from memspan.errors import UsageError
from memspan.models.recommender import Recommender
from memspan.tasks import metrics
from memspan.tasks.base import IGNORE_INDEX, Batch, Guide
from memspan.tasks.data_source import GENERATED, DataSource
from memspan.tasks.default_runs import OF_SCRATCH, DefaultRun
from memspan.tasks.records import Example, RecordTask, damaged, load_json, save_json
from memspan.tasks.samples import word_lists
from memspan.tasks.text import item_rankers
from memspan.tasks.text.histories import Catalogue, Event, Item, histories_by_date, histories_of, line_of

ITEMS = "items.json"
EVENT_COLUMNS = ("title", "genres", "rating")  # optional columns
RECOMMENDED = 10  # items of a recommendation
LAST, TIME = "last", "time"  # the ways to hold out
MOVIELENS = ("ratings.csv", "movies.csv")  # files of a folder in the format movielens
# A recommender that is fitted at once, on segments of 32 events: older ones than 8 segments have no weight left.
FITTED = DefaultRun({"model": Recommender.kind, "segments": 8}, unless=OF_SCRATCH | {"model"})
# It learns from events before a date, of items that are not all too rare.
_BEFORE = {"split": TIME, "held_out": 0.2, "min_item_events": 5}
FITTED_BEFORE_A_DATE = DefaultRun(FITTED.options, _BEFORE, frozenset({"data"}), FITTED.unless | {"split", "test"})
_NAMES = {"user": ("user",), "item": ("item", "movie", "film", "book", "product"), "time": ("time", "date")}


class Recommendation(RecordTask):
    """Columns: user, item, time; optional: title, genres, rating.

    The events of a user in the order of time are a stream; the target behind every item is the next one, as in SASRec
    (Kang and McAuley 2018, arXiv 1808.09781). Events of the same time stand in random order, because files sort them by
    item.

    What is held out, `split` says. "last": the last item of each user, and the one before it to choose a model by; training
    sees neither, but it sees what others had later. "time": all that happened after a date, so that nothing is learned from
    the future of what is asked; a model is then chosen by the last item of each user before the date.

    An item is an id behind those of the tokenizer. Texts are optional: columns of an event before its item, and `cards`,
    streams of an item's title and genres whose target is the item, meant to make rare items known by their texts. All
    items are ranked but those that the user had already.

    Deviations from the paper: no negatives are sampled, the softmax is over all items; and the metrics rank all items,
    not a hundred (Krichene and Rendle 2020 show why).

    The baselines are the items that most users had, the neighbours of the items that a user had, and Bayesian personalised
    ranking. All know what training may see, and each history up to the event to be predicted.

    Args:
        source: the events; `test` files hold the histories of other users, whose last items are predicted instead, and
            `limit` counts users. `held_out` is the share of events after the date, with split=time alone.
        min_item_events: events of an item; items with fewer are left out. The paper uses 5.
        segment: tokens of a segment.
        event_columns: columns that stand before the item of an event: title, genres, rating.
        cards: fraction of the batches that are cards.
        target_segments: number of segments, at the end of a stream, with targets; by default all. The logits of all items
            at every token are most of the cost, also at tokens without a target.
        vocabulary: size of the byte-pair encoding that is learned from titles and genres.
        tokenizer: name of a pretrained model whose tokenizer is used instead.
        saved: folder that `save` wrote: tokenizer and items come from there.
        split: what is held out: last or time.
        targets: with split=time, the largest number of held-out events of a user.
    """

    columns, metric = ("user", "item", "time"), f"NDCG@{RECOMMENDED}"
    packages, baseline_packages = ("torchmetrics",), ("implicit", "scipy")
    default_runs = (FITTED_BEFORE_A_DATE, FITTED)
    guide = Guide(
        columns="user, item, time; or also rating, title, genres",
        metrics=f"Recall@{RECOMMENDED}",
        on_sample="--mechanism delta --task-settings segment=2 --segments 6 --batch-size 16 --learning-rate 4e-3 --seconds 15",
        on_files="--mechanism gru --window 0 --data ml-latest-small --task-settings format=movielens "
        "--task-settings min_item_events=5 --task-settings target_segments=1 --task-settings vocabulary=300 "
        "--segments 4 --depth 1 --dropout 0.2 --learning-rate 0.01 --limit 671 --seconds 30 --seeds 1",
    )
    _choosing = False  # whether the targets of `batch` are the items that models are chosen by

    # Each parameter is a setting of the task, which users set by its name.
    def __init__(
        self,
        source: DataSource = GENERATED,
        min_item_events: int = 1,
        segment: int = 32,
        event_columns: str | Sequence[str] = (),
        cards: float = 0.0,
        target_segments: int | None = None,
        vocabulary: int = 1024,
        tokenizer: str | None = None,
        saved: str | None = None,
        split: str = LAST,
        targets: int = 10,
    ) -> None:
        self.event_columns = (event_columns,) if isinstance(event_columns, str) else tuple(event_columns)
        unknown = [column for column in self.event_columns if column not in EVENT_COLUMNS]
        if unknown:
            raise UsageError(f"event_columns must be among {', '.join(EVENT_COLUMNS)}, got '{unknown[0]}'.")
        if not 0 <= cards < 1:
            raise UsageError(f"cards must be from 0 to below 1, got cards={cards}.")
        if target_segments is not None and target_segments < 1:
            raise UsageError(f"target_segments must be at least 1, got target_segments={target_segments}.")
        if split not in (LAST, TIME):
            raise UsageError(f"split must be {LAST} or {TIME}, got '{split}'.")
        if split == LAST and source.held_out != DataSource.held_out:
            raise UsageError("`held_out` must be left out: the end of each history is held out.")
        if targets < 1:
            raise UsageError(f"targets must be at least 1, got targets={targets}.")
        self.split_by, self.targets = split, targets
        self.cards, self.target_segments, self.min_item_events = cards, target_segments, min_item_events
        super().__init__(source, segment, vocabulary, tokenizer, saved)

    # ---- records

    @staticmethod
    def guess(records: Sequence[Record]) -> Mapping[str, str]:
        """The columns to rename, {theirs: ours}, where each of ours has one whose name fits, like userId."""
        present, found = list(records[0]), dict[str, str]()
        for ours, names in _NAMES.items():
            theirs = next((name for name in present if any(part in name.casefold() for part in names)), None)
            if theirs is None:
                return {}
            if theirs != ours:
                found[theirs] = ours
        return found

    def split(self, source: DataSource) -> tuple[Sequence[Record], Sequence[Record]]:
        """The histories to train on, and those that end with a held-out event: of the test files where there are any."""
        paths = [source.data] if isinstance(source.data, str) else list(source.data or ())
        if (
            source.format == TABLE
            and paths
            and all((Path(path) / name).is_file() for path in paths for name in MOVIELENS)
        ):
            source = replace(source, format="movielens")
        records, tests = source.read(self.columns, self.sample, self.guess)
        if tests is not None:
            histories = histories_of(records, self.min_item_events)[: source.limit]
            return histories, histories_of(tests, self.min_item_events)[: source.limit]
        if self.split_by == TIME:
            dated = histories_by_date(records, source.held_out, self.targets, self.min_item_events)
            users = {record["user"]: None for record in dated.held_out}
            chosen = set(list(users)[: source.limit])
            return dated.known[: source.limit], [record for record in dated.held_out if record["user"] in chosen]
        histories = histories_of(records, self.min_item_events)[: source.limit]
        return histories, histories

    def prepare(self, saved: str | None) -> None:
        if saved is None:
            items_by_id = {event.item.id: event.item for record in self.records for event in record["events"]}
            self.catalogue = Catalogue([items_by_id[name] for name in sorted(items_by_id)])
        else:
            content = load_json(saved, ITEMS, "items")
            if not isinstance(content, list) or not all(_is_item(fields) for fields in content):
                raise damaged(Path(saved) / ITEMS, "items")
            self.catalogue = Catalogue([Item(*fields) for fields in content])
        items = self.catalogue.items
        if len(items) <= RECOMMENDED:
            raise UsageError(f"There are {len(items)} items: to recommend {RECOMMENDED} of them, there must be more.")
        events = (event for record in (*self.records, *self.held_out_records) for event in record["events"])
        unseen = next((event.item.id for event in events if event.item.id not in self.catalogue.numbers), None)
        if unseen is not None:
            raise UsageError(
                f"The data have the item '{unseen}', which training never saw: leave such events out, or train on them."
            )
        self.extra_ids = len(items)
        self._encoded = lru_cache(2**16)(self.tokenizer.encode)
        self._streams = self._training_streams()
        self._described = [number for number, item in enumerate(items) if item.title or item.genres]
        if self.cards and not self._described:
            raise UsageError(f"cards must be 0 for data without titles and genres, got cards={self.cards}.")

    def _training_streams(self) -> list[list[list[int]]]:
        return [self.event_ids(events) for events in self.training_histories()]

    def training_histories(self) -> list[list[Event]]:
        """The events of each history that a model is trained on."""
        kept_back = 1 if self.split_by == TIME else 2  # to choose a model by, and with split=last to test it on
        return [record["events"][:-kept_back] for record in self.records]

    def _choosing_histories(self) -> list[list[Event]]:
        """Histories whose last event a model is chosen by."""
        if self.split_by == TIME:
            return [record["events"] for record in self.records]
        return [record["events"][:-1] for record in self.held_out_records]

    def with_records(self, records: Sequence[Record] | None = None, held_out: Sequence[Record] | None = None) -> Self:
        changed = super().with_records(records, held_out)
        return changed if records is None else changed.copy_with(_streams=changed._training_streams())

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        items = {event.item for record in records for event in record["events"]}
        return (text for item in sorted(items) for text in (item.title, item.genres) if text)

    # ---- streams

    def item_ids(self, items: Sequence[Item]) -> list[int]:
        """The id of each item."""
        return [self.tokenizer.size + self.catalogue.numbers[item.id] for item in items]

    def event_ids(self, events: Sequence[Event]) -> list[list[int]]:
        """The ids of each event; the last one is its item's."""
        return [[*self._column_ids(event), *self.item_ids([event.item])] for event in events]

    def _column_ids(self, event: Event) -> list[int]:
        if not self.event_columns:
            return []
        rating = "" if event.rating is None else str(round(event.rating))
        words = {"title": event.item.title, "genres": event.item.genres, "rating": rating}
        return self._encoded(" ".join(words[column] for column in self.event_columns))

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        def below(bound: int) -> int:
            return int(torch.randint(0, bound, (), generator=generator))

        if self._choosing:
            histories = self._choosing_histories()
            return self._last_items([histories[below(len(histories))] for _ in range(batch_size)], segments)
        if torch.rand((), generator=generator) < self.cards:
            drawn = [self._described[below(len(self._described))] for _ in range(batch_size * segments)]
            return self._card_batch([self.catalogue.items[number] for number in drawn])
        return self._next_items([self._streams[below(len(self._streams))] for _ in range(batch_size)], segments, below)

    def _next_items(self, histories: Sequence[list[list[int]]], segments: int, below: Callable[[int], int]) -> Batch:
        """A stretch of each history with the next item as the target behind every item."""
        max_tokens = segments * self.segment
        rows, row_targets = [], []
        for events in histories:
            ends = list(accumulate(map(len, events)))
            stream = [token for event in events for token in event]
            targets = [IGNORE_INDEX] * len(stream)
            for end, next_end in pairwise(ends):
                targets[end - 1] = stream[next_end - 1]
            possible = ends[bisect_left(ends, min(max_tokens, ends[-2])) : -1]  # those with a full stream before them
            end = possible[below(len(possible))]
            rows.append(stream[max(0, end - max_tokens) : end])
            row_targets.append(targets[max(0, end - max_tokens) : end])
        ids, _ = pad(rows, self.segment, self.tokenizer.pad)
        padded, _ = pad(row_targets, self.segment, IGNORE_INDEX)
        if self.target_segments is not None:
            padded[:, : -self.target_segments * self.segment] = IGNORE_INDEX
        return Batch(ids, padded)

    def _last_items(self, histories: Sequence[Sequence[Event]], segments: int) -> Batch:
        """Histories with their last item as the only target."""
        streams = [self._recent(self.event_ids(events[:-1]), segments) for events in histories]
        return self._one_target(streams, [events[-1].item for events in histories])

    def _card_batch(self, items: Sequence[Item]) -> Batch:
        """The title and genres of each item, with the item as the only target."""
        max_tokens = self.segment - len(self.tokenizer.answer)
        texts = (f"{item.title} {item.genres}".strip() for item in items)
        streams = [[*self.tokenizer.encode(text)[:max_tokens], *self.tokenizer.answer] for text in texts]
        return self._one_target(streams, items)

    def _one_target(self, streams: Sequence[list[int]], items: Sequence[Item]) -> Batch:
        ids, _ = pad(streams, self.segment, self.tokenizer.pad)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -1] = torch.tensor(self.item_ids(items))
        return Batch(ids, targets)

    def _recent(self, events: Sequence[list[int]], segments: int) -> list[int]:
        return [token for event in events for token in event][-segments * self.segment :]

    def held_out(self) -> Self:
        return self.copy_with(_choosing=True)

    # ---- predictions

    def example(self, record: Record) -> Example:
        """A line for each item but the last of a history, and the id of the last."""
        *events, last = record["events"]
        return Example("\n".join(map(line_of, events)), last.item.id)

    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, batch_size: int = 32) -> list[str]:
        """Ten item ids for each history, best first, a line each."""
        device = next(model.parameters()).device
        predictions = []
        with torch.no_grad():
            for start in range(0, len(examples), batch_size):
                histories = [self.catalogue.history(example.source) for example in examples[start : start + batch_size]]
                streams = [self._recent(self.event_ids(events), segments) for events in histories]
                ids, _ = pad(streams, self.segment, self.tokenizer.pad)
                logits, _ = model(ids.to(device), None, 1)
                scores = logits[:, -1, self.tokenizer.size : self.vocabulary].float().cpu()
                predictions += [self._best(row, events) for row, events in zip(scores, histories, strict=True)]
        return predictions

    def _best(self, scores: Tensor, seen: Sequence[Event]) -> str:
        """The ids of the items with the highest scores (N,), without those seen, a line each."""
        scores = scores.clone()
        scores[[self.catalogue.numbers[event.item.id] for event in seen]] = -math.inf
        return "\n".join(self.catalogue.items[number].id for number in scores.topk(RECOMMENDED).indices.tolist())

    def predict(self, model: nn.Module, texts: Sequence[str], segments: int, question: str = "") -> list[str]:
        """The titles of ten items, a line each, for histories as `Catalogue.history` reads them."""
        titles = {item.id: item.title or item.id for item in self.catalogue.items}
        predictions = super().predict(model, texts, segments)
        return ["\n".join(titles[name] for name in prediction.split("\n")) for prediction in predictions]

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        """NDCG@10 and Recall@10 of predicted item ids, a line each."""
        ranks = []
        for record, prediction in zip(records, predictions, strict=True):
            names, right = prediction.split("\n"), record["events"][-1].item.id
            ranks.append(names.index(right) + 1 if right in names else RECOMMENDED + 1)
        return metrics.ranking(ranks, RECOMMENDED)

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.held_out_records[:limit]
        return {
            name: self.compute_metrics(rest, predictions)[self.metric]
            for name, predictions in self.baseline_predictions(rest).items()
        }

    def baseline_predictions(self, records: Sequence[Record]) -> dict[str, list[str]]:
        """Ten item ids for each of the first held-out records, best first, a line each, by the name of the method."""
        # With split=last the histories themselves, without their last events, are all that is known.
        others = self.records if self.split_by == TIME else []
        known = [self.item_numbers(record["events"]) for record in others]
        histories = [self.item_numbers(record["events"][:-1]) for record in self.held_out_records]
        size, count = len(self.catalogue.items), len(records)
        users = [str(record["user"]) for record in self.held_out_records]
        scores = {
            "popularity": item_rankers.popularity(known or histories, histories[:count], size),
            "item-kNN": item_rankers.item_knn(known or histories, histories[:count], size),
            "BPR": item_rankers.bpr_by_turns(known, histories, users, size)[:count],
        }
        return {
            name: [self._best(row, record["events"][:-1]) for row, record in zip(ranked, records, strict=True)]
            for name, ranked in scores.items()
        }

    def item_numbers(self, events: Sequence[Event]) -> list[int]:
        """The number of each event's item in the catalogue."""
        return [self.catalogue.numbers[event.item.id] for event in events]

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_json(folder, ITEMS, self.catalogue.items, "items")

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """A lending library: a reader takes the volumes of two series in order, now of this one and now of that."""
        draw, lists = random.Random(0), word_lists("recommendation")
        return [event for number in range(count) for event in _loans(f"reader {number + 1}", draw, lists)]


def _loans(user: str, draw: random.Random, lists: dict[str, Any]) -> list[dict[str, Any]]:
    genre_of, volumes = lists["genre_of_series"], lists["volumes"]
    both = draw.sample(list(genre_of), 2)
    unread = {name: list(range(1, volumes + 1)) for name in both}
    records: list[dict[str, Any]] = []
    for day in range(2 * volumes):
        name = draw.choice([name for name in both if unread[name]])
        volume = unread[name].pop(0)
        records.append(
            {
                "user": user,
                "item": f"{name} {volume}",
                "time": day,
                "title": f"{name}, volume {volume}",
                "genres": genre_of[name],
                "rating": draw.choice((3, 4, 4, 5)),
            }
        )
    return records


def _is_item(fields: Any) -> bool:
    return isinstance(fields, list) and len(fields) == len(Item._fields) and all(isinstance(x, str) for x in fields)
