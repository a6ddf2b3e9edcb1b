"""What a memory promises to whoever uses it, in RAM and on disk."""

import dataclasses
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memspan.errors import DamagedMemory, ForeignMemory, MemspanError, UsageError
from memspan.memory import FORMAT_VERSION, EncodedText, Fingerprint, Memory, load_memory
from memspan.memory.store.folder import Folder
from memspan.memory.store.manifest import parse, render
from tests.memory.make import FINGERPRINT, contents_of, found, piece_of, term_of


@pytest.fixture(params=["ram", "disk"])
def memory(request: pytest.FixtureRequest, quick_path: Path) -> Memory:
    """An empty memory."""
    return Memory(FINGERPRINT) if request.param == "ram" else Memory.open(quick_path / "m", FINGERPRINT)


# ---- append and read


def test_what_was_appended_can_be_read(memory: Memory) -> None:
    piece = piece_of("the quick brown fox jumps over", added=5.0, meta={"turns": [1, {"role": "user"}]})
    memory.append([piece])
    assert len(memory) == 2
    assert memory.tokens == 6
    assert memory.passage(1).text == "fox jumps over"
    assert (memory.passage(1).start, memory.passage(1).end, memory.passage(1).source) == (16, 30, "a")
    assert (memory.passage(1).tokens, memory.passage(1).added, memory.passage(1).number) == (3, 5.0, 1)
    assert memory.ids(1).tolist() == piece.ids[3:].tolist()
    (block,) = memory.blocks()
    assert block.keys.tolist() == piece.keys.tolist()
    assert block.scales.tolist() == piece.scales.tolist()
    assert block.ends.tolist() == [3, 6]
    source = memory.sources["a"]
    assert (source.characters, source.complete, source.added, source.kind) == (30, True, 5.0, "document")
    assert source.meta == {"turns": [1, {"role": "user"}]}


def test_text_of_every_script_comes_back(memory: Memory) -> None:
    text = "ä ß 漢字 の 🙂🙃 \x00 e\u0301 \u202e end"
    memory.append([piece_of(text, words_per_passage=1)])
    passages = [memory.passage(number) for number in range(len(memory))]
    assert "".join(passage.text for passage in passages) == text
    assert [text[passage.start : passage.end] for passage in passages] == [passage.text for passage in passages]


def test_a_source_can_be_read_in_pieces(memory: Memory) -> None:
    whole = Memory(FINGERPRINT)
    whole.append([piece_of("one two three four five six seven", added=1.0, meta={"b": 2, "a": 1})])
    memory.append([piece_of("one two three ", complete=False, added=1.0, meta={"a": 0, "b": 2})])
    assert not memory.sources["a"].complete
    memory.append([piece_of("four five six ", start=14, complete=False, added=2.0)])
    memory.append([piece_of("seven", start=28, added=3.0, meta={"a": 1})])
    assert memory.sources == whole.sources
    assert [memory.passage(n).text for n in range(3)] == ["one two three ", "four five six ", "seven"]
    assert [memory.passage(n).added for n in range(3)] == [1.0, 2.0, 3.0]


def test_a_source_can_be_continued_within_one_append_and_ended_without_text(memory: Memory) -> None:
    memory.append([piece_of("one ", complete=False), piece_of("two ", start=4, complete=False)])
    memory.append([piece_of("", start=8)])
    assert memory.sources["a"].complete
    assert memory.sources["a"].characters == 8
    memory.append([piece_of("", source="empty")])
    assert memory.sources["empty"].characters == 0
    assert len(memory) == 2


def test_neighbours_follow_the_text_of_their_source_only(memory: Memory) -> None:
    memory.append([piece_of("a0 a1 a2 ", complete=False, words_per_passage=1)])
    memory.append([piece_of("b0 b1 ", source="b", words_per_passage=1)])
    memory.append([piece_of("a3 a4", start=9, words_per_passage=1)])
    assert memory.neighbours(2, 1, 1) == [1, 2, 5]
    assert memory.neighbours(0, 9, 9) == [0, 1, 2, 5, 6]
    assert memory.neighbours(3, 1, 1) == [3, 4]
    assert memory.neighbours(6, 0, 0) == [6]
    assert [memory.passage(n).text.strip() for n in memory.neighbours(0, 0, 9)] == ["a0", "a1", "a2", "a3", "a4"]


def test_the_passages_of_a_source(memory: Memory) -> None:
    memory.append([piece_of("a0 a1 ", complete=False, words_per_passage=1)])
    memory.append([piece_of("b0", source="b"), piece_of("", source="empty")])
    memory.append([piece_of("a2", start=6)])
    assert memory.passages_of("a") == [0, 1, 3]
    assert memory.passages_of("b") == [2]
    assert memory.passages_of("empty") == memory.passages_of("nobody") == []


def test_a_snapshot_stays_as_it_was(memory: Memory) -> None:
    memory.append([piece_of("one two")])
    snapshot = memory.snapshot
    memory.append([piece_of("three", source="b")])
    memory.forget("a")
    assert (snapshot.passages, list(snapshot.sources), snapshot.passage(0).text) == (1, ["a"], "one two")


def test_passages_that_do_not_exist(memory: Memory) -> None:
    memory.append([piece_of("one")])
    for number in (-1, 1):
        for look in (memory.passage, memory.ids, lambda n: memory.neighbours(n, 1, 1)):
            with pytest.raises(IndexError, match="the memory has 1"):
                look(number)


def test_blocks_number_their_passages_and_are_read_only(memory: Memory) -> None:
    memory.append([piece_of("", source="nothing")])
    assert list(memory.blocks()) == []
    for n in range(20):
        memory.append([piece_of("x y z " * (n + 1), source=str(n))])
    first = 0
    for block in memory.blocks():
        assert block.first == first
        assert block.ends[-1] == len(block.keys) == len(block.scales)
        assert not block.keys.flags.writeable
        first += len(block.ends)
    assert first == len(memory) == 210


def test_what_the_caller_does_to_its_arrays_later_is_not_seen(memory: Memory) -> None:
    piece = piece_of("one two three")
    memory.append([piece])
    before = contents_of(memory)
    piece.keys[:] = 0
    piece.ids[:] = 0
    assert contents_of(memory) == before


def test_nothing_to_append_is_no_change(memory: Memory) -> None:
    memory.append([])
    assert memory.generation == 0


# ---- what append refuses


def altered(**fields: object) -> EncodedText:
    return dataclasses.replace(piece_of("one two three four"), **fields)


GOOD = piece_of("one two three four")
BAD_PIECES = {
    "ids of another type": altered(ids=GOOD.ids.astype(np.int64)),
    "ids of another shape": altered(ids=GOOD.ids[None]),
    "negative ids": altered(ids=-GOOD.ids - 1),
    "keys of another head size": altered(keys=GOOD.keys[..., 1:]),
    "keys of fewer heads": altered(keys=GOOD.keys[:, :1], scales=GOOD.scales[:, :1]),
    "keys of another type": altered(keys=GOOD.keys.astype(np.int16)),
    "scales of another type": altered(scales=GOOD.scales.astype(np.float32)),
    "passages without characters": altered(passages=GOOD.passages[:, :2]),
    "passages that end early": altered(passages=GOOD.passages[:1]),
    "passages with a gap": altered(passages=GOOD.passages[[1]]),
    "passages that overlap": altered(passages=np.array([[0, 3, 0, 14], [2, 4, 14, 18]])),
    "a passage without tokens": altered(passages=np.array([[0, 0, 0, 0], [0, 4, 0, 18]])),
    "a passage backwards": altered(passages=np.array([[0, 4, 0, 18], [4, 3, 18, 18], [3, 4, 18, 18]])),
    "text without tokens": dataclasses.replace(piece_of(""), text="x"),
    "no passages": altered(passages=np.zeros((0, 4), np.int64)),
    "text that is not Unicode": dataclasses.replace(piece_of("abc"), text="a\udc80c"),
    "a name that is not Unicode": altered(source="\udc80"),
    "no name": altered(source=""),
    "meta that is not JSON": altered(meta={"x": object()}),
    "meta with NaN": altered(meta={"x": float("nan")}),
    "added at infinity": altered(added=float("inf")),
    "a beginning in the middle": altered(start=3),
}


@pytest.mark.parametrize("reason", BAD_PIECES)
def test_a_piece_that_contradicts_itself_is_refused_whole(memory: Memory, reason: str) -> None:
    memory.append([piece_of("here", source="before")])
    before, generation = contents_of(memory), memory.generation
    with pytest.raises(UsageError):
        memory.append([piece_of("good", source="good"), BAD_PIECES[reason]])
    assert contents_of(memory) == before
    assert memory.generation == generation


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_never_kept(memory: Memory, value: float) -> None:
    scales = GOOD.scales.copy()
    scales[2, 1] = value
    with pytest.raises(MemspanError, match="scales hold NaN or infinity") as caught:
        memory.append([piece_of("good", source="good"), altered(scales=scales)])
    assert caught.value.exit_code == 1
    assert len(memory) == 0
    assert not memory.sources


def test_a_source_goes_on_where_it_stands_or_not_at_all(memory: Memory) -> None:
    memory.append([piece_of("one two ", complete=False), piece_of("x", source="done")])
    for piece, reason in [
        (piece_of("x", start=0), "read up to character 8, but this text begins at 0"),
        (piece_of("x", start=9), "read up to character 8, but this text begins at 9"),
        (piece_of("x", start=8, kind="exchange"), "of kind 'document'"),
        (piece_of("x", source="done"), "read up to character 1, but this text begins at 0"),
    ]:
        with pytest.raises(UsageError, match=reason):
            memory.append([piece])
    memory.append([piece_of("three", start=8), piece_of(" more", source="done", start=1)])  # a text that has grown
    assert memory.sources["a"].characters == 13
    assert memory.sources["done"].characters == 6


# ---- save, load, fork, merge


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
    pieces = []
    for source, text, length, exchange in drawn:
        start = characters.get(source, 0)
        meta = {"n": len(pieces)} if exchange else {}
        pieces.append(piece_of(text, source, start, length, complete=False, added=float(len(pieces)), meta=meta))
        characters[source] = start + len(text)
    at_once, split = Memory(FINGERPRINT), Memory(FINGERPRINT)
    at_once.append(pieces)
    batch = []
    for piece, cut in zip(pieces, cuts, strict=False):
        batch.append(piece)
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
    assert found(loaded, words) == found(at_once, words) == found(split, words)
    assert loaded.generation == split.generation


def test_save_binds(quick_path: Path) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([piece_of("one")])
    assert memory.path is None
    memory.save(quick_path / "deep" / "er" / "m")
    assert memory.path == quick_path / "deep" / "er" / "m"
    memory.append([piece_of("two", source="b")])
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
    memory.append([piece_of("one")])
    (quick_path / "m").rename(quick_path / "away")
    with pytest.raises(UsageError, match="there is no memory at"):
        memory.append([piece_of("two", source="b")])
    assert not (quick_path / "m").exists()
    (quick_path / "away").rename(quick_path / "m")
    memory.append([piece_of("two", source="b")])


def test_open_makes_and_then_loads(quick_path: Path) -> None:
    first = Memory.open(quick_path / "m", FINGERPRINT)
    first.append([piece_of("one")])
    assert Folder.is_memory(quick_path / "m")
    assert contents_of(Memory.open(quick_path / "m", FINGERPRINT)) == contents_of(first)


def test_only_the_owner_may_look(quick_path: Path) -> None:
    for mask in (0o000, 0o277, 0o777):
        before = os.umask(mask)
        try:
            path = quick_path / f"m{mask}"
            memory = Memory.open(path, FINGERPRINT)
            memory.append([piece_of("one")])
            found(memory, ["one"])
            memory.fork(quick_path / f"f{mask}")
        finally:
            os.umask(before)
        for root in (path, quick_path / f"f{mask}"):
            seen = [root, *root.rglob("*")]
            assert {stat.S_IMODE(entry.stat().st_mode) for entry in seen if entry.is_dir()} == {0o700}
            assert {stat.S_IMODE(entry.stat().st_mode) for entry in seen if entry.is_file()} == {0o600}
            assert {"manifest.json", "lock", "search.sqlite", "search.json"} <= {entry.name for entry in seen}


def test_forks_go_their_own_ways(memory: Memory, quick_path: Path) -> None:
    memory.append([piece_of("shared words here", source="both")])
    before = contents_of(memory)
    found(memory, ["shared"])
    forks = [memory.fork(), memory.fork(quick_path / "fork")]
    for number, fork in enumerate(forks):
        assert contents_of(fork) == before
        fork.append([piece_of(f"mine {number}", source="mine")])
        assert "mine" not in memory.sources
        assert contents_of(memory) == before
    memory.append([piece_of("theirs", source="theirs")])
    memory.forget("both")
    for number, fork in enumerate(forks):
        assert list(fork.sources) == ["both", "mine"]
        assert fork.passage(0).text == "shared words here"
        assert [score > 0 for score in found(fork, ["shared"])] == [True, False]
        assert [score > 0 for score in found(fork, [str(number)])] == [False, True]
        assert [score > 0 for score in found(fork, [str(1 - number)])] == [False, False]
    assert found(memory, ["mine", "shared"]) == [0.0]
    assert contents_of(load_memory(quick_path / "fork")) == contents_of(forks[1])
    forks[1].forget("mine")
    assert contents_of(forks[1]) == before


def test_a_fork_on_the_same_disk_copies_nothing(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([piece_of("one two")])
    found(memory, ["one"])
    memory.fork(quick_path / "fork")
    (part,) = (quick_path / "fork" / "parts").iterdir()
    assert part.stat().st_nlink == 2
    assert (quick_path / "fork" / "search.sqlite").stat().st_nlink == 2


def test_a_fork_to_a_file_system_without_links(quick_path: Path, tmp_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([piece_of("one two")])
    fork = memory.fork(tmp_path / "fork")  # another disk than RAM, on most systems
    assert contents_of(fork) == contents_of(load_memory(tmp_path / "fork")) == contents_of(memory)


def test_merge(memory: Memory) -> None:
    memory.append([piece_of("same", source="same", added=1.0), piece_of("my text", source="clash", added=1.0)])
    other = Memory(FINGERPRINT)
    other.append([piece_of("their text of it", source="clash", added=2.0, words_per_passage=1)])
    other.append([piece_of("new ", source="new", complete=False, added=3.0)])
    other.append([piece_of("same", source="same", added=9.0), piece_of("", source="none", added=3.0)])
    other.append([piece_of("er", source="new", start=4, complete=False, added=4.0)])
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
    memory.append([piece_of(" words", source="new", start=6, added=5.0)])
    assert memory.merge(other) == ["new (2)"]
    assert memory.merge(memory) == []


def test_merge_gives_every_source_a_name_of_its_own(memory: Memory) -> None:
    memory.append([piece_of("ours", source="x")])
    other = Memory(FINGERPRINT)
    other.append([piece_of("theirs", source="x"), piece_of("second", source="x (2)"), piece_of("ours", source="y")])
    assert memory.merge(other) == ["x (2)", "x (2) (2)", "y"]
    assert [memory.passage(n).text for n in range(4)] == ["ours", "theirs", "second", "ours"]
    assert memory.merge(other) == []


def test_inspect_and_bytes(memory: Memory) -> None:
    memory.append([piece_of("one two three four", added=1.0)])
    memory.append([piece_of("five", source="b", added=2.0)])
    seen = memory.inspect()
    assert seen["path"] == (None if memory.path is None else str(memory.path))
    assert {name: seen[name] for name in ("format", "generation", "passages", "tokens", "characters", "parts")} == {
        "format": FORMAT_VERSION,
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
    found(memory, ["one"])
    assert memory.nbytes > before  # the index counts
    before = memory.nbytes
    memory.append([piece_of("word " * 1000, source="c")])
    assert memory.nbytes > before + 1000 * (4 + 4 + 2 * 4 + 2 * 2 + 5)


def test_large_parts_are_mapped_and_small_ones_do_not_hold_a_descriptor(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    forks = [memory.fork(quick_path / str(n)) for n in range(20)]
    for fork in forks:
        fork.append([piece_of("small")])
    if descriptors is not None:
        assert len(os.listdir("/proc/self/fd")) == descriptors
    memory.append([piece_of("word " * 50_000)])
    (block,) = memory.blocks()
    base = block.keys
    while isinstance(base, np.ndarray):
        base = base.base
    assert type(base.obj).__name__ == "mmap"


# ---- forget


def bytes_of(path: Path) -> bytes:
    """Every byte of every file, and every name."""
    return b"".join(
        str(entry).encode() + (entry.read_bytes() if entry.is_file() else b"") for entry in sorted(path.rglob("*"))
    )


def test_forgotten_is_gone_from_every_file_and_index(memory: Memory, quick_path: Path) -> None:
    canary, number = "xylophonecanary", 0x7ABCDEF1
    traces = [canary.encode(), number.to_bytes(4, "little")]  # as text and in the index, in the arrays
    keep = [piece_of(f"{when} it all", source=f"keep {when}", added=1.0) for when in ("before", "amid", "after")]
    secret = piece_of(f"say {canary} twice {canary}", source="secret/1", meta={"by": canary}, added=1.0)
    secret = dataclasses.replace(secret, ids=np.full_like(secret.ids, number))
    memory.append(keep[:1])
    memory.append([secret, keep[1], piece_of(canary, source="secret/2", added=1.0)])
    memory.append(keep[2:])
    assert (memory.word_scores(canary) > 0).sum() == 3

    def everything() -> bytes:
        """The files, if any, and the shards and the index in RAM, which a fork shares and stores."""
        files = b"" if memory.path is None else bytes_of(memory.path)
        fork = memory.fork()
        fork.save(quick_path / os.urandom(8).hex())
        found(fork, [canary])
        return files + bytes_of(fork.path)

    assert all(trace in everything() for trace in traces)
    assert memory.forget("secret/*") == ["secret/1", "secret/2"]
    if memory.path is not None:  # also before anybody searches again
        assert not any(trace in bytes_of(memory.path) for trace in traces)
    clean = Memory(FINGERPRINT)
    clean.append(keep)
    assert contents_of(memory) == contents_of(clean)
    assert memory.word_scores(canary).tolist() == [0.0, 0.0, 0.0]
    assert found(memory, ["before", "all"]) == found(clean, ["before", "all"])
    assert not any(trace in everything() for trace in traces)
    if memory.path is not None:
        assert contents_of(load_memory(memory.path)) == contents_of(clean)
    memory.append([piece_of("again", source="secret/1")])
    assert memory.sources["secret/1"].characters == 5


def test_forget_an_incomplete_source_then_read_it_again(memory: Memory) -> None:
    memory.append([piece_of("one two ", complete=False)])
    memory.append([piece_of("three ", start=8, complete=False)])
    memory.forget("a")
    memory.append([piece_of("four", complete=False)])
    memory.append([piece_of(" five", start=4)])
    assert memory.sources["a"].characters == 9
    whole = Memory(FINGERPRINT)
    whole.append([piece_of("four five")])
    assert memory.sources["a"].sha256 == whole.sources["a"].sha256


def test_forget_takes_names_with_brackets_literally_too(memory: Memory) -> None:
    memory.append([piece_of("x", source=name) for name in ("notes [1].txt", "notes 1.txt", "other", "Other")])
    assert memory.forget("notes [1].txt") == ["notes [1].txt", "notes 1.txt"]
    assert memory.forget("other") == ["other"]
    assert memory.forget("?ther") == ["Other"]
    assert len(memory) == 0
    assert memory.tokens == 0


def test_forget_what_is_not_there(memory: Memory) -> None:
    with pytest.raises(UsageError, match="the memory is empty"):
        memory.forget("x")
    memory.append([piece_of("x", source="report.pdf")])
    with pytest.raises(UsageError, match=r"did you mean 'report\.pdf'"):
        memory.forget("raport.pdf")
    with pytest.raises(UsageError, match=r"there are 1, the first is 'report\.pdf'"):
        memory.forget("zzz*")
    assert len(memory) == 1


# ---- other models, other versions


OTHERS = {
    "model": "c" * 64,
    "tokenizer": "c" * 64,
    "dtype": "bfloat16",
    "heads": ((1, 0), (3, 1)),
    "head_size": 8,
}


@pytest.mark.parametrize("field", OTHERS)
def test_a_memory_of_another_model_is_refused(quick_path: Path, field: str) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([piece_of("one")])
    before = contents_of(memory)
    foreign = dataclasses.replace(FINGERPRINT, **{field: OTHERS[field]})
    for use in (
        lambda: load_memory(quick_path / "m", expect=foreign),
        lambda: Memory.open(quick_path / "m", foreign),
        lambda: memory.check_fingerprint(foreign),
        lambda: memory.merge(Memory(foreign)),
        lambda: Memory(foreign).merge(memory),
    ):
        with pytest.raises(ForeignMemory, match=field) as caught:
            use()
        assert str(OTHERS[field]) in str(caught.value)
        assert str(getattr(FINGERPRINT, field)) in str(caught.value)
        assert caught.value.exit_code == 2
    assert contents_of(load_memory(quick_path / "m", expect=FINGERPRINT)) == before


def test_another_memory_in_the_same_place_is_not_taken_for_this_one(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([piece_of("one")])
    (quick_path / "m").rename(quick_path / "away")
    other = Memory.open(quick_path / "m", dataclasses.replace(FINGERPRINT, model="c" * 64))
    for use in (memory.refresh, lambda: memory.append([piece_of("two", source="b")])):
        with pytest.raises(ForeignMemory, match="model"):
            use()
    assert len(other) == len(load_memory(quick_path / "m")) == 0
    assert memory.passage(0).text == "one"


def test_every_field_but_the_name_is_compared(quick_path: Path) -> None:
    assert {field.name for field in dataclasses.fields(Fingerprint)} == {*OTHERS, "name"}
    Memory.open(quick_path / "m", FINGERPRINT)
    renamed = dataclasses.replace(FINGERPRINT, name="other")
    assert load_memory(quick_path / "m", expect=renamed).fingerprint.name == "tiny"


def test_another_format_version_is_refused(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory.open(quick_path / "m", FINGERPRINT)
    path = quick_path / "m" / "manifest.json"
    manifest = parse(path.read_bytes(), path)
    with monkeypatch.context() as patch:
        patch.setattr("memspan.memory.store.manifest.FORMAT_VERSION", 99)
        path.write_bytes(render(manifest))
    with pytest.raises(ForeignMemory, match=f"format version 99, but this memspan reads version {FORMAT_VERSION}"):
        load_memory(quick_path / "m")
    path.write_bytes(path.read_bytes().replace(b"99", b"98"))
    with pytest.raises(DamagedMemory):
        load_memory(quick_path / "m")


def test_it_answers_at_once_also_with_thousands_of_sources(quick_path: Path) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([piece_of("one two three", source=str(n)) for n in range(5000)])
    memory.save(quick_path / "m")
    start = time.perf_counter()
    memory.append([piece_of("x", source="x")])
    memory.forget("1*")
    memory.append([piece_of("y", source="y")])
    assert memory.neighbours(0, 1, 1) == [0]
    assert time.perf_counter() - start < 5
