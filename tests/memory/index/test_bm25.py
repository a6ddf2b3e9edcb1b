"""The word index: BM25 by its definition, and a cache that is never believed."""

import hashlib
import json
import math
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memspan.memory import Memory, load_memory
from memspan.memory.index.bm25 import MOST_WORDS, WordIndex, without_question_words
from memspan.memory.store.folder import Folder
from memspan.memory.store.signature import is_own, sign
from tests.memory.make import FINGERPRINT, encoded, word_scores

TEXTS = ["the cat sat on the mat", "the dog ate the cat food", "dog", "a bird sang all day long in a tree", "the end"]


def bm25(passages: list[list[str]], terms: set[str]) -> list[float]:
    """Okapi BM25 with k1 = 1.2 and b = 0.75; SQLite keeps a term's weight above zero."""
    average = sum(map(len, passages)) / len(passages)
    scores = []
    for passage in passages:
        score = 0.0
        for term in terms:
            holding = sum(term in other for other in passages)
            weight = max(math.log((len(passages) - holding + 0.5) / (holding + 0.5)), 1e-6)
            count = passage.count(term)
            score += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(passage) / average))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["cat", "the dog", "dog dog dog", "bird tree cat the end", "nowhere", ""])
def test_scores_are_bm25(query: str) -> None:
    memory = Memory(FINGERPRINT)
    for number, text in enumerate(TEXTS):
        memory.append([encoded(text, source=str(number), words_per_passage=20)])
    scores = memory.word_scores(query)
    passages = [text.split() for text in TEXTS]
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx(bm25(passages, set(query.split())), rel=1e-4)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("She was BURYING the treasures.", "Where did they bury the treasure?"),
        ("宝玉住在怡红院。", "怡红院里住着谁？"),
        ("彼は東京に住んでいる", "東京"),
        ("Der Müller wohnt hier", "muller"),
        ('an "odd" AND (text) NEAR* it', 'odd" OR NEAR ('),
    ],
)
def test_words_are_found_in_other_forms_scripts_and_among_the_marks_of_sqlite(text: str, question: str) -> None:
    index = WordIndex()
    index.extend(["nothing of the kind 无关", text])
    scores = index.scores(question)
    assert scores[1] > scores[0]


@pytest.mark.parametrize(
    ("question", "rest"),
    [
        ("Which ship did Ann whip?", ["ship", "Ann", "whip"]),
        ("How many whoops?", ["whoops"]),
        ("克什米尔马鹿为什么会受到什么威胁", ["克什米尔马鹿", "会受到", "威胁"]),
        ("Who, what, why?", ["Who,", "what,", "why?"]),
        ("Summarize the discussion about the lamp", ["the", "the", "lamp"]),
        ("What did the group think of the lamp", ["the", "of", "the", "lamp"]),
        ("Which group won the lamp?", ["group", "won", "the", "lamp"]),
    ],
)
def test_question_words_are_left_out_unless_there_are_no_others(question: str, rest: list[str]) -> None:
    assert without_question_words(question).rstrip("? ").split() == [word.rstrip("?") for word in rest]


def test_an_empty_memory_and_passages_without_a_match() -> None:
    memory = Memory(FINGERPRINT)
    assert word_scores(memory, ["x"]) == []
    memory.append([encoded("one two three four")])
    assert word_scores(memory, ["four"])[0] == 0.0
    assert word_scores(memory, ["four"])[1] > 0.0


def test_a_question_of_thousands_of_words() -> None:
    index = WordIndex()
    index.extend(" ".join(f"w{word}" for word in range(100 * n, 100 * n + 100)) for n in range(50))
    scores = index.scores(" ".join(f"w{word}" for word in range(2500)))
    assert (scores > 0).sum() >= MOST_WORDS // 100


def test_no_more_words_are_searched_than_the_limit() -> None:
    """Time grows faster than the number of words."""
    index = WordIndex()
    index.extend(f"w{word}" for word in range(MOST_WORDS + 500))
    scores = index.scores(" ".join(f"w{word}" for word in range(MOST_WORDS + 500)))
    assert (scores > 0).sum() == MOST_WORDS


def test_a_word_counts_once_in_whatever_case() -> None:
    index = WordIndex()
    index.extend(["One lamp", "two lamps", "three"])
    assert index.scores("ONE one One").tolist() == index.scores("one").tolist()


def test_a_failed_extension_leaves_nothing() -> None:
    index = WordIndex()
    index.extend(["one two"])
    before = b"".join(index.dump())

    def broken():
        yield "three"
        raise KeyError

    with pytest.raises(KeyError):
        index.extend(broken())
    assert index.passages == 1
    assert index.scores("three").tolist() == [0.0]
    index.extend(["three"])
    assert index.scores("three")[1] > 0
    assert len(before) == len(b"".join(index.dump()))


def test_it_grows_with_the_memory_and_is_found_again(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = quick_path / "m"
    memory = Memory.open(path, FINGERPRINT)
    fresh = Memory(FINGERPRINT)
    stored, dump = [], WordIndex.dump
    monkeypatch.setattr(WordIndex, "dump", lambda self: (stored.append(1), dump(self))[1])
    for n in range(30):
        text = encoded(f"passage {n} of many", source=str(n))
        memory.append([text])
        fresh.append([text])
        assert word_scores(memory, ["passage", str(n)]) == word_scores(fresh, ["passage", str(n)])
    assert 10 < len(stored) < 25  # not at every search
    covered = json.loads((path / "search.json").read_bytes())["passages"]
    assert len(memory) * 8 / 9 <= covered <= len(memory)

    inserted = []
    extend = WordIndex.extend
    monkeypatch.setattr(WordIndex, "extend", lambda self, rows: extend(self, (inserted.append(1) or r for r in rows)))
    again = load_memory(path)
    assert word_scores(again, ["passage", "7"]) == word_scores(fresh, ["passage", "7"])
    assert len(inserted) == len(memory) - covered


def with_index(path: Path) -> Memory:
    """A memory on disk whose index is stored."""
    memory = Memory.open(path, FINGERPRINT)
    memory.append([encoded("one two three four five six")])
    word_scores(memory, ["one"])
    return memory


def other_index(path: Path) -> None:
    index = WordIndex()
    index.extend(["nine"] * 2)
    (path / "search.sqlite").write_bytes(b"".join(index.dump()))


def other_stamp(path: Path, **fields: object) -> None:
    """Another stamp, as if this user had written it."""
    stamp = json.loads((path / "search.json").read_bytes())
    del stamp["signature"]
    stamp.update(fields)
    signature = sign(b"memspan word index\n" + json.dumps(stamp, sort_keys=True).encode())
    (path / "search.json").write_bytes(json.dumps({**stamp, "signature": signature}).encode())


def folder_for(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILED: dict[str, Callable[[Path], object]] = {
    "another index": other_index,
    "no index": lambda path: (path / "search.sqlite").unlink(),
    "no stamp": lambda path: (path / "search.json").unlink(),
    "an empty index": lambda path: (path / "search.sqlite").write_bytes(b""),
    "no database": lambda path: (path / "search.sqlite").write_bytes(b"x" * 9000),
    "a folder for the index": lambda path: folder_for(path / "search.sqlite"),
    "a folder for the stamp": lambda path: folder_for(path / "search.json"),
    "a stamp that is no JSON": lambda path: (path / "search.json").write_bytes(b"{"),
    "a stamp that is no object": lambda path: (path / "search.json").write_bytes(b"[1]"),
    "a deep stamp": lambda path: (path / "search.json").write_bytes(b"[" * 4000),
    "a huge stamp": lambda path: (path / "search.json").write_bytes(b" " * 10**7),
    "a stamp of the future": lambda path: other_stamp(path, generation=99),
    "a stamp of other text": lambda path: other_stamp(path, lineage="0" * 32),
    "a stamp of more passages": lambda path: other_stamp(path, passages=3),
    "a stamp of fewer passages": lambda path: other_stamp(path, passages=1),
    "a stamp of words": lambda path: other_stamp(path, passages="two"),
    "a stamp that lacks a field": lambda path: (path / "search.json").write_bytes(b"{}"),
    "a stamp of other passages": lambda path: other_stamp(path, texts="0" * 64),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_cache_that_does_not_match_is_made_anew(quick_path: Path, how: str) -> None:
    expected = word_scores(with_index(quick_path / "m"), ["one", "six"])
    SPOILED[how](quick_path / "m")
    for _ in range(2):
        assert word_scores(load_memory(quick_path / "m"), ["one", "six"]) == expected


def test_a_matching_stamp_of_something_that_is_no_index(quick_path: Path) -> None:
    expected = word_scores(with_index(quick_path / "m"), ["one", "six"])
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE words (text)")
        content = database.serialize()
    database.close()
    for raw in (content, b"SQLite format 3\x00" + b"\xff" * 5000, b"junk"):
        (quick_path / "m" / "search.sqlite").write_bytes(raw)
        other_stamp(quick_path / "m", bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        assert word_scores(load_memory(quick_path / "m"), ["one", "six"]) == expected


def test_an_index_left_by_another_numbering_is_not_used(quick_path: Path) -> None:
    memory = with_index(quick_path / "m")
    shutil.copytree(quick_path / "m", quick_path / "old")
    memory.append([encoded("two three four five", source="b")])
    memory.forget("a")
    for name in ("search.sqlite", "search.json"):  # a crash, a backup tool
        shutil.copy(quick_path / "old" / name, quick_path / "m" / name)
    again = load_memory(quick_path / "m")
    assert len(again) == len(load_memory(quick_path / "old"))
    assert word_scores(again, ["one"]) == [0.0, 0.0]
    assert [score > 0 for score in word_scores(again, ["five"])] == [False, True]


def test_an_index_is_used_for_what_it_covers_only(quick_path: Path) -> None:
    memory = with_index(quick_path / "m")
    index, snapshot = Folder(quick_path / "m").index, memory.snapshot
    shorter = Memory(FINGERPRINT)
    shorter.append([encoded("one")])
    assert (snapshot.generation, snapshot.passages, shorter.snapshot.passages) == (1, 2, 1)
    assert index.load(snapshot).passages == 2
    assert index.load(replace(snapshot, generation=5, shards=snapshot.shards * 4)).passages == 2
    assert index.load(replace(snapshot, generation=0)) is None
    assert index.load(replace(snapshot, shards=shorter.snapshot.shards)) is None
    assert index.load(replace(snapshot, lineage="0" * 32)) is None


def test_who_looks_at_what_others_have_forgotten_does_not_write_it_down(quick_path: Path) -> None:
    writer = Memory.open(quick_path / "m", FINGERPRINT)
    writer.append([encoded("secret words"), encoded("kept words", source="b")])
    reader = load_memory(quick_path / "m")
    writer.forget("a")
    assert [score > 0 for score in word_scores(reader, ["secret"])] == [True, False]
    assert not (quick_path / "m" / "search.sqlite").exists()
    assert word_scores(writer, ["secret"]) == [0.0]


def test_forks_search_what_is_theirs(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = with_index(quick_path / "m")
    on_disk, in_ram = memory.fork(quick_path / "fork"), memory.fork()
    inserted = []
    extend = WordIndex.extend
    with monkeypatch.context() as patch:
        patch.setattr(WordIndex, "extend", lambda self, rows: (inserted.append(1), extend(self, rows)))
        assert word_scores(on_disk, ["one"]) == word_scores(in_ram, ["one"]) == word_scores(memory, ["one"])
        assert inserted == []  # they have the index too
    memories = {"its": memory, "disk": on_disk, "ram": in_ram, "twin": in_ram.fork()}
    for name, each in memories.items():
        each.append([encoded(f"{name} own words", source="own")])
        fresh = Memory(FINGERPRINT)
        fresh.append([encoded("one two three four five six"), encoded(f"{name} own words", source="own")])
        assert word_scores(each, [name, "one"]) == word_scores(fresh, [name, "one"])
    for name, each in memories.items():
        assert [score > 0 for score in word_scores(each, [name])] == [False, False, True]


def test_a_fork_that_grows_leaves_the_index_of_its_origin(quick_path: Path) -> None:
    memory = with_index(quick_path / "m")
    before, fork = word_scores(memory, ["one"]), memory.fork()
    fork.append([encoded("one more time again", source="own")])
    assert len(word_scores(fork, ["one"])) == len(before) + 2
    assert word_scores(memory, ["one"]) == before


def test_saving_keeps_the_index(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([encoded("one two three four five six")])
    before = word_scores(memory, ["one"])
    memory.save(quick_path / "m")
    with monkeypatch.context() as patch:
        patch.setattr(WordIndex, "extend", lambda self, texts: 1 / 0)
        assert word_scores(memory, ["one"]) == before


@pytest.mark.parametrize("forgets", [False, True])
def test_a_fork_of_an_older_state_does_not_take_the_newer_index(quick_path: Path, forgets: bool) -> None:
    writer = with_index(quick_path / "m")
    reader = load_memory(quick_path / "m")
    writer.append([encoded("seven eight nine ten", source="b")])
    if forgets:
        writer.forget("a")
    word_scores(writer, ["one"])
    fork = reader.fork(quick_path / "fork")
    fork.append([encoded("one more time again", source="c")])
    fresh = Memory(FINGERPRINT)
    fresh.append([encoded("one two three four five six"), encoded("one more time again", source="c")])
    for _ in range(3):
        assert word_scores(load_memory(quick_path / "fork"), ["one", "seven"]) == word_scores(fresh, ["one", "seven"])


def test_others_append_and_search_while_one_looks(quick_path: Path) -> None:
    writer = with_index(quick_path / "m")
    reader, late_reader = load_memory(quick_path / "m"), load_memory(quick_path / "m")
    expected = word_scores(reader, ["one"])
    for n in range(20):
        writer.append([encoded("one more", source=str(n))])
        word_scores(writer, ["one"])
    late = load_memory(quick_path / "m")
    assert word_scores(late_reader, ["one"]) == word_scores(reader, ["one"]) == expected
    assert len(word_scores(late, ["one"])) == 22
    assert reader.refresh()
    assert word_scores(reader, ["one"]) == word_scores(late, ["one"])
    assert not reader.refresh()


def test_a_busy_folder_does_not_keep_anybody_from_searching(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one two")])
    with Folder(quick_path / "m").lock():
        assert word_scores(memory, ["one"])[0] > 0
    assert not (quick_path / "m" / "search.sqlite").exists()
    assert word_scores(memory, ["one"])[0] > 0
    assert (quick_path / "m" / "search.sqlite").exists()


# ---- indexes that somebody else wrote


def as_another_user(path: Path, content: bytes, home: Path) -> None:
    """Store this as the index of a memory, with all that another user can write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        (path / "search.sqlite").write_bytes(content)
        other_stamp(path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def endless() -> bytes:
    """A database whose `words` count to no end."""
    with closing(sqlite3.connect(":memory:")) as database:
        counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS text FROM n"
        database.execute(f"CREATE VIEW words AS {counted}")
        return database.serialize()


def lying() -> bytes:
    """A real index, of as many other passages."""
    index = WordIndex()
    index.extend(["nine", "one one one"])
    return b"".join(index.dump())


@pytest.mark.parametrize("forged", [endless, lying])
def test_the_index_of_another_user_is_never_opened(
    quick_path: Path, forged: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = word_scores(with_index(quick_path / "m"), ["one", "six"])
    as_another_user(quick_path / "m", forged(), quick_path / "home")
    load_memory(quick_path / "m").fork(quick_path / "fork")
    restored, restore = [], WordIndex.restore
    monkeypatch.setattr(WordIndex, "restore", lambda *arguments: (restored.append(1), restore(*arguments))[1])
    for name in ("m", "fork"):
        assert word_scores(load_memory(quick_path / name), ["one", "six"]) == expected
    assert restored == []
    assert word_scores(load_memory(quick_path / "m"), ["one", "six"]) == expected
    assert restored == [1]  # it was built anew once


def test_an_own_index_of_other_texts_does_not_count(quick_path: Path) -> None:
    """Somebody may send back a memory with the index that this user built, over other text."""
    with_index(quick_path / "m")
    other = Memory.open(quick_path / "other", FINGERPRINT)
    other.append([encoded("six two three four five one")])
    for name in ("search.sqlite", "search.json"):
        shutil.copy(quick_path / "m" / name, quick_path / "other" / name)
    snapshot = replace(other.snapshot, lineage=load_memory(quick_path / "m").snapshot.lineage)
    assert Folder(quick_path / "m").index.load(snapshot) is None
    assert Folder(quick_path / "m").index.load(load_memory(quick_path / "m").snapshot) is not None


def test_a_database_with_other_tables_is_refused_before_it_is_queried() -> None:
    with pytest.raises(sqlite3.DatabaseError, match="and no others"):
        WordIndex.restore([endless()], 2, b"")


def test_without_a_home_the_index_stays_in_ram(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (quick_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(quick_path / "file"))
    memory = with_index(quick_path / "m")
    assert word_scores(memory, ["one"])[0] > 0
    assert not (quick_path / "m" / "search.sqlite").exists()


def test_a_key_that_was_cut_short_is_made_anew(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(quick_path))
    (quick_path / "memspan").mkdir()
    (quick_path / "memspan" / "key").write_bytes(b"short")
    signature = sign(b"content")
    assert is_own(b"content", signature)
    assert not is_own(b"other", signature)
    assert not is_own(b"content", None)
    assert not is_own(b"content", "\ud800")
    assert len((quick_path / "memspan" / "key").read_bytes()) == 32
    assert stat.S_IMODE((quick_path / "memspan" / "key").stat().st_mode) == 0o600
