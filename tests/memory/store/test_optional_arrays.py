"""Vectors, times and marks of passages: stored with the passages that have them, through every change of a memory."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspan.errors import UsageError
from memspan.memory import EncodedText, EncoderFingerprint, Fingerprint, Memory, load_memory
from memspan.memory.store.kept import kept_texts
from memspan.memory.store.passage_marks import LONGEST_VALUE, MOST_MARKS, PassageMarks
from tests.memory.make import FINGERPRINT, encoded

ENCODER = EncoderFingerprint("e" * 64, "small", 3)
WITH_ENCODER = replace(FINGERPRINT, encoder=ENCODER)
MARKS = ({"page": 1, "heading": "Öne"}, {"page": 2, "heading": "Öne"}, {"page": 2, "position": 0.5})
TIMES = (0.0, np.nan, -1e9)


def full(source: str, passages: int = 3, text: str = "a b c ", **fields: Any) -> EncodedText:
    """A text of which every passage has a vector, the first a time, and each marks of its own."""
    vectors = np.arange(1, 3 * passages + 1, dtype=np.int8).reshape(passages, 3)
    optional = {
        "vectors": vectors,
        "happened": np.resize(np.array(TIMES), passages),
        "passage_marks": [MARKS[number % 3] for number in range(passages)],
    }
    return encoded((text * passages).rstrip(), source=source, added=1.0, **{**optional, **fields})


def optional_of(memory: Memory) -> dict[str, list[Any]]:
    """Times, marks and vectors of all passages; zeros where a passage has no vector."""
    passages = [memory.passage(number) for number in range(len(memory))]
    vectors = [
        np.zeros((len(block.ends), 3), np.int8) if block.vectors is None else block.vectors for block in memory.blocks()
    ]
    assert [None if np.isnan(time) else time for time in memory.snapshot.happened] == [
        passage.happened for passage in passages
    ]
    assert [dict(marks) for marks in memory.snapshot.marks()] == [passage.marks for passage in passages]
    return {
        "happened": [passage.happened for passage in passages],
        "marks": [passage.marks for passage in passages],
        "vectors": np.concatenate(vectors).tolist(),
    }


def test_they_come_back_with_their_passages(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "m", WITH_ENCODER)
    memory.append([full("a"), encoded("one two", source="b")])
    memory.append([encoded("three", source="c")])
    expected = {
        "happened": [0.0, None, -1e9, None, None],
        "marks": [*map(dict, MARKS), {}, {}],
        "vectors": [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0], [0, 0, 0]],
    }
    assert optional_of(memory) == expected
    opened = load_memory(tmp_path / "m", expect=FINGERPRINT)
    assert optional_of(opened) == expected
    assert opened.fingerprint.encoder == ENCODER  # also where another model's encoder, or none, is expected
    assert optional_of(opened.fork()) == optional_of(opened.fork(tmp_path / "fork")) == expected


def test_shards_with_and_without_them_are_joined_and_parts_forgotten(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "m", WITH_ENCODER)
    expected: dict[str, list[Any]] = {"happened": [], "marks": [], "vectors": []}
    for turn in range(20):
        is_full = turn % 3 > 0
        memory.append([full(f"s{turn}", 2) if is_full else encoded("a b", source=f"s{turn}", added=1.0)])
        if turn % 5 > 0:
            expected["happened"] += [0.0, None] if is_full else [None]
            expected["marks"] += [dict(MARKS[0]), dict(MARKS[1])] if is_full else [{}]
            expected["vectors"] += [[1, 2, 3], [4, 5, 6]] if is_full else [[0, 0, 0]]
    assert len(memory.snapshot.shards) < 20
    for turn in range(0, 20, 5):
        memory.forget(f"s{turn}")
    assert optional_of(memory) == optional_of(load_memory(tmp_path / "m")) == expected


@pytest.mark.parametrize("encoder", [None, replace(ENCODER, identity="f" * 64), replace(ENCODER, size=4)])
def test_vectors_of_another_encoder_are_left_out_of_a_merge(encoder: EncoderFingerprint | None) -> None:
    memory, other = Memory(replace(FINGERPRINT, encoder=encoder)), Memory(WITH_ENCODER)
    other.append([full("a")])
    memory.merge(other)
    assert all(block.vectors is None for block in memory.blocks())
    assert optional_of(memory)["marks"] == list(map(dict, MARKS))
    same = Memory(WITH_ENCODER)
    same.merge(other)
    assert optional_of(same) == optional_of(other)


def test_a_folder_is_of_the_oldest_version_that_holds_it(tmp_path: Path) -> None:
    def version(fingerprint: Fingerprint, text: EncodedText) -> Any:
        memory = Memory.open(tmp_path / str(len(list(tmp_path.iterdir()))), fingerprint)
        memory.append([text])
        assert memory.path is not None
        assert memory.inspect()["format"] == json.loads((memory.path / "manifest.json").read_bytes())["format"]
        return memory.inspect()["format"]

    nothing = {"vectors": None, "happened": None, "passage_marks": ()}
    assert version(FINGERPRINT, full("a", **nothing)) == 1
    empty = {"happened": np.full(3, np.nan), "passage_marks": [{}, {}, {}]}
    assert version(FINGERPRINT, full("a", **{**nothing, **empty})) == 1
    assert version(WITH_ENCODER, full("a", **nothing)) == 2
    assert version(FINGERPRINT, full("a", **{**nothing, "passage_marks": MARKS})) == 2
    assert version(FINGERPRINT, full("a", **{**nothing, "happened": np.array(TIMES)})) == 2


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"vectors": np.ones((2, 3), np.int8)}, r"vectors must be int8 \(3, 3\)"),
        ({"vectors": np.ones((3, 4), np.int8)}, r"vectors must be int8 \(3, 3\)"),
        ({"vectors": np.ones((3, 3), np.float32)}, "vectors must be int8"),
        ({"happened": np.ones(2)}, r"happened must be float64 \(3,\)"),
        ({"happened": np.array([0.0, 1e300, 0.0])}, "year 1 to 9999"),
        ({"happened": np.array([0.0, -np.inf, 0.0])}, "year 1 to 9999"),
        ({"passage_marks": MARKS[:2]}, "one per passage"),
        ({"passage_marks": [{"page": True}, {}, {}]}, "got bool"),
        ({"passage_marks": [{"page": None}, {}, {}]}, "got NoneType"),
        ({"passage_marks": [{"page": float("nan")}, {}, {}]}, "finite number"),
        ({"passage_marks": [{"page": 2**60}, {}, {}]}, "finite number"),
        ({"passage_marks": [{"": 1}, {}, {}]}, "1 to 64 characters"),
        ({"passage_marks": [{}, {"title": "x" * (LONGEST_VALUE + 1)}, {}]}, "at most 1024 characters"),
        ({"passage_marks": [{}, {"title": "\ud800"}, {}]}, "surrogates"),
        ({"passage_marks": [{}, {}, {f"k{n}": n for n in range(MOST_MARKS + 1)}]}, "at most 64 marks"),
    ],
)
def test_what_a_memory_cannot_hold_is_refused(fields: dict[str, Any], match: str) -> None:
    memory = Memory(WITH_ENCODER)
    with pytest.raises(UsageError, match=match):
        memory.append([full("a", **fields)])
    assert len(memory) == 0


def test_what_is_kept_of_a_source_keeps_them() -> None:
    memory, twin = Memory(WITH_ENCODER), Memory(WITH_ENCODER)
    memory.append([full("a"), encoded("one", source="b")])
    for source in ("a", "b"):
        twin.append(list(kept_texts(memory.snapshot, memory.passages_of(source), 0)))
    assert optional_of(twin) == optional_of(memory)


def test_vectors_need_an_encoder() -> None:
    with pytest.raises(UsageError, match="names no sentence encoder"):
        Memory(FINGERPRINT).append([full("a")])


marks = st.dictionaries(
    st.sampled_from(["page", "heading", "position"]), st.sampled_from([0, 1, 1.0, "", "é", "1"]), max_size=3
)


@given(st.lists(st.lists(marks, max_size=6), max_size=5))
def test_marks_are_kept_by_their_changes_and_joined(parts: list[list[dict[str, Any]]]) -> None:
    def typed(passages: Sequence[Any]) -> list[list[tuple[str, str]]]:
        return [sorted((kind, repr(value)) for kind, value in passage.items()) for passage in passages]

    every = [passage for part in parts for passage in part]
    joined = PassageMarks.joined((PassageMarks.of(part), len(part)) for part in parts)
    whole = PassageMarks.of(every)
    if joined is None or whole is None:
        assert joined is whole is None
        assert not any(every)
        return
    assert typed(list(joined)) == typed(every)
    assert json.loads(joined.encoded()) == json.loads(whole.encoded())
    parsed = PassageMarks.parsed(whole.encoded(), len(every))
    assert typed(list(parsed)) == typed(every)
    part = parsed.part(1, len(every))
    assert typed([{} for _ in every[1:]] if part is None else list(part)) == typed(every[1:])


def test_marks_that_stay_the_same_cost_nothing() -> None:
    repeated = PassageMarks.of([{"heading": "x" * 100, "page": 7}] * 10_000)
    assert repeated is not None
    assert len(repeated.encoded()) < 200
