"""Bookkeeping: how many source records an operation touches does not grow with the memory, but for its logarithm."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from memspan.memory import Memory, SourceRecord
from memspan.memory.memory import HASHERS
from memspan.memory.store import shard as shards
from tests.memory.make import FINGERPRINT, encoded


class Counted(Mapping[str, SourceRecord]):
    """The sources of a shard, which count each record that is looked up or listed."""

    touched = 0

    def __init__(self, records: Mapping[str, SourceRecord]) -> None:
        self.records = records

    def __getitem__(self, name: str) -> SourceRecord:
        Counted.touched += 1
        return self.records[name]

    def __contains__(self, name: object) -> bool:
        Counted.touched += 1
        return name in self.records

    def __iter__(self) -> Iterator[str]:
        for name in self.records:
            Counted.touched += 1
            yield name

    def __len__(self) -> int:
        return len(self.records)


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of source records that were looked up, listed or parsed since the last call."""
    decode, loads = shards.decode, json.loads

    def counting(*arguments: Any) -> Any:
        shard = decode(*arguments)
        return replace(shard, sources=Counted(shard.sources))

    def parsing(text: Any, **options: Any) -> Any:
        value = loads(text, **options)
        Counted.touched += len(value)
        return value

    monkeypatch.setattr(shards, "decode", counting)
    monkeypatch.setattr(json, "loads", parsing)

    def taken() -> int:
        count, Counted.touched = Counted.touched, 0
        return count

    taken()
    return taken


def add(memory: Memory, sources: int) -> Memory:
    for number in range(sources):
        memory.append([encoded("one two three", source=str(number))])
    return memory


def test_what_appends_touch_grows_with_their_number_and_not_with_its_square(touched: Callable[[], int]) -> None:
    memory = add(Memory(FINGERPRINT), 32)
    few = touched()
    add(Memory(FINGERPRINT), 256)
    assert touched() < 16 * few  # 8 times as many appends; their square would be 64
    assert not any("rows" in shard.__dict__ for shard in memory.snapshot.shards)  # no text was looked through


def test_what_a_look_up_and_a_count_touch(touched: Callable[[], int]) -> None:
    memory = add(Memory(FINGERPRINT), 151)
    parts = len(memory.snapshot.shards)
    assert parts > 3

    touched()
    for name in ("0", "127", "150", "no such source"):
        assert (name in memory.sources) == (memory.sources.get(name) is not None) == (name != "no such source")
    assert touched() <= 4 * 3 * parts

    assert memory.passages_of("150") == [150]
    assert [shard for shard in memory.snapshot.shards if "rows" in shard.__dict__] == list(memory.snapshot.shards[-1:])

    assert len(memory.sources) == 151
    touched()
    assert len(memory.sources) == 151
    memory.append([encoded("one", source="0", start=13), encoded("one", source="new")])
    assert len(memory.sources) == 152
    assert touched() < 150
    memory.forget("1*")
    assert len(memory.sources) == len(list(memory.sources)) == 152 - sum(str(n).startswith("1") for n in range(151))


def test_sources_are_listed_in_order_of_first_appearance_with_their_latest_record() -> None:
    memory = add(Memory(FINGERPRINT), 12)
    memory.append([encoded("four", source="3", start=13, meta={"n": 1})])
    assert list(memory.sources) == [str(number) for number in range(12)]
    assert memory.sources["3"].characters == 17
    assert [record.meta for record in memory.sources.values() if record.name == "3"] == [{"n": 1}]
    with pytest.raises(TypeError):
        memory.sources["3"] = memory.sources["4"]  # type: ignore[index]


def test_many_unfinished_sources_are_continued() -> None:
    memory = Memory(FINGERPRINT)
    names = [str(number) for number in range(HASHERS + 2)]
    for text in ("one ", "two "):
        for name in names:
            start = 0 if text == "one " else 4
            memory.append([encoded(text, source=name, start=start, complete=False)])
    expected = hashlib.sha256(b"one two ").hexdigest()
    assert {record.sha256 for record in memory.sources.values()} == {expected}


def test_a_memory_shows_how_many_sources_it_holds() -> None:
    assert "in RAM: 1 source, 3 tokens" in repr(add(Memory(FINGERPRINT), 1))
    assert "in RAM: 2 sources, 6 tokens" in repr(add(Memory(FINGERPRINT), 2))
