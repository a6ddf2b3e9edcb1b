"""Filters: against a naive reference over random memories, in every form of a memory, and with hostile conditions."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.errors import ForeignMemory, NoMatch, UsageError
from memspan.memory import EncodedText, Filter, Memory, Passage, View, load_memory
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store.folder import Folder
from memspan.memory.tags import tag
from memspan.memory.union import LatestUnion, united
from tests.memory.make import FINGERPRINT, encoded

DAY = 86_400.0


def dated(words: int, source: str, happened: Sequence[float | None] = (), **fields: Any) -> EncodedText:
    """A text of one word a passage."""
    times = None
    if happened:
        times = np.array([np.nan if moment is None else moment for moment in happened], np.float64)
    text = " ".join(f"{source[:1]}{number}" for number in range(words))
    return encoded(text, source=source, words_per_passage=1, happened=times, **fields)


def seconds(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


# ---- the reference


def passes(passage: Passage, view: View, conditions: Mapping[str, Any]) -> bool:
    """Naive: every condition by itself, from the passage and the record of its source."""
    source = view.sources[passage.source]
    moment = passage.added if passage.happened is None else passage.happened
    names, kinds = conditions.get("sources", ()), conditions.get("kinds", ())
    return (
        (not names or any(name == passage.source or fnmatchcase(passage.source, name) for name in names))
        and (not kinds or source.kind in kinds)
        and ("since" not in conditions or moment >= conditions["since"])
        and ("until" not in conditions or moment <= conditions["until"])
        and all(
            value in (str(passage.marks.get(key)), str(source.meta.get("tags", {}).get(key)))
            for key, value in conditions.get("where", {}).items()
        )
    )


NAMES = st.sampled_from(["a", "b", "dir/a.txt", "dir/b.txt", "x[1]", "it's"])
MARKS = st.dictionaries(st.sampled_from(["page", "speaker"]), st.sampled_from([1, 2, "ann", "7"]), max_size=2)
TIMES = st.one_of(st.none(), st.integers(0, 5).map(lambda days: days * DAY))
SOURCES = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from(["document", "exchange"]),
        st.integers(0, 5).map(lambda days: days * DAY),
        st.lists(st.tuples(TIMES, MARKS), min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(["page", "team"]), st.sampled_from([1, "red"]), max_size=1),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda source: source[0],
)
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "sources": st.lists(st.one_of(NAMES, st.sampled_from(["dir/*", "?", "x[[]1]", "[ab]", "nothing"])), min_size=1),
        "kinds": st.lists(st.sampled_from(["document", "exchange", "other"]), min_size=1),
        "since": st.integers(0, 5).map(lambda days: days * DAY),
        "until": st.integers(0, 5).map(lambda days: days * DAY),
        "where": st.dictionaries(
            st.sampled_from(["page", "speaker", "team"]), st.sampled_from(["1", "2", "ann", "7", "red"]), max_size=2
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(SOURCES, CONDITIONS, st.booleans())
def test_filters_are_their_conditions_one_by_one(sources: list[Any], conditions: dict[str, Any], forgets: bool) -> None:
    memory = Memory(FINGERPRINT)
    for name, kind, added, passages, tags in sources:
        happened = [moment for moment, _ in passages]
        marks = [mark for _, mark in passages]
        fields = {"kind": kind, "added": added, "passage_marks": marks, "meta": {"tags": tags}}
        memory.append([dated(len(passages), name, happened, **fields)])
        memory.word_scores("a")  # the index grows with the memory
    if forgets:
        memory.forget(sources[0][0])
        if len(memory) == 0:
            return
    view = memory.view()
    expected = [number for number in range(len(view)) if passes(view.passage(number), view, conditions)]
    filter = Filter(**conditions)
    if expected:
        assert view.passing(filter).tolist() == expected
    else:
        with pytest.raises(NoMatch):
            view.passing(filter)


# ---- times


def of_days() -> Memory:
    """Passages that happened on 30 April, 1, 8 and 31 May and 1 June 2023, and one of an unknown day read on 8 May 2024."""
    memory = Memory(FINGERPRINT)
    days = [
        seconds(2023, 4, 30, 23),
        seconds(2023, 5, 1),
        seconds(2023, 5, 8),
        seconds(2023, 5, 31, 23, 59),
        seconds(2023, 6, 1),
    ]
    memory.append([dated(5, "diary", days, added=seconds(2024, 5, 8, 12))])
    memory.append([dated(1, "undated", added=seconds(2024, 5, 8, 12))])
    return memory


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        ({"since": "2023-05"}, [1, 2, 3, 4, 5]),
        ({"until": "2023-05"}, [0, 1, 2, 3]),
        ({"since": "2023-05", "until": "2023-05"}, [1, 2, 3]),
        ({"since": "2023-05-08", "until": "2023-05-08"}, [2]),
        ({"since": date(2023, 5, 8), "until": date(2023, 5, 8)}, [2]),
        ({"since": datetime(2023, 5, 8), "until": datetime(2023, 5, 8)}, [2]),
        ({"until": "2023-05-08T00:00"}, [0, 1, 2]),
        ({"until": "2023-05-07T23:59"}, [0, 1]),
        ({"since": "2023", "until": "2023"}, [0, 1, 2, 3, 4]),
        ({"since": datetime(2023, 5, 8, 2, tzinfo=timezone(timedelta(hours=2))), "until": "2023-06"}, [2, 3, 4]),
        ({"since": "20230601"}, [4, 5]),
        ({"since": seconds(2023, 6, 1)}, [4, 5]),
        ({"since": "2024-05-08", "until": "2024-05-09"}, [5]),
    ],
)
def test_a_time_counts_as_it_is_written_in_any_time_zone(
    conditions: dict[str, Any], numbers: list[int], zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert of_days().passing(Filter(**conditions)).tolist() == numbers
    finally:
        monkeypatch.undo()
        time.tzset()


def test_so_long_ago_is_counted_from_now() -> None:
    memory = Memory(FINGERPRINT)
    now = datetime.now(UTC).timestamp()
    memory.append([dated(3, "a", [now - 3 * DAY, now - DAY, now - 60])])
    assert memory.passing(Filter(since="2d")).tolist() == [1, 2]
    assert memory.passing(Filter(until="90m")).tolist() == [0, 1]


@pytest.mark.parametrize("value", ["yesterday", "30", "", "2023-13", "0000", "9999-12-31", "-3d", float("nan"), True])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"since must be a date or a time"):
        Filter(since=value)


# ---- conditions


def test_values_are_compared_as_people_write_them() -> None:
    memory = Memory(FINGERPRINT)
    marks = [{"page": 3, "speaker": "Ann"}, {"page": 4, "speaker": "ANN"}, {"page": 3.5}, {}]
    memory.append([dated(4, "a", passage_marks=marks, meta={"tags": {"team": ["red", "Blue"], "final": True}})])
    memory.append([dated(1, "b", meta={"author": "Ben", "deep": {"er": 1}})])

    def passing(**where: Any) -> list[int]:
        return memory.passing(Filter(where=where)).tolist()

    assert passing(page="3") == passing(page=3) == passing(page=3.0) == [0]
    assert passing(page=(3, 4)) == [0, 1]
    assert passing(page=3.5) == [2]
    assert passing(speaker="ann") == [0, 1]
    assert passing(team="blue") == passing(final="true") == [0, 1, 2, 3]
    assert passing(team="blue", speaker="Ann", page=4) == [1]
    assert passing(author="ben") == [4]


def test_a_passage_of_several_speakers_is_found_by_each() -> None:
    memory = Memory(FINGERPRINT)
    marks = [
        {"speaker": "Ann", "speakers": "Ann\nBo"},
        {"speaker": "Bo"},
        {"speaker": "Ann", "speakers": "Ann\nCy"},
        {},
    ]
    memory.append([dated(4, "a", passage_marks=marks)])
    view = memory.view()

    def passing(**where: Any) -> list[int]:
        return np.flatnonzero(Filter(where=where).mask(view)).tolist()

    assert passing(speaker="ann") == [0, 2]
    assert passing(speaker="Bo") == [0, 1]
    assert passing(speaker=["bo", "cy"]) == [0, 1, 2]
    assert view.kinds_of_marks() == ["speaker"]


def test_a_source_whose_tags_change_is_found_by_the_new_ones_and_an_older_view_by_the_old() -> None:
    memory = Memory(FINGERPRINT)
    memory.append([dated(2, "a", complete=False, meta={"tags": {"state": "draft"}})])
    before = memory.view()
    assert before.passing(Filter(where={"state": "draft"})).tolist() == [0, 1]
    empty = encoded("", source="a", start=memory.sources["a"].characters, meta={"tags": {"state": "final"}})
    memory.append([empty])
    assert memory.passing(Filter(where={"state": "final"})).tolist() == [0, 1]
    assert before.passing(Filter(where={"state": "draft"})).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ({"sources": "dairy"}, r"no source with text matches 'dairy'; did you mean 'diary'\?"),
        ({"sources": "zzz*"}, r"no source with text matches 'zzz\*'; there are 2, the first is 'diary'"),
        ({"kinds": "exchange"}, "no source is of kind exchange; there are document"),
        ({"since": "2030"}, "no passage is since 2030; the last is of 2024-05-08"),
        ({"until": "2020"}, "no passage is until 2020; the first is of 2023-04-30"),
        ({"where": {"page": 3}}, "no passage is with page=3; there are no marks or tags"),
        (
            {"sources": "undated", "until": "2023"},
            "no passage meets all of the conditions together: there are 1 of 'undated', 5 until 2023",
        ),
    ],
)
def test_an_empty_result_says_which_condition_excludes_everything(conditions: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NoMatch, match=sentence):
        of_days().passing(Filter(**conditions))


def test_an_empty_memory_has_nothing_to_exclude() -> None:
    assert Memory(FINGERPRINT).passing(Filter(sources="a")).tolist() == []
    assert not Filter()
    assert of_days().passing(Filter()).tolist() == of_days().passing(None).tolist() == list(range(6))


@pytest.mark.parametrize(
    "conditions",
    [
        {"sources": 3},
        {"sources": [1]},
        {"sources": [""]},
        {"kinds": {"a": 1}},
        {"where": "page=3"},
        {"where": {1: "x"}},
        {"where": {"page": None}},
        {"where": {"page": []}},
        {"where": {"": "x"}},
        {"since": ["2023"]},
    ],
)
def test_conditions_of_another_type_are_refused(conditions: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Filter(**conditions)


@pytest.mark.parametrize(
    "hostile",
    [
        "' OR 1=1 --",
        '" OR ""="',
        "a'); DROP TABLE passages; --",
        "x\0y",
        "%",
        "_",
        "*/",
        "?1",
        ":name",
        "\\",
        "[",
        "[!",
    ],
)
def test_conditions_never_become_sql(hostile: str) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([dated(1, "plain", kind="document", passage_marks=[{"page": 1}])])
    memory.append([dated(1, hostile, kind=hostile, passage_marks=[{hostile: hostile}])])
    filters = [Filter(sources=[hostile]), Filter(kinds=[hostile]), Filter(where={hostile: hostile})]
    for filter in filters:
        assert memory.passing(filter).tolist() == [1]
    assert memory.passing(Filter(where={"page": 1})).tolist() == [0]  # and the tables are still there
    for key, value in (("page", hostile), (hostile, "1")):
        with pytest.raises(NoMatch):
            memory.passing(Filter(where={key: value}))


# ---- memories that change


def test_forks_merges_and_what_is_left_after_forgetting(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([dated(2, "a", [DAY, 2 * DAY], passage_marks=[{"page": 1}, {"page": 2}])])
    memory.append([dated(2, "b", [3 * DAY, 4 * DAY], passage_marks=[{"page": 2}, {"page": 3}])])
    page, late = Filter(where={"page": 2}), Filter(since=3 * DAY)
    assert memory.passing(page).tolist() == [1, 2]
    fork, in_ram = memory.fork(quick_path / "fork"), memory.fork()
    fork.append([dated(1, "c", [5 * DAY], passage_marks=[{"page": 2}])])
    assert fork.passing(page).tolist() == [1, 2, 4]
    assert in_ram.passing(page).tolist() == memory.passing(page).tolist() == [1, 2]
    fork.forget("a")
    assert fork.passing(page).tolist() == [0, 2]
    assert fork.passing(late).tolist() == [0, 1, 2]
    memory.merge(fork)
    assert memory.passing(Filter(sources="c")).tolist() == [4]
    again = load_memory(quick_path / "m")
    assert again.passing(page).tolist() == memory.passing(page).tolist() == [1, 2, 4]


def test_an_index_that_was_stored_filters_without_being_built_anew(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([dated(2, "a", [DAY, 2 * DAY], passage_marks=[{"page": 1}, {"page": 2}])])
    memory.word_scores("a")
    monkeypatch.setattr(WordIndex, "extend", lambda self, rows: 1 / 0)
    assert load_memory(quick_path / "m").passing(Filter(since=2 * DAY, where={"page": 2})).tolist() == [1]


@pytest.mark.parametrize("changed", ["happened", "added", "passage_marks", "kind", "source"])
def test_a_stored_index_does_not_count_for_passages_of_which_other_things_are_known(
    quick_path: Path, changed: str
) -> None:
    """Somebody may send back a memory with the index that this user signed, over the same text with other facts."""
    facts: dict[str, Any] = {
        "happened": [DAY],
        "added": 1.0,
        "passage_marks": [{"page": 1}],
        "kind": "document",
        "source": "a",
    }
    others = {"happened": [2 * DAY], "added": 2.0, "passage_marks": [{"page": 2}], "kind": "exchange", "source": "ab"}
    memories = []
    for name, fields in (("m", facts), ("other", {**facts, changed: others[changed]})):
        memory = Memory.open(quick_path / name, FINGERPRINT)
        memory.append([dated(1, **fields)])
        memory.word_scores("a0")
        memories.append(memory)
    mine, other = memories
    for name in ("search.sqlite", "search.json"):
        (quick_path / "other" / name).write_bytes((quick_path / "m" / name).read_bytes())

    snapshot = replace(other.snapshot, lineage=mine.snapshot.lineage)
    assert Folder(quick_path / "other").index.load(snapshot) is None
    assert Folder(quick_path / "m").index.load(mine.snapshot) is not None


def test_forgetting_by_a_filter_takes_the_sources_that_meet_it_as_a_whole(memory: Memory) -> None:
    memory.append([dated(2, "early", [DAY, 2 * DAY])])
    memory.append([dated(2, "both", [2 * DAY, 9 * DAY])])
    memory.append([dated(1, "late", [9 * DAY], kind="exchange")])
    early = Filter(until=3 * DAY)
    assert memory.matching(filter=early) == ["early"]
    assert memory.forget(filter=early) == ["early"]
    with pytest.raises(UsageError, match="every one of its passages"):
        memory.forget(filter=early)
    with pytest.raises(NoMatch):
        memory.forget(filter=Filter(until=DAY))
    assert memory.forget("*", filter=Filter(kinds="exchange")) == ["late"]
    with pytest.raises(UsageError, match="at least one condition"):
        memory.forget(filter=Filter())
    assert list(memory.sources) == ["both"]


def test_a_failed_extension_leaves_no_passage_in_the_table() -> None:
    index = WordIndex()
    index.extend(["one"])

    def broken():  # type: ignore[no-untyped-def]
        yield "two"
        raise KeyError

    with pytest.raises(KeyError):
        index.extend(broken())
    index.extend(["two", "three"])
    restored = WordIndex.restore(index.dump(), 3, index.digest)
    assert restored.scores("three").tolist() == index.scores("three").tolist()


# ---- several memories


def test_several_memories_are_one_ranking_with_the_scores_of_one_memory() -> None:
    texts = [
        ("notes", "the old lamp by the door"),
        ("log", "a lamp and a lamp rain"),
        ("notes", "rain on the sea now then"),
    ]
    memories, one = [], Memory(FINGERPRINT)
    for number, (source, text) in enumerate(texts):
        memory = Memory(FINGERPRINT)
        memory.append([encoded(text, source=source, words_per_passage=20)])
        memories.append(memory)
        one.append([encoded(text, source=str(number), words_per_passage=20)])
    view = united(memories)
    assert view.word_scores("lamp rain door").tolist() == pytest.approx(
        one.word_scores("lamp rain door").tolist(), rel=1e-5
    )
    assert [view.passage(number).text for number in range(3)] == [text for _, text in texts]
    assert list(view.sources) == ["memory 1/notes", "memory 2/log", "memory 3/notes"]
    assert np.concatenate([block.keys for block in view.blocks()]).tolist() == [
        key for block in one.blocks() for key in block.keys.tolist()
    ]
    assert view.passing(Filter(sources="notes")).tolist() == [0, 2]
    assert united([memories[0]]).sources == memories[0].sources


def test_a_union_is_kept_until_one_of_its_memories_changes_and_for_no_others() -> None:
    first, second, third = (Memory(FINGERPRINT) for _ in range(3))
    for number, memory in enumerate((first, second, third)):
        memory.append([encoded(f"text {number}", source=f"{number}")])
    latest = LatestUnion(names_one=True)
    kept = latest.of([first, second])
    assert latest.of([first, second]) is kept
    second.append([encoded("more", source="more")])
    changed = latest.of([first, second])
    assert list(changed.sources) == ["memory 1/0", "memory 2/1", "memory 2/more"]
    assert list(latest.of([second, first]).sources)[-1] == "memory 2/0"
    assert list(latest.of([first, third]).sources) == ["memory 1/0", "memory 2/2"]
    assert list(latest.of([first]).sources) == ["memory/0"]
    second.forget("more")
    assert list(latest.of([first, second]).sources) == ["memory 1/0", "memory 2/1"]


def test_the_names_of_several_memories_tell_them_apart(quick_path: Path) -> None:
    paths = [quick_path / name for name in ("a.mem", "x/b.mem", "y/b.mem")]
    memories = [Memory.open(path, FINGERPRINT) for path in paths]
    for memory in memories:
        memory.append([dated(1, "s")])
    names = [name.removesuffix("/s") for name in united(memories).sources]
    assert names == ["a.mem", str(paths[1].resolve()), str(paths[2].resolve())]
    assert len(united([memories[0], memories[0]]).sources) == 2


def test_what_no_memory_has_is_said_for_each_and_what_one_has_is_enough() -> None:
    first, second = of_days(), Memory(FINGERPRINT)
    second.append([dated(1, "other", [seconds(2020, 1, 1)])])
    assert united([first, second]).passing(Filter(until="2020")).tolist() == [6]
    with pytest.raises(NoMatch, match=r"memory 1: no source .* memory 2: no source"):
        united([first, second]).passing(Filter(sources="zzz"))


def test_memories_of_different_models_are_refused() -> None:
    other = Memory(replace(FINGERPRINT, model="c" * 64, name="another"))
    with pytest.raises(ForeignMemory, match="memory 2 was made with model another"):
        united([Memory(FINGERPRINT), other])


def test_tags_take_the_position_of_earlier_tags() -> None:
    memory = Memory(FINGERPRINT)
    memory.append([dated(2, "a", kind="exchange", meta={"turns": 1})])
    tag(memory, "a", {"team": "red"})
    tag(memory, "a", {"team": "blue", "year": 2024})
    assert memory.generation == 3
    tag(memory, "a", {"team": "blue", "year": 2024})
    assert memory.generation == 3
    assert memory.sources["a"].meta == {"turns": 1, "tags": {"team": "blue", "year": 2024}}
    assert memory.passing(Filter(where={"team": "blue", "year": 2024})).tolist() == [0, 1]
    assert (memory.sources["a"].complete, memory.sources["a"].kind) == (True, "exchange")
