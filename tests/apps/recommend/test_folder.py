"""A recommend folder: events are carried on without fitting anew, what fails changes nothing, what is forgotten is gone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from memspan.apps.recommend.choice import Wish
from memspan.apps.recommend.fitting import by_user, states_of
from memspan.apps.recommend.folder import Choices, Folder, build
from memspan.apps.recommend.store import FILE, Store
from memspan.apps.recommend.tables import EventRow, ItemRow, read_events, read_items
from memspan.apps.recommend.texts import ItemTexts
from memspan.errors import DamagedFolder, UsageError
from tests.tiny import save_tiny_encoder

Library = Callable[[], Folder]


def assert_states_are_those_of_the_events(folder: Folder) -> None:
    engine = folder.engine
    for user, expected in states_of(engine, by_user(folder.store.events(), folder.weights)).items():
        state = folder.store.state(user, len(engine.decays))
        dense = [kept.dense(engine.decays, engine.fitted) for kept in (state, expected)]
        torch.testing.assert_close(*dense, rtol=1e-4, atol=1e-5)
        assert state.last == expected.last


def test_events_that_come_later_are_carried_on(library: Library, sample: dict[str, Path]) -> None:
    folder, later = library(), read_events(sample["later events"]).rows
    model = sorted((path, path.stat().st_mtime_ns) for path in folder.model_path.iterdir())
    half = len(later) // 2
    first = folder.add(later[:half])
    assert (first.events, first.known, first.read_again) == (half, 0, 0)
    folder = library_again(folder)
    second = folder.add(later, read_items(sample["new items"]).rows)
    assert (second.events, second.known, second.items) == (len(later) - half, half, 8)
    assert_states_are_those_of_the_events(folder)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.model_path.iterdir()) == model
    user = later[-1].user
    recommended = folder.recommend(user, Wish(5, new=2))
    again = library_again(folder)
    assert again.recommend(user, Wish(5, new=2)) == recommended
    assert "gardening 13" in again.engine.numbers
    assert not {event.item for event in later if event.user == user} & {
        item.item for item in again.recommend(user, Wish(9))
    }


def library_again(folder: Folder) -> Folder:
    folder.store.close()
    return Folder.open(folder.path)


def test_events_that_come_late_are_put_where_they_belong(library: Library) -> None:
    folder = library()
    user, *_ = folder.store.events()[0]
    added = folder.add([EventRow(user, "chess 01", 5.0, "view"), EventRow("newcomer", "chess 02", 9.0, "view")])
    assert (added.users, added.read_again) == (2, 1)
    assert_states_are_those_of_the_events(folder)
    # The strongest event of a step need not be its newest.
    folder.add([EventRow("newcomer", "chess 02", 11.0, "share"), EventRow("newcomer", "chess 02", 20.0, "view")])
    between = folder.add(
        [EventRow("newcomer", "chess 05", 15.0, "view"), EventRow("newcomer", "chess 06", 20.0, "view")]
    )
    assert (between.users, between.read_again) == (1, 1)
    assert_states_are_those_of_the_events(folder)
    assert folder.recommend("newcomer", Wish(1))[0].reason is not None


def test_a_build_again_learns_what_was_added(library: Library, sample: dict[str, Path]) -> None:
    folder = library()
    folder.add(read_events(sample["later events"]).rows)
    before = folder.store.counts()
    again = build(folder.path, [], [], Choices({"view": 0.5}))
    assert (again.added, again.texts) == (0, ("words", "none"))  # as it was built before
    assert {name: again.counts[name] for name in ("users", "items", "events")} == {
        name: before[name] for name in ("users", "items", "events")
    }
    assert again.counts["fitted"] > before["fitted"]
    assert [path.name for path in folder.path.glob("model-*")] == [library_again(folder).model_path.name]
    rebuilt = library_again(folder)
    assert rebuilt.weights.weight(EventRow("a", "b", 0.0, "view")) == 0.5
    assert_states_are_those_of_the_events(rebuilt)
    build(folder.path, [], [], Choices())
    with pytest.raises(UsageError, match="was built again meanwhile"):
        rebuilt.add([EventRow("a", "b", 1.0)])


def test_a_build_that_fails_changes_nothing(library: Library, tmp_path: Path) -> None:
    folder = library()
    before = folder.store.counts()
    folder.store.close()
    with pytest.raises(UsageError, match="have 9999 events or more"):
        build(folder.path, [EventRow("a", "b", 1.0)], [], Choices({}, 9999, "none"))
    assert library_again(folder).store.counts() == before
    assert len(list(folder.path.glob("model-*"))) == 1
    with pytest.raises(UsageError, match="Of 1 items 0 have 5 events"):
        build(tmp_path / "new", [EventRow("a", "b", 1.0)], [], Choices({}))
    assert not (tmp_path / "new").exists()


def test_a_forgotten_user_is_gone_from_the_file(library: Library) -> None:
    folder = library()
    folder.add([EventRow("Zebediah", "chess 01", 5.0, "view")])
    assert b"Zebediah" in (folder.path / FILE).read_bytes()
    assert folder.store.forget("Zebediah") == 1
    folder.store.close()
    assert b"Zebediah" not in (folder.path / FILE).read_bytes()
    with pytest.raises(UsageError, match="Nothing is kept of a user 'Zebediah'"):
        Store.open(folder.path).forget("Zebediah")


def test_what_is_damaged_is_refused(library: Library, built: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no recommend folder"):
        Folder.open(tmp_path / "nowhere")
    folder = library()
    (weights,) = folder.path.glob("model-*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(DamagedFolder):
        Folder.open(folder.path)
    shutil.copytree(built, tmp_path / "other")
    (tmp_path / "other" / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(DamagedFolder):
        Folder.open(tmp_path / "other")


def test_texts_are_read_by_a_sentence_encoder_that_knows_their_words(tmp_path: Path) -> None:
    encoder = str(save_tiny_encoder(tmp_path / "encoder", size=24))
    texts = ["red roses", "", "blue bulbs", "green hedge"]
    fitted, vectors = ItemTexts.fit(texts, encoder)
    counted, counts = ItemTexts.fit(texts, "none")
    for made, rows in ((fitted, vectors), (counted, counts)):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 0, 1, 1], atol=1e-5)
        made.save(tmp_path)
        again = ItemTexts.load(tmp_path, made.kind, made.encoder)
        np.testing.assert_allclose(again.vectors(texts), rows, atol=1e-4)
        assert again.size == rows.shape[1]
    assert (counted.kind, counted.encoder) == ("words", "none")
    with pytest.raises(DamagedFolder):
        ItemTexts.load(tmp_path / "nowhere", "words", "none")


def test_items_without_texts_are_recommended_by_events_alone(tmp_path: Path) -> None:
    events = [EventRow(f"u{user}", f"i{(user + at) % 14:02}", float(at)) for user in range(28) for at in range(6)]
    built = build(tmp_path / "plain", events, [ItemRow("lonely")], Choices({}, encoder="none"))
    assert built.texts is None
    folder = Folder.open(tmp_path / "plain")
    assert folder.recommend("u3", Wish(1))[0].item == "i09"
    assert folder.recommend("u3", Wish(3, new=1))[-1].item != "lonely"  # nothing is known of it
    with pytest.raises(UsageError, match="no titles, texts or genres"):
        folder.query("anything")
