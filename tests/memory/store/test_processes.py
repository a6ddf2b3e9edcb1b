"""Several processes, and leftovers of dead ones, in the folder of one memory."""

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memspan.errors import MemoryLocked
from memspan.memory import Memory, load_memory
from memspan.memory.store import files, folder
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores
from tests.memory.store.changes import (
    output_of,
    refusal,
    stray_files,
)


def test_leftovers_of_the_dead_are_taken_away_and_others_files_are_not(quick_path: Path) -> None:
    path = quick_path / "m"
    memory = Memory.open(path, FINGERPRINT)
    memory.append([encoded("one")])
    before = contents_of(memory)
    for n in range(25):
        (path / f".manifest.json.{n:08x}.tmp").write_bytes(b"half")
        (path / "parts" / f".{n:032x}.safetensors.{n:08x}.tmp").write_bytes(b"half")
        (path / "parts" / f"{n:032x}.safetensors").write_bytes(b"a part that no manifest names")
    (path / "notes.txt").write_text("mine")
    assert contents_of(load_memory(path)) == before
    assert len(stray_files(path)) == 76
    Memory.open(path, FINGERPRINT)
    assert stray_files(path) == ["notes.txt"]
    (path / ".search.json.0a1b2c3d.tmp").write_bytes(b"")
    memory.append([encoded("two", source="b")])
    assert stray_files(path) == ["notes.txt"]


def test_a_writer_at_work_keeps_its_files(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = quick_path / "m"
    memory = Memory.open(path, FINGERPRINT)
    memory.lock_seconds = 0.05
    with folder.Folder(path).lock():
        (path / ".manifest.json.0a1b2c3d.tmp").write_bytes(b"half")
        start = time.perf_counter()
        Memory.open(path, FINGERPRINT)
        for change in (lambda: memory.append([encoded("one")]), lambda: memory.forget("x")):
            with pytest.raises(MemoryLocked, match="written by another process") as caught:
                change()
            assert str(path) in str(caught.value)
        assert time.perf_counter() - start < 2
        assert (path / ".manifest.json.0a1b2c3d.tmp").exists()
    memory.append([encoded("one")])


def append_many(path: str, worker: int, count: int) -> None:
    memory = Memory.open(path, FINGERPRINT)
    for n in range(count):
        memory.append([encoded(f"worker {worker} says {n}", source=f"{worker}/{n}")])


def test_eight_processes_write_one_history(quick_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(str(quick_path / "m"), n, 25)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    memory = load_memory(quick_path / "m")
    assert memory.generation == 200
    order = [name.split("/") for name in memory.sources]
    assert sorted(order) == sorted([str(w), str(n)] for w in range(8) for n in range(25))
    for worker in range(8):
        assert [int(n) for w, n in order if w == str(worker)] == list(range(25))
    assert [memory.passage(2 * n).source for n in range(200)] == list(memory.sources)
    assert stray_files(quick_path / "m") == []


def test_two_that_make_the_same_memory_at_once_share_it(quick_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(str(quick_path / "m"), n, 1)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(load_memory(quick_path / "m").sources) == [f"{n}/0" for n in range(4)]


@pytest.mark.parametrize(
    "act", [lambda path: Memory(FINGERPRINT).save(path), lambda path: Memory.open(path, FINGERPRINT)]
)
def test_who_comes_second_overwrites_nothing(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], Memory | None]
) -> None:
    make = files.Directory.make

    def after_somebody_else(directory: files.Directory) -> None:
        monkeypatch.setattr(files.Directory, "make", make)
        Memory.open(directory.path, FINGERPRINT).append([encoded("first")])
        directory.make()

    monkeypatch.setattr(files.Directory, "make", after_somebody_else)
    refused = refusal(lambda: act(quick_path / "m"))
    assert refused is None or "is not empty" in str(refused)
    assert list(load_memory(quick_path / "m").sources) == ["a"]


def test_a_reader_beside_a_writer_always_sees_a_whole_state(quick_path: Path) -> None:
    path = quick_path / "m"
    Memory.open(path, FINGERPRINT)
    writer = multiprocessing.get_context("spawn").Process(target=append_many, args=(str(path), 0, 300))
    writer.start()
    longest, lengths = load_memory(path), []
    while writer.is_alive() or not lengths or lengths[-1] < 300:
        memory = load_memory(path)
        names = list(memory.sources)
        assert names == [f"0/{n}" for n in range(len(names))]
        assert [memory.passage(n).source for n in range(len(memory))] == [name for name in names for _ in range(2)]
        if names:
            assert word_scores(memory, [str(len(names) - 1)])[-1] > 0
        longest.refresh()
        assert list(longest.sources)[: len(names)] == names
        lengths.append(len(names))
    writer.join()
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 10


def test_two_objects_take_turns(quick_path: Path) -> None:
    one = Memory.open(quick_path / "m", FINGERPRINT)
    two = Memory.open(quick_path / "m", FINGERPRINT)
    one.append([encoded("a0 ", complete=False, added=1.0)])
    two.append([encoded("a1 ", start=3, complete=False, added=1.0)])
    one.append([encoded("a2", start=6, added=1.0)])
    whole = Memory(FINGERPRINT)
    whole.append([encoded("a0 a1 a2", added=1.0)])
    assert one.sources == whole.sources
    two.forget("a")
    one.append([encoded("b", source="b")])
    assert list(one.sources) == ["b"]
    assert two.refresh()
    assert contents_of(two) == contents_of(one)


def test_what_one_looks_at_stays_when_others_compact_and_forget(quick_path: Path) -> None:
    writer = Memory.open(quick_path / "m", FINGERPRINT)
    writer.append([encoded("word " * 30_000, source="big")])
    reader = load_memory(quick_path / "m")
    blocks = list(reader.blocks())
    before = contents_of(reader)
    writer.forget("big")
    for n in range(20):
        writer.append([encoded("x", source=str(n))])
    assert contents_of(reader) == before
    assert blocks[0].keys.tobytes() == before["keys"]


def test_memory_stays_small_while_large_parts_are_joined(tmp_path: Path) -> None:
    script = """
import resource, sys
import numpy as np
from memspan.memory import EncodedText, Fingerprint, Memory
heads = tuple((0, n) for n in range(16))
memory = Memory.open(sys.argv[1], Fingerprint("m", "t", "float32", heads, 64, "wide"))
tokens = 3000
base = None
for n in range(64):
    ids = np.arange(tokens, dtype=np.int32)
    keys = np.full((tokens, 16, 64), n, np.int8)
    memory.append([EncodedText(str(n), 0, "x" * tokens, ids, keys, np.ones((tokens, 16), np.float16),
                         np.array([[0, tokens, 0, tokens]]))])
    del keys
    if n == 8:
        base = int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])
    if n > 8:
        now = int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])
        assert now - base < 20_000, (n, base, now)
print(len(list(memory.blocks())), memory.nbytes)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not say how much memory a process uses")
    parts, size = map(int, output_of(sys.executable, "-c", script, str(tmp_path / "m")).split())
    assert parts < 16
    assert size > 190_000_000
