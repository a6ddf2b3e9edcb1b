"""Forgotten sources are gone from every file and index."""

import contextlib
import dataclasses
import gc
import mmap
import os
import shutil
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memspan.errors import UsageError
from memspan.memory import Memory, load_memory
from memspan.memory.index.bm25 import WordIndex
from tests.memory.faults import Crash, crashing
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores


def bytes_of(path: Path) -> bytes:
    """Every byte of every file, and every name."""
    return b"".join(
        str(entry).encode() + (entry.read_bytes() if entry.is_file() else b"") for entry in sorted(path.rglob("*"))
    )


def test_forgotten_is_gone_from_every_file_and_index(memory: Memory, quick_path: Path) -> None:
    canary, number = "xylophonecanary", 0x7ABCDEF1
    traces = [canary.encode(), number.to_bytes(4, "little")]  # as text and in the index, in the arrays
    keep = [encoded(f"{when} it all", source=f"keep {when}", added=1.0) for when in ("before", "amid", "after")]
    secret = encoded(f"say {canary} twice {canary}", source="secret/1", meta={"by": canary}, added=1.0)
    secret = dataclasses.replace(secret, ids=np.full_like(secret.ids, number))
    memory.append(keep[:1])
    memory.append([secret, keep[1], encoded(canary, source="secret/2", added=1.0)])
    memory.append(keep[2:])
    assert (memory.word_scores(canary) > 0).sum() == 3

    def everything() -> bytes:
        """The files, if any, and the shards and the index in RAM, which a fork shares and stores."""
        files = b"" if memory.path is None else bytes_of(memory.path)
        fork = memory.fork()
        fork.save(quick_path / os.urandom(8).hex())
        word_scores(fork, [canary])
        return files + bytes_of(fork.path)

    assert all(trace in everything() for trace in traces)
    assert memory.forget("secret/*") == ["secret/1", "secret/2"]
    if memory.path is not None:  # also before anybody searches again
        assert not any(trace in bytes_of(memory.path) for trace in traces)
    clean = Memory(FINGERPRINT)
    clean.append(keep)
    assert contents_of(memory) == contents_of(clean)
    assert memory.word_scores(canary).tolist() == [0.0, 0.0, 0.0]
    assert word_scores(memory, ["before", "all"]) == word_scores(clean, ["before", "all"])
    assert not any(trace in everything() for trace in traces)
    if memory.path is not None:
        assert contents_of(load_memory(memory.path)) == contents_of(clean)
    memory.append([encoded("again", source="secret/1")])
    assert memory.sources["secret/1"].characters == 5


def test_a_stored_index_is_gone_when_forget_returns(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "memory", FINGERPRINT)
    memory.append([encoded("say xylophonecanary", source="secret"), encoded("keep it", source="keep")])
    word_scores(memory, ["xylophonecanary"])
    indexes = [path for path in (quick_path / "memory").rglob("*.sqlite") if b"xylophonecanar" in path.read_bytes()]
    assert indexes
    memory.forget("secret")
    assert not any(path.exists() for path in indexes)


def test_forget_an_incomplete_source_then_read_it_again(memory: Memory) -> None:
    memory.append([encoded("one two ", complete=False)])
    memory.append([encoded("three ", start=8, complete=False)])
    memory.forget("a")
    memory.append([encoded("four", complete=False)])
    memory.append([encoded(" five", start=4)])
    assert memory.sources["a"].characters == 9
    whole = Memory(FINGERPRINT)
    whole.append([encoded("four five")])
    assert memory.sources["a"].sha256 == whole.sources["a"].sha256


def test_forget_takes_names_with_brackets_literally_too(memory: Memory) -> None:
    memory.append([encoded("x", source=name) for name in ("notes [1].txt", "notes 1.txt", "other", "Other")])
    assert memory.forget("notes [1].txt") == ["notes [1].txt", "notes 1.txt"]
    assert memory.forget("other") == ["other"]
    assert memory.forget("?ther") == ["Other"]
    assert len(memory) == 0
    assert memory.tokens == 0


def test_forget_what_is_not_there(memory: Memory) -> None:
    with pytest.raises(UsageError, match="the memory is empty"):
        memory.forget("x")
    memory.append([encoded("x", source="report.pdf")])
    with pytest.raises(UsageError, match=r"did you mean 'report\.pdf'"):
        memory.forget("raport.pdf")
    with pytest.raises(UsageError, match=r"there are 1, the first is 'report\.pdf'"):
        memory.forget("zzz*")
    assert len(memory) == 1


def test_a_crash_at_every_call_and_the_same_again_leave_nothing(quick_path: Path) -> None:
    """Bytes of the text, of the word index, of the token ids and of the name are in no file; a fork keeps them."""
    canary, number = "xylophonecanary", 0x7ABCDEF1
    traces = [canary.encode(), b"Xylophone/canary", number.to_bytes(4, "little")]
    memory = Memory.open(quick_path / "prepared", FINGERPRINT)
    memory.append([encoded("keep this", source="keep", added=1.0)])
    secret = encoded(f"say {canary} twice", source="Xylophone/canary", added=1.0)
    memory.append([dataclasses.replace(secret, ids=np.full_like(secret.ids, number))])
    word_scores(memory, [canary])
    kept = memory.fork(quick_path / "fork").path
    assert kept is not None
    left = 0

    def attempt(crash_at: int) -> bool:
        """Forget, crash, forget again; whether there was a crash."""
        nonlocal left
        path = quick_path / "m"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(quick_path / "prepared", path)
        trial = load_memory(path)
        try:
            with crashing(crash_at):
                trial.forget("Xylophone/*")
            return False
        except Crash:
            again = load_memory(path)
            left += "Xylophone/canary" not in again.sources and canary.encode() in bytes_of(path)
            with contextlib.suppress(UsageError):  # nothing matches any more
                again.forget("Xylophone/*")
        assert not any(trace in bytes_of(path) for trace in traces), crash_at
        assert list(load_memory(path).sources) == ["keep"]
        return True

    crashes = 0
    while attempt(crashes):
        crashes += 1
    assert crashes > 20
    assert left > 5  # crashes that would have kept the text
    assert all(trace in bytes_of(kept) for trace in traces)


@pytest.mark.parametrize("change", ["open", "merge", "clean"])
def test_what_a_crash_left_goes_with_the_next_writer(quick_path: Path, change: str) -> None:
    path = quick_path / "m"
    memory = Memory.open(path, FINGERPRINT)
    memory.append([encoded("xylophonecanary", source="secret")])
    word_scores(memory, ["xylophonecanary"])
    index = {name: (path / name).read_bytes() for name in ("search.sqlite", "search.json")}
    shard = next((path / "parts").iterdir())
    content = shard.read_bytes()
    memory.forget("secret")
    shard.write_bytes(content)
    for name, stored in index.items():
        (path / name).write_bytes(stored)
    assert b"xylophonecanary" in bytes_of(path)
    if change == "open":
        Memory.open(path, FINGERPRINT)
    elif change == "merge":
        memory.merge(Memory(FINGERPRINT))
    else:
        memory.clean()
    assert b"xylophonecanar" not in bytes_of(path)


@pytest.mark.parametrize("words", [1, 20_000])  # read, and mapped
def test_no_handle_keeps_forgotten_bytes_after_a_refresh(quick_path: Path, words: int) -> None:
    of_others = {id(value) for value in gc.get_objects() if type(value) is WordIndex}
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("secret " * words, source="secret", complete=False, words_per_passage=1000)])
    handles = [memory, load_memory(quick_path / "m"), Memory.open(quick_path / "m", FINGERPRINT)]
    for handle in handles:
        word_scores(handle, ["secret"])
        handle.sources["secret"], handle.inspect(), handle.neighbours(0, 1, 1)
    handles[1].append([encoded("more", source="secret", start=7 * words, complete=False)])  # hashes the text
    handles[2].refresh()
    shards = [shard for handle in handles for shard in handle.snapshot.shards]
    assert all(isinstance(shard.raw, mmap.mmap) == (words > 1) for shard in shards[:1])
    indexes = [value for value in gc.get_objects() if type(value) is WordIndex and id(value) not in of_others]
    mapped = [shard.raw for shard in shards if isinstance(shard.raw, mmap.mmap)]
    kept = [weakref.ref(value) for value in (*shards, *mapped, *indexes)]
    assert len(indexes) >= 3
    del shards, mapped, indexes
    handles[0].refresh()
    handles[0].forget("secret")
    for handle in handles[1:]:
        assert handle.refresh()
    assert [ref() for ref in kept if ref() is not None] == []
    assert not any(handle._hashers for handle in handles)


def test_shared_files_are_those_that_a_fork_has(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("word " * 20_000, source="a")])  # too large to be joined with the others
    memory.append([encoded("word", source="b")])
    assert memory.shared_files(["a", "b"]) == 0
    memory.fork(quick_path / "fork")
    assert [memory.shared_files(names) for names in (["a"], ["b"], ["a", "b"], [], ["x"])] == [1, 1, 2, 0, 0]
    assert memory.fork().shared_files(["a"]) == 0
    shutil.rmtree(quick_path / "fork")
    assert memory.shared_files(["a", "b"]) == 0


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_time_is_no_text(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` must be a datetime or unix seconds, got str"):
        Memory(FINGERPRINT).matching(**{name: "30d"})  # type: ignore[arg-type]


DAY = 86_400.0


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ({"pattern": "a*"}, ["a1", "a2"]),
        ({"before": 2 * DAY}, ["a1"]),
        ({"before": datetime.fromtimestamp(2 * DAY, UTC)}, ["a1"]),
        ({"after": 2 * DAY}, ["a2", "b"]),
        ({"after": datetime.fromtimestamp(2 * DAY, UTC), "before": 3 * DAY}, ["a2"]),
        ({"containing": "STRASSE one tw"}, ["a2"]),  # across passages and commits
        ({"containing": "e"}, ["a1", "a2", "b"]),
        ({"containing": "one.two"}, []),
        ({"pattern": "a*", "after": 1.5 * DAY, "containing": "two"}, ["a2"]),
        ({"pattern": "b", "containing": "two"}, []),
        ({"pattern": "b", "before": DAY}, []),
    ],
)
def test_sources_by_name_time_and_content(conditions: dict[str, Any], names: list[str], quick_path: Path) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([encoded("one apple", source="a1", added=DAY, words_per_passage=1)])
    memory.append([encoded("die Stra", source="a2", added=2 * DAY, words_per_passage=1, complete=False)])
    memory.append([encoded("ße one ", source="a2", start=8, added=9 * DAY, words_per_passage=1, complete=False)])
    memory.append([encoded("bee", source="b", added=3 * DAY), encoded("two", source="a2", start=15, added=9 * DAY)])
    if not names:
        for find in (memory.matching, memory.forget):
            with pytest.raises(UsageError, match="no source meets all of the conditions; 3 were looked at"):
                find(**conditions)
        return
    assert memory.matching(**conditions) == names
    assert memory.generation == 4
    assert memory.forget(**conditions) == names
    assert set(memory.sources) == {"a1", "a2", "b"} - set(names)


def test_forgetting_needs_a_condition(memory: Memory) -> None:
    memory.append([encoded("one")])
    for find in (memory.matching, memory.forget):
        with pytest.raises(UsageError, match="at least one condition"):
            find()
        with pytest.raises(UsageError, match="must not be empty"):
            find(containing="")
    assert len(memory) == 1
