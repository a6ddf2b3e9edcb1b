"""Saving, loading, forking, merging and describing a memory, in RAM and on disk."""

import dataclasses
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memspan.errors import UsageError
from memspan.memory import Memory, load_memory
from memspan.memory.store.folder import Folder
from memspan.memory.store.manifest import FIRST_VERSION
from tests.memory.make import FINGERPRINT, contents_of, encoded, term_of, word_scores


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b/ü.txt", "c *[x]"]),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
            st.integers(1, 4),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_of_the_same_pieces_saves_and_loads_the_same(
    quick_path: Path, drawn: list[tuple[str, str, int, bool]], cuts: list[bool]
) -> None:
    characters: dict[str, int] = {}
    texts = []
    for source, text, length, exchange in drawn:
        start = characters.get(source, 0)
        meta = {"n": len(texts)} if exchange else {}
        texts.append(encoded(text, source, start, length, complete=False, added=float(len(texts)), meta=meta))
        characters[source] = start + len(text)
    at_once, split = Memory(FINGERPRINT), Memory(FINGERPRINT)
    at_once.append(texts)
    batch = []
    for text, cut in zip(texts, cuts, strict=False):
        batch.append(text)
        if cut:
            split.append(batch)
            batch = []
    split.append(batch)
    assert contents_of(split) == contents_of(at_once)
    path = quick_path / os.urandom(8).hex()
    split.save(path)
    loaded = load_memory(path, expect=FINGERPRINT)
    assert contents_of(loaded) == contents_of(at_once) == contents_of(split)
    words = [word for _, text, _, _ in drawn for word in text.split(" ")]
    assert word_scores(loaded, words) == word_scores(at_once, words) == word_scores(split, words)
    assert loaded.generation == split.generation


def test_save_binds(quick_path: Path) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([encoded("one")])
    assert memory.path is None
    memory.save(quick_path / "deep" / "er" / "m")
    assert memory.path == quick_path / "deep" / "er" / "m"
    memory.append([encoded("two", source="b")])
    assert contents_of(load_memory(memory.path)) == contents_of(memory)


def test_save_refuses_what_is_there_already(quick_path: Path) -> None:
    memory = Memory(FINGERPRINT)
    (quick_path / "full").mkdir()
    (quick_path / "full" / "letter.txt").write_text("dear")
    (quick_path / "file").write_text("x")
    memory.save(quick_path / "m")
    for name, reason in [("full", "is not empty"), ("file", "is a file"), ("m", "is not empty")]:
        with pytest.raises(UsageError, match=reason):
            memory.save(quick_path / name)
        with pytest.raises(UsageError, match=reason):
            memory.fork(quick_path / name)
    assert os.listdir(quick_path / "full") == ["letter.txt"]
    with pytest.raises(UsageError, match="no memory"):
        Memory.open(quick_path / "full", FINGERPRINT)
    assert os.listdir(quick_path / "full") == ["letter.txt"]
    (quick_path / "empty").mkdir(mode=0o755)
    memory.save(quick_path / "empty")
    assert memory.path == quick_path / "empty"


def test_nothing_to_load(quick_path: Path) -> None:
    (quick_path / "empty").mkdir()
    (quick_path / "file").write_text("x")
    assert not any(Folder.is_memory(quick_path / name) for name in ("absent", "empty", "absent/below", "file"))
    for name in ("absent", "empty", "absent/below"):
        with pytest.raises(UsageError, match="there is no memory at"):
            load_memory(quick_path / name)
    with pytest.raises(UsageError, match="is a file"):
        load_memory(quick_path / "file")
    assert not (quick_path / "absent").exists()


def test_a_memory_whose_folder_was_deleted_says_so_and_does_not_make_it_again(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one")])
    (quick_path / "m").rename(quick_path / "away")
    with pytest.raises(UsageError, match="there is no memory at"):
        memory.append([encoded("two", source="b")])
    assert not (quick_path / "m").exists()
    (quick_path / "away").rename(quick_path / "m")
    memory.append([encoded("two", source="b")])


def test_open_makes_and_then_loads(quick_path: Path) -> None:
    first = Memory.open(quick_path / "m", FINGERPRINT)
    first.append([encoded("one")])
    assert Folder.is_memory(quick_path / "m")
    assert contents_of(Memory.open(quick_path / "m", FINGERPRINT)) == contents_of(first)


def test_only_the_owner_may_look(quick_path: Path) -> None:
    for mask in (0o000, 0o277, 0o777):
        before = os.umask(mask)
        try:
            path = quick_path / f"m{mask}"
            memory = Memory.open(path, FINGERPRINT)
            memory.append([encoded("one")])
            word_scores(memory, ["one"])
            memory.fork(quick_path / f"f{mask}")
        finally:
            os.umask(before)
        for root in (path, quick_path / f"f{mask}"):
            seen = [root, *root.rglob("*")]
            assert {stat.S_IMODE(entry.stat().st_mode) for entry in seen if entry.is_dir()} == {0o700}
            assert {stat.S_IMODE(entry.stat().st_mode) for entry in seen if entry.is_file()} == {0o600}
            assert {"manifest.json", "lock", "search.sqlite", "search.json"} <= {entry.name for entry in seen}


def test_forks_go_their_own_ways(memory: Memory, quick_path: Path) -> None:
    memory.append([encoded("shared words here", source="both")])
    before = contents_of(memory)
    word_scores(memory, ["shared"])
    forks = [memory.fork(), memory.fork(quick_path / "fork")]
    for number, fork in enumerate(forks):
        assert contents_of(fork) == before
        fork.append([encoded(f"mine {number}", source="mine")])
        assert "mine" not in memory.sources
        assert contents_of(memory) == before
    memory.append([encoded("theirs", source="theirs")])
    memory.forget("both")
    for number, fork in enumerate(forks):
        assert list(fork.sources) == ["both", "mine"]
        assert fork.passage(0).text == "shared words here"
        assert [score > 0 for score in word_scores(fork, ["shared"])] == [True, False]
        assert [score > 0 for score in word_scores(fork, [str(number)])] == [False, True]
        assert [score > 0 for score in word_scores(fork, [str(1 - number)])] == [False, False]
    assert word_scores(memory, ["mine", "shared"]) == [0.0]
    assert contents_of(load_memory(quick_path / "fork")) == contents_of(forks[1])
    forks[1].forget("mine")
    assert contents_of(forks[1]) == before


def test_a_fork_on_the_same_disk_copies_nothing(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one two")])
    word_scores(memory, ["one"])
    memory.fork(quick_path / "fork")
    (part,) = (quick_path / "fork" / "parts").iterdir()
    assert part.stat().st_nlink == 2
    assert (quick_path / "fork" / "search.sqlite").stat().st_nlink == 2


def test_a_fork_to_a_file_system_without_links(quick_path: Path, tmp_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one two")])
    fork = memory.fork(tmp_path / "fork")  # another disk than RAM, on most systems
    assert contents_of(fork) == contents_of(load_memory(tmp_path / "fork")) == contents_of(memory)


def test_merge(memory: Memory) -> None:
    memory.append([encoded("same", source="same", added=1.0), encoded("my text", source="clash", added=1.0)])
    other = Memory(FINGERPRINT)
    other.append([encoded("their text of it", source="clash", added=2.0, words_per_passage=1)])
    other.append([encoded("new ", source="new", complete=False, added=3.0)])
    other.append([encoded("same", source="same", added=9.0), encoded("", source="none", added=3.0)])
    other.append([encoded("er", source="new", start=4, complete=False, added=4.0)])
    assert memory.merge(other) == ["clash (2)", "new", "none"]
    assert list(memory.sources) == ["same", "clash", "clash (2)", "new", "none"]
    texts = [(memory.passage(n).source, memory.passage(n).text) for n in range(len(memory))]
    assert texts[:2] == [("same", "same"), ("clash", "my text")]
    assert texts[2:6] == [("clash (2)", word) for word in ("their ", "text ", "of ", "it")]
    assert texts[6:] == [("new", "new "), ("new", "er")]
    assert memory.sources["clash (2)"] == dataclasses.replace(other.sources["clash"], name="clash (2)")
    assert memory.sources["same"].added == 1.0
    assert memory.ids(5).tolist() == [term_of("it")]
    assert memory.neighbours(6, 1, 1) == [6, 7]
    generation = memory.generation
    assert memory.merge(other) == []
    assert memory.generation == generation
    memory.append([encoded(" words", source="new", start=6, added=5.0)])
    assert memory.merge(other) == ["new (2)"]
    assert memory.merge(memory) == []


def test_merge_gives_every_source_a_name_of_its_own(memory: Memory) -> None:
    memory.append([encoded("ours", source="x")])
    other = Memory(FINGERPRINT)
    other.append([encoded("theirs", source="x"), encoded("second", source="x (2)"), encoded("ours", source="y")])
    assert memory.merge(other) == ["x (2)", "x (2) (2)", "y"]
    assert [memory.passage(n).text for n in range(4)] == ["ours", "theirs", "second", "ours"]
    assert memory.merge(other) == []


def test_inspect_and_bytes(memory: Memory) -> None:
    memory.append([encoded("one two three four", added=1.0)])
    memory.append([encoded("five", source="b", added=2.0)])
    seen = memory.inspect()
    assert seen["path"] == (None if memory.path is None else str(memory.path))
    assert {name: seen[name] for name in ("format", "generation", "passages", "tokens", "characters", "parts")} == {
        "format": FIRST_VERSION,
        "generation": 2,
        "passages": 3,
        "tokens": 5,
        "characters": 22,
        "parts": 2,
    }
    assert [source["name"] for source in seen["sources"]] == ["a", "b"]
    assert seen["fingerprint"]["heads"] == ((1, 0), (3, 2))
    assert seen["bytes"] == memory.nbytes
    if memory.path is not None:
        assert memory.nbytes == sum(path.stat().st_size for path in memory.path.rglob("*") if path.is_file())
    before = memory.nbytes
    word_scores(memory, ["one"])
    assert memory.nbytes > before  # the index counts
    before = memory.nbytes
    memory.append([encoded("word " * 1000, source="c")])
    assert memory.nbytes > before + 1000 * (4 + 4 + 2 * 4 + 2 * 2 + 5)


def test_large_parts_are_mapped_and_small_ones_do_not_hold_a_descriptor(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    forks = [memory.fork(quick_path / str(n)) for n in range(20)]
    for fork in forks:
        fork.append([encoded("small")])
    if descriptors is not None:
        assert len(os.listdir("/proc/self/fd")) == descriptors
    memory.append([encoded("word " * 50_000)])
    (block,) = memory.blocks()
    base = block.keys
    while isinstance(base, np.ndarray):
        base = base.base
    assert type(base.obj).__name__ == "mmap"


def test_it_answers_at_once_also_with_thousands_of_sources(quick_path: Path) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([encoded("one two three", source=str(n)) for n in range(5000)])
    memory.save(quick_path / "m")
    start = time.perf_counter()
    memory.append([encoded("x", source="x")])
    memory.forget("1*")
    memory.append([encoded("y", source="y")])
    assert memory.neighbours(0, 1, 1) == [0]
    assert time.perf_counter() - start < 5
