"""Many small appends leave few files, cost little, and change nothing that can be seen."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.memory import Memory, load_memory
from memspan.memory.store.compaction import FINAL_CLASS, FIRST_CLASS, settle
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores


def grow(appends: list[int]) -> tuple[list[int], int]:
    """The shard sizes after appends of these sizes, and the bytes written on the way."""
    shards: list[int] = []
    written = 0
    for size in appends:
        shards.append(size)
        joined = []
        for run in settle(shards):
            joined.append(sum(shards[run]))
            if run.stop - run.start > 1 or run.stop == len(shards):
                written += joined[-1]
        shards = joined
    return shards, written


@given(st.lists(st.integers(0, 2**32), max_size=60))
def test_runs_tile_the_list(sizes: list[int]) -> None:
    runs = settle(sizes)
    assert [index for run in runs for index in range(run.start, run.stop)] == list(range(len(sizes)))


# Most sizes drawn evenly would fall into the final class, which may have any number of shards.
SIZES = st.builds(int.__lshift__, st.integers(4, 7), st.integers(0, 28))


@given(st.lists(SIZES, max_size=200))
@settings(deadline=None)
def test_classes_fall_and_none_but_the_last_has_more_than_seven(sizes: list[int]) -> None:
    shards, _ = grow(sizes)
    classes = [max(FIRST_CLASS, min(size.bit_length() // 3, FINAL_CLASS)) for size in shards]
    assert classes == sorted(classes, reverse=True)
    assert all(classes.count(size_class) <= 7 for size_class in range(FINAL_CLASS))


@pytest.mark.parametrize("size", [1, 8**FIRST_CLASS, 8**5 + 1, 8**FINAL_CLASS // 8])
def test_the_eighth_of_a_class_joins_the_others(size: int) -> None:
    assert grow([size] * 7)[0] == [size] * 7
    assert grow([size] * 8)[0] == [8 * size]


@pytest.mark.parametrize("spread", [1, 10, 1000])
def test_ten_thousand_appends_leave_few_files_and_rewrite_little(spread: int) -> None:
    rng = random.Random(0)
    appends = [int(1000 * spread ** rng.random()) for _ in range(10_000)]
    shards, written = grow(appends)
    assert len(shards) <= 40 + sum(appends) // 8**FINAL_CLASS
    assert written <= 7 * sum(appends)


def test_settled_parts_stay_as_they_are() -> None:
    shards, _ = grow([1000] * 777)
    assert [run.stop - run.start for run in settle(shards)] == [1] * len(shards)


def test_final_parts_are_left_alone() -> None:
    assert len(settle([8**FINAL_CLASS] * 50)) == 50


def test_what_is_joined_stays_the_same(quick_path: Path) -> None:
    on_disk, at_once = Memory.open(quick_path / "m", FINGERPRINT), Memory(FINGERPRINT)
    texts = []
    for n in range(300):
        source, start = f"s{n % 7}", sum(len(p.text) for p in texts if p.source == f"s{n % 7}")
        text = f"turn {n} says {'word ' * (n % 40)}"
        texts.append(encoded(text, source, start, complete=False, added=float(n), meta={"n": n}))
        on_disk.append(texts[-1:])
        assert len(list((quick_path / "m" / "parts").iterdir())) <= 7 * 4
    at_once.append(texts)
    assert contents_of(on_disk) == contents_of(load_memory(quick_path / "m")) == contents_of(at_once)
    assert word_scores(on_disk, ["299", "word"]) == word_scores(at_once, ["299", "word"])


def test_a_shard_that_is_not_joined_keeps_its_file(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("word " * 3000, source="large")])
    (large,) = memory.snapshot.shards
    memory.append([encoded("word", source="small")])
    assert memory.snapshot.shards[0].file == large.file
    assert len(memory.snapshot.shards) == 2


def test_numbers_stay_while_parts_are_joined(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    for n in range(70):
        memory.append([encoded(f"only {n}", source=str(n))])
        assert memory.passage(0).text == "only 0"
        assert memory.passage(n).text == f"only {n}"
        scores = word_scores(memory, [str(n)])
        assert scores.index(max(scores)) == n
