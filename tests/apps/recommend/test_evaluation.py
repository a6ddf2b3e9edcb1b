"""What a folder is worth: the figures are those that a count by hand gives."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from memspan.apps.recommend import evaluation
from memspan.apps.recommend.evaluation import Question, gains, methods, new_items
from memspan.apps.recommend.fitting import by_user
from memspan.apps.recommend.folder import Folder
from memspan.tasks.text.histories import Event, Item, histories_by_date


def test_the_figures_are_those_of_a_count_by_hand() -> None:
    questions = [Question("ann", [], "a"), Question("ann", [], "b"), Question("bob", [], "c")]
    lists = [["a", "b"], ["a", "b"], ["a", "b"]]
    np.testing.assert_allclose(gains(lists, questions), [1.0, 1 / math.log2(3), 0.0])
    known = [{"user": str(user), "events": [Event(Item("a"))]} for user in range(3)]
    known.append({"user": "3", "events": [Event(Item("b")), Event(Item("b"))]})
    found = methods({"memspan": lists, "other": [["c"], ["c"], ["c"]]}, questions, known, 4)
    own, other = found["memspan"], found["other"]
    assert own.ndcg == pytest.approx((1 + 1 / math.log2(3)) / 3)
    assert own.recall == pytest.approx(2 / 3)
    assert (own.coverage, other.coverage) == (0.5, 0.25)
    assert own.novelty == pytest.approx((-math.log2(3 / 4) - math.log2(1 / 4)) / 2)
    assert other.recall == pytest.approx(1 / 3)
    assert own.behind is None
    assert other.behind is not None
    assert other.behind[0] <= own.ndcg - other.ndcg <= other.behind[1]


def test_hidden_items_are_found_by_their_texts(library: Callable[[], Folder], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = library()
    histories = by_user(folder.store.events(), folder.weights)
    records = [
        {"user": user, "item": step.item, "time": step.event.time, "weight": step.weight}
        for user, steps in histories.items()
        for step in steps
    ]
    dated = histories_by_date(records, 0.3, 10, 5)
    assert new_items(dated.known, dated.held_out, folder.store.items(), folder.engine, 0) == {}  # seven are too few
    monkeypatch.setattr(evaluation, "HIDDEN", 3)
    found = new_items(dated.known, dated.held_out, folder.store.items(), folder.engine, 0)
    assert found["items"] == folder.engine.fitted // 3
    assert found["popularity"] == pytest.approx(10 / found["items"], rel=0.3)  # less what users had of them
    assert found["from"] <= found["memspan"] <= found["to"]
    assert found["memspan"] > 1.5 * found["popularity"]
