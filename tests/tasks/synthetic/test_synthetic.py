"""The synthetic tasks against readers that know the rule: what is asked can be answered, from where it should be."""

import pytest
import torch

from memspan.errors import UsageError
from memspan.tasks import IGNORE_INDEX, TASKS, Batch, Task, build
from memspan.tasks.synthetic.capacity import KEYS as PAIR_KEYS
from memspan.tasks.synthetic.capacity import Capacity
from memspan.tasks.synthetic.copying import Copying
from memspan.tasks.synthetic.later_text import TAGS, LaterText
from memspan.tasks.synthetic.overwrites import KEYS, VALUES, Overwrites


def make(task: Task, segments: int, rows: int = 20, seed: int = 0) -> Batch:
    return task.batch(rows, segments, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"babi_book", "language_modelling"}))
def test_streams_follow_from_the_seed_and_fit_their_vocabulary(name: str) -> None:
    task = build(name)
    one, again, other = make(task, 4), make(task, 4), make(task, 4, seed=1)
    assert torch.equal(one.ids, again.ids)
    assert torch.equal(one.targets, again.targets)
    assert not torch.equal(one.ids, other.ids)
    assert one.ids.shape == one.targets.shape
    assert len(one.ids) == 20
    assert 0 < one.ids.shape[1] <= 4 * task.segment
    assert one.ids.min() >= 0
    assert max(one.ids.max(), one.targets.max()) < task.vocabulary
    assert (one.targets != IGNORE_INDEX).any(1).all()


@pytest.mark.parametrize("segments", [2, 5])
def test_the_last_value_of_a_key_is_the_answer(segments: int) -> None:
    batch = make(Overwrites(3), segments)
    told = 0
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        last: dict[int, int] = {}
        answers = {}
        for place, token in enumerate(ids):
            if targets[place] != IGNORE_INDEX:
                answers[token] = targets[place]
            elif token < KEYS:
                last[token] = ids[place + 1]
                told += 1
                assert KEYS <= ids[place + 1] < KEYS + VALUES
        assert answers == last
        assert len(answers) == 3
    assert told == 20 * 3 * (segments - 1)


def test_all_pairs_are_told_once_and_asked_once() -> None:
    batch = make(Capacity(), 4)
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        half = len(ids) // 2
        told = dict(zip(ids[:half:2], ids[1:half:2], strict=True))
        asked = {token: target for token, target in zip(ids, targets, strict=True) if target != IGNORE_INDEX}
        assert told == asked
        assert len(told) == 32
    with pytest.raises(UsageError, match=f"only {PAIR_KEYS} keys"):
        make(Capacity(), 32)


def test_the_copy_is_the_first_half() -> None:
    for segments in (2, 3):
        batch = make(Copying(7), segments)
        half = segments * 7 // 2
        assert torch.equal(batch.targets[:, half : 2 * half], batch.ids[:, :half])
        assert (batch.targets[:, :half] == IGNORE_INDEX).all()
        assert torch.equal(batch.ids[:, half + 1 : 2 * half], batch.ids[:, : half - 1])  # told the one before


def test_a_tag_needs_the_key_behind_it() -> None:
    task = LaterText(8)
    assert not task.causal
    batch = make(task, 3)
    ids, targets = (one.reshape(20, 3, 8) for one in (batch.ids, batch.targets))
    assert torch.equal(targets[..., :-1], (ids[..., :-1] + ids[..., -1:] - TAGS) % TAGS)
    assert (targets[..., -1] == IGNORE_INDEX).all()


@pytest.mark.parametrize(
    ("name", "settings", "segments", "reason"),
    [
        ("overwrites", {"keys": 0}, 2, "keys must be from 1 to 16, got keys=0"),
        ("overwrites", {"segment": 7}, 2, "segment must be at least 8 tokens for 4 keys, got segment=7"),
        ("overwrites", {}, 1, "at least 2 segments"),
        ("recall", {"facts": 17}, 2, "facts must be from 1 to 16, got facts=17"),
        ("recall", {}, 1, "at least 2 segments"),
        ("capacity", {"segment": 6}, 2, "multiple of 4"),
        ("copying", {"segment": 1}, 2, "at least 2 tokens, got segment=1"),
        ("later_text", {"segment": 1}, 2, "a symbol and a key"),
        ("babi_book", {}, 2, "needs a file of bAbI"),
        ("babi_book", {"stories": "no.txt", "book": "no.txt"}, 2, "no.txt cannot be read"),
        ("babi_book", {"stories": __file__, "book": __file__}, 2, "format of bAbI"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict, segments: int, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make(build(name, **settings), segments)
