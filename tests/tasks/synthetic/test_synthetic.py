"""The synthetic tasks against readers that know the rule: what is asked can be answered, from where it should be."""

import itertools
import statistics

import pytest
import torch

from memspan.errors import UsageError
from memspan.tasks import IGNORE_INDEX, TASKS, Batch, Task, build
from memspan.tasks.synthetic.capacity import KEYS as PAIR_KEYS
from memspan.tasks.synthetic.capacity import Capacity
from memspan.tasks.synthetic.copying import Copying
from memspan.tasks.synthetic.induction import SYMBOLS, Induction
from memspan.tasks.synthetic.later_text import TAGS, LaterText
from memspan.tasks.synthetic.listops import ANSWER, DIGITS, END, OPERATIONS, PAD, ListOps
from memspan.tasks.synthetic.mqar import MQAR
from memspan.tasks.synthetic.overwrites import KEYS, VALUES, Overwrites
from memspan.tasks.synthetic.parity import Parity
from memspan.tasks.synthetic.permutations import Permutations
from memspan.tasks.synthetic.selective_copying import SelectiveCopying
from memspan.tasks.text.classification import Classification


def make(task: Task, segments: int, rows: int = 20, seed: int = 0) -> Batch:
    return task.batch(rows, segments, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"babi_book", "language_modelling", "regression", "tagging"}))
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


@pytest.mark.parametrize("segments", [1, 3])
def test_every_key_of_mqar_returns_once_and_asks_for_its_value(segments: int) -> None:
    pairs = 8
    batch = make(MQAR(pairs), segments)
    places = []
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        values = dict(zip(ids[: 2 * pairs : 2], ids[1 : 2 * pairs : 2], strict=True))
        answers = {ids[place]: target for place, target in enumerate(targets) if target != IGNORE_INDEX}
        assert answers == values
        assert len(values) == pairs
        assert sum(token in values for token in ids) == 2 * pairs
        places += [place for place, target in enumerate(targets) if target != IGNORE_INDEX]
    assert min(places) == 2 * pairs  # anywhere behind the pairs
    assert max(places) == 32 * segments - 1


def test_induction_asks_for_what_followed_the_mark() -> None:
    batch = make(Induction(), 2, rows=50)
    marks = []
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        mark = ids.index(SYMBOLS)
        assert ids.count(SYMBOLS) == 2
        assert ids[-1] == SYMBOLS
        assert targets == [IGNORE_INDEX] * 63 + [ids[mark + 1]]
        marks.append(mark)
    assert min(marks) < 10
    assert max(marks) > 50


def test_selective_copying_asks_for_the_symbols_in_their_order() -> None:
    batch = make(SelectiveCopying(5), 2)
    noise = 16
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        assert [token for token in ids[:-5] if token != noise] == targets[-5:]
        assert len(set(ids[-5:]) | {noise}) == 2
        assert set(targets[:-5]) == {IGNORE_INDEX}


def test_parity_counts_the_ones_so_far() -> None:
    batch = make(Parity(), 2)
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        assert targets == [sum(ids[: end + 1]) % 2 for end in range(64)]


@pytest.mark.parametrize("elements", [2, 3, 5])
def test_permutations_are_composed_from_left_to_right(elements: int) -> None:
    group = list(itertools.permutations("abcde"[:elements]))
    task = Permutations(elements)
    batch = make(task, 1)
    assert task.vocabulary == len(group)
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        things = dict(zip(group[0], group[0], strict=True))
        for token, target in zip(ids, targets, strict=True):
            step = dict(zip(group[0], group[token], strict=True))
            things = {thing: step[now] for thing, now in things.items()}
            assert tuple(things.values()) == group[target]


def test_letters_are_classified_by_their_bytes() -> None:
    task = build("byte_classification")
    labels = sorted({record["label"] for record in Classification.sample(600)})
    label_of = {record["text"]: record["label"] for record in Classification.sample(600)}
    texts = []
    for part in (task, task.held_out()):
        batch = make(part, 16, rows=60)
        assert (batch.targets[:, :-1] == IGNORE_INDEX).all()
        texts.append({bytes(ids).lstrip(b"\0").decode() for ids in batch.ids.tolist()})
        for ids, target in zip(batch.ids.tolist(), batch.targets[:, -1].tolist(), strict=True):
            assert labels[target - 256] == label_of[bytes(ids).lstrip(b"\0").decode()]
    assert texts[0].isdisjoint(texts[1])
    (short,) = make(task, 1, rows=1).ids.tolist()
    assert any(text.startswith(bytes(short).decode()) for text in label_of)


def test_expressions_of_listops_have_the_value_that_is_asked_for() -> None:
    batch = make(ListOps(depth=4), 3, rows=50)
    deepest = longest = 0
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        expression = [token for token in ids[:-1] if token != PAD]
        assert ids[-1] == ANSWER
        assert PAD not in ids[ids.index(expression[0]) :]
        open_lists: list[list[int]] = [[]]
        for token in expression:
            if token == END:
                values = open_lists.pop()
                name = OPERATIONS[values[0] - DIGITS]
                open_lists[-1].append(list_value(name, values[1:]))
            elif token >= DIGITS:
                open_lists.append([token])
                deepest = max(deepest, len(open_lists) - 1)
            else:
                open_lists[-1].append(token)
        assert open_lists == [[targets[-1]]]
        assert targets[:-1] == [IGNORE_INDEX] * 95
        longest = max(longest, len(expression))
    assert deepest == 4
    assert longest > 48


def list_value(name: str, values: list[int]) -> int:
    if name == "MED":
        return statistics.median_high(values)
    return {"MIN": min, "MAX": max, "SM": lambda values: sum(values) % 10}[name](values)


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
        ("mqar", {"pairs": 33}, 2, "pairs must be from 1 to 32, got pairs=33"),
        ("mqar", {"pairs": 11}, 1, "11 pairs and as many questions need 33 tokens, got 32"),
        ("induction", {"segment": 2}, 1, "needs 3 tokens"),
        ("selective_copying", {"symbols": 0}, 2, "symbols must be at least 1, got symbols=0"),
        ("selective_copying", {"symbols": 17}, 1, "17 symbols and as many marks need 34 tokens, got 32"),
        ("byte_classification", {"segment": 0}, 2, "segment must be at least 1 byte, got segment=0"),
        ("parity", {"segment": 0}, 2, "segment must be at least 1 token, got segment=0"),
        ("permutations", {"elements": 6}, 2, "elements must be from 2 to 5, got elements=6"),
        ("listops", {"segment": 7}, 2, "segment must be at least 8 tokens, got segment=7"),
        ("listops", {"depth": 0}, 2, "depth must be at least 1, got depth=0"),
        ("babi_book", {}, 2, "needs a file of bAbI"),
        ("babi_book", {"stories": "no.txt", "book": "no.txt"}, 2, "no.txt cannot be read"),
        ("babi_book", {"stories": __file__, "book": __file__}, 2, "format of bAbI"),
    ],
)
def test_what_cannot_be_is_refused(name: str, settings: dict, segments: int, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make(build(name, **settings), segments)
