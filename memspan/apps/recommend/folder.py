"""A recommend folder: what is in it, how it is built, and how events are added to it.

recommend.sqlite   items, events and the states of users
model-.../         the fitted model, and what makes vectors of texts
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from memspan.apps.recommend.choice import LOOKED_AT, Recommendation, Wish, recommended
from memspan.apps.recommend.engine import text_matrix
from memspan.apps.recommend.fitting import Report, by_user, engine_of, fit, fitted_items, states_of
from memspan.apps.recommend.steps import UserState, steps_of
from memspan.apps.recommend.store import FILE, Store, StoredItem
from memspan.apps.recommend.tables import EventRow, ItemRow
from memspan.apps.recommend.texts import Floats, ItemTexts, text_of
from memspan.apps.recommend.weights import Weights
from memspan.errors import DamagedFolder, MemspanError, UsageError
from memspan.models.recommender import Recommender

MODEL = "model-"  # before the rest of the name of a model's folder
MIN_EVENTS = 5  # of an item that the model is fitted on, as in SASRec's paper


@dataclass(frozen=True)
class Added:
    """What was added to a folder.

    Attributes:
        events: those that were not known before.
        known: how many events were.
        items: how many items the table had.
        users: whose state was carried on.
        read_again: of them, users with events before their last ones, whose history was read again.
    """

    events: int
    known: int
    items: int
    users: int
    read_again: int


class Folder:
    """An open recommend folder, with the model that was built last."""

    def __init__(self, path: Path, store: Store) -> None:
        self.path, self.store = path, store
        settings = store.settings()
        if "model" not in settings:
            raise UsageError(f"{path} was not built to its end: the same `memspan recommend build` builds it.")
        self.settings = settings
        self.weights = Weights(settings["weights"], settings["highest_rating"])
        self._texts: ItemTexts | None = None
        model = Recommender.from_pretrained(self.model_path)
        stored = store.items()
        if sum(item.number is not None for item in stored) != model.config.items:
            raise DamagedFolder(f"{path} holds another number of items than its model: build the folder again.")
        vectors = text_matrix([item.vector for item in stored], model.config.text_size)
        self.engine = engine_of(model, [item.row for item in stored], vectors if model.config.text_size else None)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The folder. Raises UsageError for one that was not built to its end, DamagedFolder for one that is damaged."""
        return cls(path, Store.open(path))

    @property
    def model_path(self) -> Path:
        return self.path / str(self.settings["model"])

    @property
    def texts(self) -> ItemTexts | None:
        """What makes vectors of texts; None for a folder whose items have none."""
        if self._texts is None and self.settings["texts"] is not None:
            self._texts = ItemTexts.load(self.model_path, *self.settings["texts"])
        return self._texts

    def query(self, text: str) -> torch.Tensor:
        """The vector of a text that items are to be like, float32 (E,). Raises UsageError where nothing is known of it."""
        if self.texts is None:
            raise UsageError("The items have no titles, texts or genres, so that none can be like a text.")
        vector = torch.from_numpy(self.texts.vectors([text])[0])
        if not vector.any():
            raise UsageError(f"No word of '{text}' is known from the texts of the items: try others.")
        return vector

    def recommend(self, user: str | None, wish: Wish) -> list[Recommendation]:
        """What is recommended to a user, or, without one or one who had nothing yet, what was popular lately."""
        events = [] if user is None else self.store.events(user)
        engine = self.engine
        state = self.store.state(user or "", len(engine.decays))
        memory = state.dense(engine.decays, engine.fitted)
        steps = steps_of(events, self.weights)[-LOOKED_AT:]
        return recommended(engine, memory, steps, [event.item for event in events], wish)

    def add(self, events: Sequence[EventRow], items: Sequence[ItemRow] = ()) -> Added:
        """Add events and items. The model stays; the states of the users are carried on.

        Raises UsageError where another process has built the folder since it was opened.
        """
        engine = self.engine
        with self.store.writing():
            if self.store.settings() != self.settings:
                raise UsageError(f"{self.path} was built again meanwhile: run the same command again.")
            self.store.add_items(items)
            users = list(dict.fromkeys(event.user for event in events))
            before = {user: self.store.state(user, len(engine.decays)) for user in users}
            newest = {user: self.store.newest(user) for user in users}
            added = self.store.add_events(sorted(events, key=lambda event: event.time))
            first = {event.user: event.time for event in reversed(added)}
            stored = self.store.items()
            missing = [item for item in stored if item.vector is None and text_of(item.row)]
            if missing and self.texts is not None:
                vectors = self.texts.vectors([text_of(item.row) for item in missing])
                self.store.set_vectors({item.row.id: row for item, row in zip(missing, vectors, strict=True)})
                stored = self.store.items()
            matrix = text_matrix([item.vector for item in stored], engine.model.config.text_size)
            texts = matrix if engine.model.config.text_size else None
            self.engine = engine = engine_of(engine.model, [item.row for item in stored], texts)
            states, read_again = dict[str, UserState](), 0
            for user, steps in by_user(added, self.weights).items():
                if first[user] < newest[user]:
                    read_again += 1
                    states |= states_of(engine, {user: steps_of(self.store.events(user), self.weights)})
                else:
                    states[user] = before[user].after(steps, engine.shares, engine.decays, engine.fitted)
            self.store.set_states(states)
        return Added(len(added), len(events) - len(added), len(items), len(states), read_again)


@dataclass(frozen=True)
class Built:
    """What a build made.

    Attributes:
        counts: users, items, events, and fitted: items that the model was fitted on.
        unknown_types: of events, which count 1 because nothing is known of them.
        texts: the kind of the vectors of texts, and the encoder; None without texts.
        settings: chosen on the newest fifth of the events.
        added: events that were not known before.
    """

    counts: dict[str, int]
    unknown_types: list[str]
    texts: tuple[str, str] | None
    settings: dict[str, float]
    added: int


@dataclass(frozen=True)
class Choices:
    """How a folder is built; None stands for what it was built with before, or else the default.

    Attributes:
        weights: of types of events; by default those of `weights.DEFAULTS`.
        min_events: of an item that the model is fitted on; 5 by default.
        encoder: of texts, see `ItemTexts.fit`.
    """

    weights: dict[str, float] | None = None
    min_events: int | None = None
    encoder: str | None = None

    def settled(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """All choices by name, after those of a folder's settings."""
        defaults = {"weights": {}, "min_events": MIN_EVENTS, "encoder": "auto"}
        return {
            name: before.get(name, default) if getattr(self, name) is None else getattr(self, name)
            for name, default in defaults.items()
        }


def build(
    path: Path, events: Sequence[EventRow], items: Sequence[ItemRow], choices: Choices, report: Report | None = None
) -> Built:
    """Fit a model on events and items, and on those that the folder holds from before.

    The folder is the old one until the new one is complete. Raises UsageError where there are not enough events.
    """
    check_path(path)
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    store = Store.open(path, create=True)
    folder = Path(tempfile.mkdtemp(prefix=MODEL, dir=path))
    try:
        with store.writing():
            store.add_items(items)
            added = store.add_events(events)
            built = replace(_build(store, folder, choices, report), added=len(added))
    except BaseException:
        shutil.rmtree(folder if not is_new else path, ignore_errors=True)
        raise
    finally:
        store.close()
    for old in path.glob(f"{MODEL}*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return built


def _build(store: Store, folder: Path, choices: Choices, report: Report | None) -> Built:
    """Fit on what a store holds; within a transaction of it."""
    known = store.events()
    settled = choices.settled(store.settings())
    highest = max((event.rating for event in known if event.rating is not None), default=0.0)
    weights = Weights(settled["weights"], highest)
    ids = fitted_items(known, settled["min_events"])
    store.number_items(ids)
    stored = store.items()
    texts, vectors = _texts(stored, settled["encoder"], report)
    if vectors is not None:
        store.set_vectors(
            {item.row.id: row if text_of(item.row) else None for item, row in zip(stored, vectors, strict=True)}
        )
        stored = store.items()  # with the vectors as they are kept
    matrix = None if vectors is None else text_matrix([item.vector for item in stored], vectors.shape[1])
    histories = by_user(known, weights)
    rows = [item.row for item in stored]
    model, settings = fit(histories, rows[: len(ids)], None if matrix is None else matrix[: len(ids)], report)
    model.save_pretrained(folder)
    if texts is not None:
        texts.save(folder)
    engine = engine_of(model, rows, matrix)
    store.set_states(states_of(engine, histories), replace=True)
    described = None if texts is None else (texts.kind, texts.encoder)
    store.set({**settled, "model": folder.name, "texts": described, "highest_rating": highest})
    types = list(dict.fromkeys(event.type for event in known))
    return Built(store.counts(), weights.unknown(types), described, settings, 0)


def _texts(stored: Sequence[StoredItem], encoder: str, report: Report | None) -> tuple[ItemTexts | None, Floats | None]:
    texts = [text_of(item.row) for item in stored]
    if not any(texts):
        return None, None
    return ItemTexts.fit(texts, encoder, None if report is None else lambda done, total: report("texts", done, total))


def check_path(path: Path) -> None:
    """Raises UsageError for a folder that holds something else, MemspanError for one that cannot be read."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: name a folder.")
    try:
        strange = path.is_dir() and any(path.iterdir()) and not (path / FILE).exists()
    except OSError as error:
        raise MemspanError(f"{path} cannot be read: {error.strerror}.") from error
    if strange:
        raise UsageError(f"{path} holds something else than a recommend folder: name a new folder.")
