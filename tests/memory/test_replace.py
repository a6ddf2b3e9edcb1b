"""Replacing sources: one commit, in which the old text is gone for good and all other text stays as it is."""

from pathlib import Path

import pytest

from memspan.errors import UsageError
from memspan.memory import Memory
from memspan.memory.store.kept import kept_texts
from tests.memory.make import FINGERPRINT, contents_of, encoded, scores_of_new_index, word_scores


def filled(path: Path | None) -> Memory:
    memory = Memory(FINGERPRINT) if path is None else Memory.open(path, FINGERPRINT)
    memory.append([encoded("one two three four five six seven", "a"), encoded("eight nine", "b")])
    memory.append([encoded("ten eleven twelve", "c", complete=False)])
    memory.append([encoded(" thirteen", "c", start=17)])
    return memory


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_source_is_replaced_in_one_commit(tmp_path: Path, on_disk: bool) -> None:
    memory = filled(tmp_path / "m" if on_disk else None)
    generation, lineage = memory.generation, memory.snapshot.lineage
    before = {name: memory.sources[name] for name in ("a", "c")}
    assert word_scores(memory, ["eight"]) != [0] * len(memory)
    memory.replace(["b"], [encoded("fourteen fifteen sixteen seventeen", "b")])
    assert memory.generation == generation + 1
    assert memory.snapshot.lineage != lineage
    assert list(memory.sources) == ["a", "c", "b"]
    assert {name: memory.sources[name] for name in ("a", "c")} == before
    texts = [memory.passage(number).text for number in memory.passages_of("b")]
    assert "".join(texts) == "fourteen fifteen sixteen seventeen"
    assert word_scores(memory, ["eight"]) == [0] * len(memory)
    assert word_scores(memory, ["fifteen"]) == scores_of_new_index(memory, ["fifteen"])
    if on_disk:
        assert contents_of(Memory.load(tmp_path / "m")) == contents_of(memory)
        assert not any(b"eight nine" in file.read_bytes() for file in (tmp_path / "m").rglob("*") if file.is_file())


def test_sources_can_be_replaced_by_nothing() -> None:
    memory = filled(None)
    memory.replace(["a", "c"], [])
    assert list(memory.sources) == ["b"]


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_text_can_take_the_position_of_the_source(tmp_path: Path, on_disk: bool, name: str) -> None:
    memory = filled(tmp_path / "m" if on_disk else None)
    memory.append([encoded("last of all", "d")])
    before = {other: [memory.passage(number).text for number in memory.passages_of(other)] for other in memory.sources}
    memory.replace([name], [encoded("fourteen fifteen", name)], in_position=True)
    assert list(memory.sources) == ["a", "b", "c", "d"]
    after = {other: [memory.passage(number).text for number in memory.passages_of(other)] for other in memory.sources}
    assert {**after, name: before[name]} == before
    assert "".join(after[name]) == "fourteen fifteen"
    assert word_scores(memory, ["fifteen"]) == scores_of_new_index(memory, ["fifteen"])
    if on_disk:
        assert contents_of(Memory.load(tmp_path / "m")) == contents_of(memory)
        removed = "".join(before[name]).encode()
        assert not any(removed in file.read_bytes() for file in (tmp_path / "m").rglob("*") if file.is_file())


def test_files_without_the_source_stay_as_they_are(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "m", FINGERPRINT)
    memory.append([encoded(" ".join(f"word{number}" for number in range(9000)), "large")])
    memory.append([encoded("small text", "small")])
    (large,) = [shard.file.name for shard in memory.snapshot.shards if "large" in shard.sources and shard.file]
    written = (tmp_path / "m" / "parts" / large).stat()
    memory.replace(["small"], [encoded("another small text", "small")])
    now = (tmp_path / "m" / "parts" / large).stat()
    assert (now.st_ino, now.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


@pytest.mark.parametrize(
    ("sources", "texts", "message"),
    [
        (["nobody"], [], "no source has the name 'nobody'"),
        (["b"], [encoded("text", "b", start=4)], "has been read up to character 0"),
        ("b", [], "`sources` must be a list of names of sources, got str"),
        (["b"], [encoded("text", "a")], "has been read up to character"),
    ],
)
def test_a_refused_replacement_changes_nothing(sources: list[str], texts: list, message: str) -> None:
    memory = filled(None)
    before = contents_of(memory)
    with pytest.raises(UsageError, match=message):
        memory.replace(sources, texts)
    assert contents_of(memory) == before


def test_forks_keep_what_is_replaced(tmp_path: Path) -> None:
    memory = filled(tmp_path / "m")
    fork = memory.fork(tmp_path / "fork")
    before = contents_of(fork)
    memory.replace(["a"], [encoded("new", "a")])
    assert contents_of(Memory.load(tmp_path / "fork")) == before


def test_kept_passages_are_appended_as_they_were() -> None:
    memory = filled(None)
    memory.append([encoded("more of something else", "d"), encoded(" and the end", "c2")])
    for source in ("a", "c"):
        numbers = memory.passages_of(source)
        twin = Memory(FINGERPRINT)
        twin.append(list(kept_texts(memory.snapshot, numbers, 0)))
        for new, old in enumerate(numbers):
            assert twin.ids(new).tolist() == memory.ids(old).tolist()
            kept, original = twin.passage(new), memory.passage(old)
            assert (kept.text, kept.start, kept.end, kept.added) == (
                original.text,
                original.start,
                original.end,
                original.added,
            )
        keys = [block.keys for block in twin.blocks()]
        of_source = [shard.keys[: len(shard.ids)] for shard in twin.snapshot.shards]
        assert [key.tolist() for key in keys] == [key.tolist() for key in of_source]


def test_the_end_of_a_source_is_kept_at_another_start() -> None:
    memory = filled(None)
    numbers = memory.passages_of("a")
    texts = list(kept_texts(memory.snapshot, numbers[1:], 100))
    assert [text.start for text in texts] == [100]
    assert texts[0].text == "four five six seven"
    assert texts[0].passages[0].tolist()[:3] == [0, 3, 0]
