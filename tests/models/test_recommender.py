"""A recommender that is fitted at once: its memory is a state, its regression is the one that is written down."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memspan.errors import UsageError
from memspan.models.next_item import Events, following, memories, validation
from memspan.models.recommender import Recommender, RecommenderConfig
from memspan.models.saved import open_model

ITEMS, IDS = 12, 7  # items, and ids of the tokenizer before them


def cycles(users: int = 30, length: int = 9) -> Events:
    """User u has the items from u on, one after the other; all have one at the same time."""
    return Events(
        [[(user + index) % ITEMS for index in range(length)] for user in range(users)],
        [[float(index) for index in range(length)] for _ in range(users)],
    )


def fitted(texts: bool = False, decays: tuple[float, ...] = (0.5, 0.85)) -> Recommender:
    vectors = torch.nn.functional.normalize(torch.randn(ITEMS, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    model = Recommender(RecommenderConfig(IDS, ITEMS, 5 if texts else 0, decays))
    model.fit(cycles(), vectors if texts else None)
    return model.eval()


def stream(*items: int) -> torch.Tensor:
    return torch.tensor([[IDS + item if item >= 0 else 3 for item in items]])


def test_what_always_follows_is_recommended() -> None:
    model = fitted()
    for last in range(ITEMS):
        logits, _ = model(stream(last - 2 if last > 1 else last + 10, last), None, 1)
        assert int(logits[0, 0].argmax()) == IDS + (last + 1) % ITEMS
        assert (logits[0, 0, :IDS] == -torch.inf).all()


def test_a_memory_of_the_last_item_alone_forgets_what_was_before() -> None:
    alone, remembering = fitted(decays=(0.0,)), fitted()
    assert torch.equal(alone(stream(1, 4), None, 1)[0], alone(stream(9, 4), None, 1)[0])
    assert not torch.equal(remembering(stream(1, 4), None, 1)[0], remembering(stream(9, 4), None, 1)[0])


def test_a_stream_in_parts_is_the_whole_stream() -> None:
    model, ids = fitted(texts=True), stream(1, 2, -1, 3, 7, -1, 0)
    whole, state = model(ids)
    first, middle = model(ids[:, :3])
    second, end = model(ids[:, 3:], middle)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, state)
    _, unread = model(ids, None, 0)
    torch.testing.assert_close(unread, state)
    last, _ = model(ids, None, 1)
    torch.testing.assert_close(last, whole[:, -1:])


def test_what_is_no_item_changes_nothing() -> None:
    model = fitted()
    torch.testing.assert_close(model(stream(-1, -1, 3, -1, 5), None, 1)[0], model(stream(3, 5), None, 1)[0])


def test_the_memory_decays_with_each_item() -> None:
    _, state = fitted()(stream(2, 5, 5, -1))
    expected = torch.zeros(2, ITEMS)
    for row, decay in enumerate((0.5, 0.85)):
        expected[row, 2], expected[row, 5] = decay**2, 1 + decay
    torch.testing.assert_close(state[0], expected)
    torch.testing.assert_close(memories([[2, 5, 5]], (0.5, 0.85), ITEMS)[0], expected)


def test_the_regression_is_that_on_the_memories_before_each_event() -> None:
    events, decay = Events([[1, 4, 2, 1], [3, 2]], [[0.0, 1, 2, 3], [0.0, 1]]), 0.5
    memory, targets = [], []
    for numbers in events.items:
        for index in range(1, len(numbers)):
            memory.append(memories([numbers[:index]], (decay,), ITEMS)[0, 0].numpy())
            targets.append(numbers[index])
    unit = np.stack([row / np.linalg.norm(row) for row in memory])
    gram, products = following(events, decay, ITEMS)
    np.testing.assert_allclose(gram.numpy(), unit.T @ unit, atol=1e-6)
    np.testing.assert_allclose(products.numpy(), unit.T @ np.eye(ITEMS)[targets], atol=1e-6)


def test_an_event_counts_by_its_weight() -> None:
    events, decay = Events([[1, 4, 2], [3, 0]], [[0.0, 1, 2], [0.0, 1]], [[2.0, 0.0, 1.0], [0.5, 3.0]]), 0.5
    memory = memories([[1], [1, 4], [3]], (decay,), ITEMS, [[2.0], [2.0, 0.0], [0.5]])[:, 0]
    assert memory[1].tolist() == [0, 1, *[0] * 10]  # decayed, and nothing added
    unit = torch.nn.functional.normalize(memory, dim=1)
    gram, products = following(events, decay, ITEMS)
    torch.testing.assert_close(gram, unit.T @ unit)
    expected = torch.zeros(ITEMS, ITEMS)
    expected[1, 2], expected[3, 0] = 1, 1  # the item 4, which counts nothing, is none to predict
    torch.testing.assert_close(products, expected)
    assert events.popularity((100.0,), ITEMS).argmax() == 0
    _, questions = validation(Events([[0, 1, 2, 3, 4]], [[0.0, 1, 2, 3, 4]], [[1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert questions.weights == [[1.0, 2.0, 3.0, 4.0]]


def test_settings_are_chosen_by_what_came_last() -> None:
    known, questions = validation(cycles(users=4, length=10))
    assert known.items == [[(user + index) % ITEMS for index in range(8)] for user in range(4)]
    assert len(questions.histories) == 8
    assert all(len(history) >= 8 for history in questions.histories)
    assert [history[-1] for history in questions.histories] == [
        (target - 1) % ITEMS for target in questions.targets.tolist()
    ]


def test_recent_events_count_more() -> None:
    events = Events([[0, 0, 0], [1, 1]], [[0.0, 1, 2], [8.0, 9]])
    recent, overall = events.popularity((0.1, 100.0), 3)
    assert recent.argmax() == 1
    assert overall.argmax() == 0


@pytest.mark.parametrize("texts", [False, True])
def test_a_saved_recommender_is_the_same(tmp_path: Path, texts: bool) -> None:
    model = fitted(texts)
    model.save_pretrained(tmp_path / "model")
    again = open_model(tmp_path / "model").eval()
    torch.testing.assert_close(again(stream(1, 2), None, 1)[0], model(stream(1, 2), None, 1)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("change", [{"items": 11}, {"text_size": 3}, {"decays": [0.5, 0.6, 0.7]}])
def test_weights_of_another_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    import json

    from memspan.models.folders import write_checksums

    fitted().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match="of another configuration"):
        open_model(tmp_path)
