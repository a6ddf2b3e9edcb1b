"""Recommending: what comes next is asked, what was had is not recommended, and what is held out is not trained on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.evaluation.evaluate import evaluate
from memspan.evaluation.predict import predict
from memspan.tasks import IGNORE_INDEX, DataSource, build
from memspan.tasks.text import item_rankers
from memspan.tasks.text.histories import Catalogue, Item, histories_of
from memspan.tasks.text.recommendation import Recommendation
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.paths import DATA

FILMS = DATA / "movielens_latest_small"


class Follows(nn.Module):
    """Knows of each id which comes next, and after that which id is next best."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, ids: Tensor, state: Any = None, keep: int | None = None) -> tuple[Tensor, Any]:
        distance = (torch.arange(len(self.weight)) - ids[:, -1:] - 1) % len(self.weight)
        return -distance[:, None].float(), None


def table(path: Path, rows: list[dict[str, Any]]) -> str:
    file = path / "events.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return str(file)


def counted(users: int = 3, items: int = 20, **more: Any) -> list[dict[str, Any]]:
    """User u had the items from number u on, one after the other; the file tells them backwards."""
    return [
        {"user": user, "item": f"i{user + place:02}", "time": place, **more}
        for user in range(users)
        for place in reversed(range(items - users - 4))
    ]


def test_the_next_item_is_asked_behind_each_but_never_one_held_out(tmp_path: Path) -> None:
    task = Recommendation(DataSource(table(tmp_path, counted())), segment=4)
    events = {record["user"]: [event.item.id for event in record["events"]] for record in task.records}
    assert events["1"] == [f"i{1 + place:02}" for place in range(13)]
    held_out = {task.tokenizer.size + task.catalogue.numbers[items[-1]] for items in events.values()}
    trained = {
        task.tokenizer.size + task.catalogue.numbers[items[place]] for items in events.values() for place in range(11)
    }
    generator = torch.Generator().manual_seed(0)
    seen: set[int] = set()
    for _ in range(30):
        ids, targets, _ = task.batch(4, 2, generator)
        assert ids.shape == (4, 8)
        asked = targets != IGNORE_INDEX
        assert torch.equal(targets[asked], ids[asked] + 1)  # the items of this file follow each other
        seen |= set(ids.flatten().tolist()) | set(targets[asked].tolist())
    assert seen == trained
    assert held_out - trained
    ids, targets, _ = task.held_out().batch(4, 2, generator)
    assert (targets[:, :-1] == IGNORE_INDEX).all()
    chosen_by = {task.tokenizer.size + task.catalogue.numbers[items[-2]] for items in events.values()}
    assert set(targets[:, -1].tolist()) <= chosen_by


def test_items_that_few_had_are_left_out(tmp_path: Path) -> None:
    rows = [*counted(), {"user": 0, "item": "rare", "time": 3.5}]
    assert "rare" in Recommendation(DataSource(table(tmp_path, rows))).catalogue.numbers
    kept = Recommendation(DataSource(table(tmp_path, rows)), min_item_events=2)
    assert list(kept.catalogue.numbers) == [f"i{place:02}" for place in range(1, 14)]


def test_events_tell_more_than_their_item(tmp_path: Path) -> None:
    rows = counted(title="A film", genres="Comedy", rating=3.6)
    task = Recommendation(DataSource(table(tmp_path, rows)), segment=8, event_columns=["rating", "genres"])
    ids, targets, _ = task.batch(2, 3, torch.Generator().manual_seed(1))
    items = ids >= task.tokenizer.size
    assert not (targets[~items] != IGNORE_INDEX).any()
    assert task.tokenizer.decode(ids[0][~items[0]].tolist()).split()[-2:] == ["4", "Comedy"]
    only_last = Recommendation(DataSource(table(tmp_path, rows)), segment=8, target_segments=1).batch(
        2, 3, torch.Generator().manual_seed(1)
    )
    assert (only_last.targets[:, :-8] == IGNORE_INDEX).all()
    assert (only_last.targets[:, -8:] != IGNORE_INDEX).all()


def test_cards_ask_which_item_a_text_is_about(tmp_path: Path) -> None:
    rows = [{**row, "title": f"Film number {row['item']}"} for row in counted()]
    task = Recommendation(DataSource(table(tmp_path, rows)), segment=16, cards=0.999)
    ids, targets, _ = task.batch(3, 2, torch.Generator().manual_seed(0))
    for row, target in zip(ids, targets[:, -1].tolist(), strict=True):
        title = task.catalogue.items[target - task.tokenizer.size].title
        assert task.tokenizer.decode(row.tolist()) == title


def test_what_was_had_is_not_recommended(tmp_path: Path) -> None:
    task = Recommendation(
        DataSource(table(tmp_path, [{**row, "title": f"Film {row['item']} (1999)"} for row in counted()]))
    )
    model = Follows(task.vocabulary)
    assert task.score(model, 2, None) == {"NDCG@10": 1.0, "Recall@10": 1.0}
    assert task.score(model, 1, 1, batch_size=1) == {"NDCG@10": 1.0, "Recall@10": 1.0}
    (said,) = task.predict(model, ["i03; Film i05 (1999); film i02 = 4"], 1)
    assert said.split("\n") == [f"Film i{place:02} (1999)" for place in (4, 6, 7, 8, 9, 10, 11, 12, 13, 14)]
    (said,) = task.predict(model, ["i03\nI04\ni02"], 1)
    assert not {"Film i02 (1999)", "Film i03 (1999)", "Film i04 (1999)"} & set(said.split("\n"))


def test_baselines_rank_without_a_network() -> None:
    told = build("recommendation").baselines()
    assert (
        told["popularity"] == 0
    )  # of each series the first volumes are the ones that most had, and nobody wants them next
    assert told["BPR"] > 0.1  # who began a series


def test_popularity_by_hand(tmp_path: Path) -> None:
    """All had `common` but user 0, whose last item it is; the last items of the others nobody else had."""
    rows = [{"user": user, "item": f"u{user} {place}", "time": place} for user in range(4) for place in range(6)]
    rows += [{"user": user, "item": "common", "time": 9 if user == 0 else -1} for user in range(4)]
    task = Recommendation(DataSource(table(tmp_path, rows)))
    assert task.baselines(1)["popularity"] == 1.0


def test_a_trained_model_recommends_without_its_data(tmp_path: Path) -> None:
    run = TrainConfig.of(
        task="recommendation", task_settings={"segment": 8, "event_columns": ["genres"]}, segments=3, width=16, depth=1,
        mechanism="gru", window=0, batch_size=16, steps=120, learning_rate=1e-2, output=str(tmp_path / "run"),
    )  # fmt: skip
    report = train(run)
    assert report.metrics["Recall@10"] > 0.3  # of 48 volumes the reader's next is among the first ten
    (said,) = predict(tmp_path / "run" / "best", ["Salt and Tar, volume 1; Salt and Tar 2"])
    titles = said.split("\n")
    assert len(set(titles)) == 10
    assert not {"Salt and Tar, volume 1", "Salt and Tar, volume 2"} & set(titles)
    (score,) = evaluate(tmp_path / "run" / "last", segments=[3], batch_size=4)
    assert score.metrics == report.metrics


def test_test_histories_of_other_users(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    test = table(
        other, [{"user": f"new {user}", "item": f"i{place:02}", "time": place} for user in (1, 2) for place in range(6)]
    )
    task = Recommendation(DataSource(table(tmp_path, counted()), test))
    assert task.score(Follows(task.vocabulary), 2) == {"NDCG@10": 1.0, "Recall@10": 1.0}
    few = Recommendation(DataSource(table(tmp_path, counted()), test, limit=2), min_item_events=1)
    assert (len(few.records), len(few.held_out_records)) == (2, 2)  # users, not events
    strange = table(
        other, [{"user": user, "item": f"x{place}", "time": place} for user in (1, 2) for place in range(6)]
    )
    with pytest.raises(UsageError, match="the item 'x0', which training never saw"):
        Recommendation(DataSource(table(tmp_path, counted()), strange))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rating": "good"}, "The rating 'good' in the event of user 0 with item i12 is no number"),
        ({"rating": "nan"}, "is no number"),
        ({"time": "soon"}, "The time 'soon' .* is neither a number nor a date"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Recommendation(DataSource(table(tmp_path, [{**row, **change} for row in counted()])))


def test_data_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no column 'time', only item, user"):
        Recommendation(DataSource(table(tmp_path, [{"user": 1, "item": 2}])))
    with pytest.raises(UsageError, match="Of 1 users in the data 1 have 4 events or more"):
        Recommendation(DataSource(table(tmp_path, counted(users=1))))
    with pytest.raises(UsageError, match="There are 6 items: to recommend 10 of them, there must be more"):
        Recommendation(
            DataSource(
                table(tmp_path, [{"user": user, "item": f"{at}", "time": at} for user in "ab" for at in range(6)])
            )
        )
    with pytest.raises(UsageError, match="event_columns must be among title, genres, rating, got 'colour'"):
        Recommendation(event_columns="colour")


@pytest.mark.parametrize(
    ("history", "complaint"),
    [
        ("The Fery man, volume 1", "do you mean 'The Ferryman, volume 1'?"),
        ("Zzz", "There is no item 'Zzz': training never saw it"),
        (" ; ", "The history holds no item"),
        ("Salt and Tar 1 = fine", "The rating ' fine' in 'Salt and Tar 1 = fine' is no number"),
    ],
)
def test_histories_that_cannot_be(history: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recommendation().catalogue.history(history)
    assert complaint in str(caught.value)


def test_events_of_the_same_time_stand_in_random_order(tmp_path: Path) -> None:
    rows = [{"user": user, "item": f"{at:02}", "time": 7} for user in "ab" for at in range(20)]
    orders = [
        [event.item.id for event in record["events"]]
        for record in Recommendation(DataSource(table(tmp_path, rows))).records
    ]
    files_order = sorted(orders[0])
    assert [sorted(order) for order in orders] == [files_order] * 2
    assert files_order not in orders
    assert orders[0] != orders[1]


def test_what_others_with_the_same_items_had_is_ranked_first() -> None:
    """Two groups of users share no item: only factors of each user tell which group's item comes next."""
    rows = [
        {"user": f"{group} {user}", "item": f"{group} {(user + at) % 12}", "time": at}
        for group in "ab"
        for user in range(30)
        for at in range(8)
    ]
    histories = histories_of(rows)
    task = build("recommendation").with_records(held_out=histories)  # type: ignore[attr-defined]
    task = task.copy_with(catalogue=Catalogue([Item(f"{group} {number}") for group in "ab" for number in range(12)]))
    assert task.baselines()["BPR"] > 0.4


def dated(users: int = 12) -> list[dict[str, Any]]:
    """Users who begin one after the other and have eight items each: `new` only the last three."""
    rows = [
        {"user": user, "item": f"i{(user + at) % 14:02}", "time": user * 4 + at}
        for user in range(users)
        for at in range(8)
    ]
    return [*rows, *({"user": user, "item": "new", "time": 90 + user} for user in range(users - 3, users))]


def test_nothing_after_the_date_is_trained_on(tmp_path: Path) -> None:
    source = DataSource(table(tmp_path, dated()), held_out=0.3)
    task = Recommendation(source, split="time", targets=2)
    last = max(event.time for record in task.records for event in record["events"])
    assert "new" not in task.catalogue.numbers
    for record in task.held_out_records:
        *before, asked = record["events"]
        assert asked.time > last
        assert len(before) >= 3
        assert [event.time for event in before] == sorted(event.time for event in before)
    users = [record["user"] for record in task.held_out_records]
    assert max(users.count(user) for user in users) == 2
    assert any(user not in {record["user"] for record in task.records} for user in users)  # who began after it
    generator = torch.Generator().manual_seed(0)
    trained = {item for history in task.training_histories() for item in task.item_numbers(history)}
    _, targets, _ = task.batch(8, 2, generator)
    asked_for = targets[targets != IGNORE_INDEX] - task.tokenizer.size
    assert set(asked_for.tolist()) <= trained
    chosen_by = {task.item_numbers(record["events"])[-1] for record in task.records}
    _, targets, _ = task.held_out().batch(8, 2, generator)
    assert set((targets[:, -1] - task.tokenizer.size).tolist()) <= chosen_by
    assert task.baselines(4).keys() == {"popularity", "item-kNN", "BPR"}


def test_ways_to_hold_out(tmp_path: Path) -> None:
    path = table(tmp_path, dated())
    with pytest.raises(UsageError, match="split must be last or time, got 'date'"):
        Recommendation(DataSource(path), split="date")
    with pytest.raises(UsageError, match="targets must be at least 1"):
        Recommendation(DataSource(path), split="time", targets=0)
    with pytest.raises(UsageError, match="hold out more, or the last item of each user"):
        Recommendation(DataSource(path, held_out=0.01), split="time", min_item_events=3)


def test_no_baseline_sees_what_is_asked(tmp_path: Path) -> None:
    """Nobody before the date has two items of one user's, so only that user's longer histories could tell the next."""
    rows = [
        {"user": f"early {user}", "item": f"i{at:02}", "time": user} for user in range(6) for at in range(user, 30, 6)
    ]
    rows += [{"user": "late", "item": f"i{at:02}", "time": 100 + at} for at in range(24)]
    task = Recommendation(DataSource(table(tmp_path, rows), held_out=0.4), split="time", targets=20)
    assert len(task.held_out_records) > 10
    assert task.baselines()["BPR"] < 0.35


def test_neighbours_by_hand() -> None:
    known = [[0, 1], [0, 1], [0, 2], [3]]
    scores = item_rankers.item_knn(known, [[0], [1, 2]], 4)
    ones, other = 2 / (3 * 2) ** 0.5, 1 / 3**0.5
    torch.testing.assert_close(scores, torch.tensor([[0.0, ones, other, 0.0], [ones + other, 0.0, 0.0, 0.0]]))


def test_dates_order_events(tmp_path: Path) -> None:
    rows = [{"user": user, "item": f"{at}", "time": f"2024-{12 - at:02}-01"} for user in "ab" for at in range(12)]
    assert [event.item.id for event in Recommendation(DataSource(table(tmp_path, rows))).records[0]["events"]][:2] == [
        "11",
        "10",
    ]


@pytest.mark.skipif(not FILMS.is_dir(), reason="MovieLens is not here")
def test_movielens() -> None:
    task = Recommendation(DataSource(str(FILMS), format="movielens", limit=30))
    assert len(task.records) == 30
    assert [event.item.title for event in task.catalogue.history("heat; Toy Story (1995) = 4.5")] == [
        "Heat (1995)",
        "Toy Story (1995)",
    ]
