"""The recall task: what is asked can be answered from the stream, and only from the facts."""

import pytest
import torch

from memspan.errors import UsageError
from memspan.tasks import IGNORE_INDEX
from memspan.tasks.synthetic.recall import KEYS, VALUES, Recall


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("segments", [2, 3, 7])
def test_every_question_has_its_answer(aligned: bool, segments: int) -> None:
    task = Recall(facts=3, segment=16, aligned=aligned)
    ids, targets, fresh = task.batch(50, segments, torch.Generator().manual_seed(0))
    assert fresh
    assert ids.shape == targets.shape == (50, segments * 16)
    asking = (segments - 1) * 16
    odd = 0
    for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
        places = [place for place, token in enumerate(row[:asking]) if token < KEYS]
        facts = {row[place]: row[place + 1] for place in places}
        odd += sum(place % 2 for place in places)
        assert len(facts) == 3
        assert all(KEYS <= value < KEYS + VALUES for value in facts.values())
        assert max(places) + 1 < min(3, segments - 1) * 16
        asked = [place for place, target in enumerate(wanted) if target != IGNORE_INDEX]
        assert len(asked) == 3
        for place in asked:
            assert place >= asking
            assert row[place - 1] == task.mark
            assert wanted[place] == facts[row[place]]
    assert (odd == 0) == aligned


def test_a_seed_makes_a_batch() -> None:
    one, same, other = (Recall().batch(2, 3, torch.Generator().manual_seed(seed)).ids for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least 27 tokens for 9 facts, got segment=16"):
        Recall(facts=9, segment=16)
    with pytest.raises(UsageError, match="at least 2 segments"):
        Recall().batch(1, 1, torch.Generator())
