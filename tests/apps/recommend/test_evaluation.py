"""What a folder is worth: the figures are those that a count by hand gives."""

import math

import numpy as np
import pytest

from memspan.apps.recommend.evaluation import Question, gains, methods
from memspan.tasks.text.histories import Event, Item


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
