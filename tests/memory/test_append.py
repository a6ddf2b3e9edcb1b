"""Appending texts and reading them back, and the texts that are refused."""

import dataclasses

import numpy as np
import pytest

from memspan.errors import MemspanError, UsageError
from memspan.memory import EncodedText, Memory
from tests.memory.make import FINGERPRINT, contents_of, encoded


def test_what_was_appended_can_be_read(memory: Memory) -> None:
    text = encoded("the quick brown fox jumps over", added=5.0, meta={"turns": [1, {"role": "user"}]})
    memory.append([text])
    assert len(memory) == 2
    assert memory.tokens == 6
    assert memory.passage(1).text == "fox jumps over"
    assert (memory.passage(1).start, memory.passage(1).end, memory.passage(1).source) == (16, 30, "a")
    assert (memory.passage(1).tokens, memory.passage(1).added, memory.passage(1).number) == (3, 5.0, 1)
    assert memory.ids(1).tolist() == text.ids[3:].tolist()
    (block,) = memory.blocks()
    assert block.keys.tolist() == text.keys.tolist()
    assert block.scales.tolist() == text.scales.tolist()
    assert block.ends.tolist() == [3, 6]
    source = memory.sources["a"]
    assert (source.characters, source.complete, source.added, source.kind) == (30, True, 5.0, "document")
    assert source.meta == {"turns": [1, {"role": "user"}]}


def test_text_of_every_script_comes_back(memory: Memory) -> None:
    text = "ä ß 漢字 の 🙂🙃 \x00 e\u0301 \u202e end"
    memory.append([encoded(text, words_per_passage=1)])
    passages = [memory.passage(number) for number in range(len(memory))]
    assert "".join(passage.text for passage in passages) == text
    assert [text[passage.start : passage.end] for passage in passages] == [passage.text for passage in passages]


def test_a_source_can_be_read_in_pieces(memory: Memory) -> None:
    whole = Memory(FINGERPRINT)
    whole.append([encoded("one two three four five six seven", added=1.0, meta={"b": 2, "a": 1})])
    memory.append([encoded("one two three ", complete=False, added=1.0, meta={"a": 0, "b": 2})])
    assert not memory.sources["a"].complete
    memory.append([encoded("four five six ", start=14, complete=False, added=2.0)])
    memory.append([encoded("seven", start=28, added=3.0, meta={"a": 1})])
    assert memory.sources == whole.sources
    assert [memory.passage(n).text for n in range(3)] == ["one two three ", "four five six ", "seven"]
    assert [memory.passage(n).added for n in range(3)] == [1.0, 2.0, 3.0]


def test_a_source_can_be_continued_within_one_append_and_ended_without_text(memory: Memory) -> None:
    memory.append([encoded("one ", complete=False), encoded("two ", start=4, complete=False)])
    memory.append([encoded("", start=8)])
    assert memory.sources["a"].complete
    assert memory.sources["a"].characters == 8
    memory.append([encoded("", source="empty")])
    assert memory.sources["empty"].characters == 0
    assert len(memory) == 2


def test_neighbours_follow_the_text_of_their_source_only(memory: Memory) -> None:
    memory.append([encoded("a0 a1 a2 ", complete=False, words_per_passage=1)])
    memory.append([encoded("b0 b1 ", source="b", words_per_passage=1)])
    memory.append([encoded("a3 a4", start=9, words_per_passage=1)])
    assert memory.neighbours(2, 1, 1) == [1, 2, 5]
    assert memory.neighbours(0, 9, 9) == [0, 1, 2, 5, 6]
    assert memory.neighbours(3, 1, 1) == [3, 4]
    assert memory.neighbours(6, 0, 0) == [6]
    assert [memory.passage(n).text.strip() for n in memory.neighbours(0, 0, 9)] == ["a0", "a1", "a2", "a3", "a4"]


def test_the_passages_of_a_source(memory: Memory) -> None:
    memory.append([encoded("a0 a1 ", complete=False, words_per_passage=1)])
    memory.append([encoded("b0", source="b"), encoded("", source="empty")])
    memory.append([encoded("a2", start=6)])
    assert memory.passages_of("a") == [0, 1, 3]
    assert memory.passages_of("b") == [2]
    assert memory.passages_of("empty") == memory.passages_of("nobody") == []


def test_a_snapshot_stays_as_it_was(memory: Memory) -> None:
    memory.append([encoded("one two")])
    snapshot = memory.snapshot
    memory.append([encoded("three", source="b")])
    memory.forget("a")
    assert (snapshot.passages, list(snapshot.sources), snapshot.passage(0).text) == (1, ["a"], "one two")


def test_passages_that_do_not_exist(memory: Memory) -> None:
    memory.append([encoded("one")])
    for number in (-1, 1):
        for look in (memory.passage, memory.ids, lambda n: memory.neighbours(n, 1, 1)):
            with pytest.raises(IndexError, match="the memory has 1"):
                look(number)


def test_blocks_number_their_passages_and_are_read_only(memory: Memory) -> None:
    memory.append([encoded("", source="nothing")])
    assert list(memory.blocks()) == []
    for n in range(20):
        memory.append([encoded("x y z " * (n + 1), source=str(n))])
    first = 0
    for block in memory.blocks():
        assert block.first == first
        assert block.ends[-1] == len(block.keys) == len(block.scales)
        assert not block.keys.flags.writeable
        first += len(block.ends)
    assert first == len(memory) == 210


def test_what_the_caller_does_to_its_arrays_later_is_not_seen(memory: Memory) -> None:
    text = encoded("one two three")
    memory.append([text])
    before = contents_of(memory)
    text.keys[:] = 0
    text.ids[:] = 0
    assert contents_of(memory) == before


def test_nothing_to_append_is_no_change(memory: Memory) -> None:
    memory.append([])
    assert memory.generation == 0


# ---- texts that are refused


def altered(**fields: object) -> EncodedText:
    return dataclasses.replace(encoded("one two three four"), **fields)


GOOD = encoded("one two three four")
BAD_TEXTS = {
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
    "text without tokens": dataclasses.replace(encoded(""), text="x"),
    "no passages": altered(passages=np.zeros((0, 4), np.int64)),
    "text that is not Unicode": dataclasses.replace(encoded("abc"), text="a\udc80c"),
    "a name that is not Unicode": altered(source="\udc80"),
    "no name": altered(source=""),
    "meta that is not JSON": altered(meta={"x": object()}),
    "meta with NaN": altered(meta={"x": float("nan")}),
    "added at infinity": altered(added=float("inf")),
    "a beginning in the middle": altered(start=3),
}


@pytest.mark.parametrize("reason", BAD_TEXTS)
def test_a_piece_that_contradicts_itself_is_refused_whole(memory: Memory, reason: str) -> None:
    memory.append([encoded("here", source="before")])
    before, generation = contents_of(memory), memory.generation
    with pytest.raises(UsageError):
        memory.append([encoded("good", source="good"), BAD_TEXTS[reason]])
    assert contents_of(memory) == before
    assert memory.generation == generation


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_never_kept(memory: Memory, value: float) -> None:
    scales = GOOD.scales.copy()
    scales[2, 1] = value
    with pytest.raises(MemspanError, match="scales hold NaN or infinity") as caught:
        memory.append([encoded("good", source="good"), altered(scales=scales)])
    assert caught.value.exit_code == 1
    assert len(memory) == 0
    assert not memory.sources


def test_a_source_goes_on_where_it_stands_or_not_at_all(memory: Memory) -> None:
    memory.append([encoded("one two ", complete=False), encoded("x", source="done")])
    for text, reason in [
        (encoded("x", start=0), "read up to character 8, but this text begins at 0"),
        (encoded("x", start=9), "read up to character 8, but this text begins at 9"),
        (encoded("x", start=8, kind="exchange"), "of kind 'document'"),
        (encoded("x", source="done"), "read up to character 1, but this text begins at 0"),
    ]:
        with pytest.raises(UsageError, match=reason):
            memory.append([text])
    memory.append([encoded("three", start=8), encoded(" more", source="done", start=1)])  # a text that has grown
    assert memory.sources["a"].characters == 13
    assert memory.sources["done"].characters == 6
