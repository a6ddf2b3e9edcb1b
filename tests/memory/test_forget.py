"""Forgotten sources are gone from every file and index."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from memspan.errors import UsageError
from memspan.memory import Memory, load_memory
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
