"""Recommendations: nothing that was had, the reason is the event that matters most, diversity makes them less alike."""

from collections.abc import Callable

import pytest
import torch

from memspan.apps.recommend.choice import Wish, reasons_for, similarities, unseen_items
from memspan.apps.recommend.engine import borrowed
from memspan.apps.recommend.folder import Folder
from memspan.apps.recommend.steps import merged, steps_of
from memspan.errors import UsageError

Library = Callable[[], Folder]
USER = "reader 07"


def test_what_comes_next_is_recommended_and_nothing_that_was_had(library: Library) -> None:
    folder = library()
    had = {event.item for event in folder.store.events(USER)}
    found = folder.recommend(USER, Wish(8))
    assert len(found) == 8
    assert not had & {item.item for item in found}
    last = {topic: max(name for name in had if name.startswith(topic)) for topic in {name[:-3] for name in had}}
    following = {f"{topic} {int(name[-2:]) + 1:02}" for topic, name in last.items()}
    assert following <= {item.item for item in found[:4]}


def test_the_reason_is_the_event_without_which_the_score_falls_most(library: Library) -> None:
    """The reference makes the memory of each shortened history by the recurrence, event by event."""
    folder = library()
    engine, steps = folder.engine, merged(steps_of(folder.store.events(USER), folder.weights))

    def scores(history: list[object]) -> torch.Tensor:
        memory = torch.zeros(len(engine.decays), engine.fitted)
        for step in history:
            memory *= torch.tensor(list(engine.decays))[:, None]
            for number, share in zip(*engine.shares[step.item], strict=True):  # type: ignore[attr-defined]
                memory[:, number] += share * step.weight  # type: ignore[attr-defined]
        return engine.scores(memory[None])[0]

    unseen = unseen_items(engine, [step.item for step in steps])
    chosen = [engine.numbers[item.item] for item in folder.recommend(USER, Wish(3))]
    whole = scores(list(steps))
    for number, reason in zip(chosen, reasons_for(engine, steps, chosen, unseen), strict=True):
        falls = [float(whole[number] - scores([*steps[:i], *steps[i + 1 :]])[number]) for i in range(len(steps))]
        index = max(range(len(steps)), key=falls.__getitem__)
        assert reason is not None
        assert reason.step == steps[index]
        without = scores([*steps[:index], *steps[index + 1 :]])
        possible = unseen & ~engine.is_new()
        assert reason.rank_without == 1 + int(((without > without[number]) & possible).sum())
        assert reason.rank_without > reason.rank


def test_diversity_makes_recommendations_less_alike(library: Library) -> None:
    folder = library()
    alike = []
    for diversity in (0.0, 0.4, 1.0):
        found = folder.recommend(USER, Wish(8, diversity=diversity, reasons=False))
        matrix = similarities(folder.engine, [folder.engine.numbers[item.item] for item in found])
        alike.append(float((matrix.sum() - matrix.trace()) / (8 * 7)))
        assert found[0].item == folder.recommend(USER, Wish(1, reasons=False))[0].item  # the best is never given up
    assert alike[0] > alike[1] > alike[2]


def test_a_new_item_has_the_scores_of_what_it_is_like() -> None:
    texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), dim=1)
    shares = borrowed(torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), texts)
    torch.testing.assert_close(shares[0], torch.tensor([1.0, 0.64, 0.0]) / 1.64)
    assert not shares[1].any()  # nothing is known of it
    assert not shares[2].any()  # and this is like none


def test_new_items_are_recommended_by_their_texts(library: Library) -> None:
    folder = library()
    topics = {event.item[:-3] for event in folder.store.events(USER)}
    found = folder.recommend(USER, Wish(4, new=2))
    assert [item.is_new for item in found] == [False, False, True, True]
    assert {item.item[:-3] for item in found[2:]} <= topics
    assert len(folder.recommend(USER, Wish(2, new=5))) == 2


def test_a_user_without_events_gets_what_is_popular_or_like_a_text(library: Library) -> None:
    folder = library()
    popular = folder.recommend(None, Wish(5))
    assert popular == folder.recommend("nobody", Wish(5))
    assert all(item.reason is None for item in popular)
    like = folder.recommend(None, Wish(3, query=folder.query("telescope, comets and planets in the night sky")))
    assert {item.item[:-3] for item in like} == {"astronomy"}
    with pytest.raises(UsageError, match="No word of 'zzz' is known"):
        folder.query("zzz")
