"""Memory folders from strangers: a typed error, or the contents as they were; nothing outside the folder changes."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memspan.errors import MemspanError
from memspan.memory import Memory, load_memory
from tests.memory import hostile
from tests.memory.hostile import HOSTILE, Attack, prepare
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores

WORDS = ["two", "six", "seven"]
HARMLESS = {  # damage to what is only a cache, or to what is not read
    "for lock", "for search.sqlite", "for search.json", "index", "stamp", "names that memspan", "folders for shards"
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory to be copied."""
    path = tmp_path_factory.mktemp("hostile") / "m"
    prepare(path)
    return path


@pytest.fixture(scope="module")
def expected(prepared: Path) -> dict[str, Any]:
    return contents(load_memory(prepared))


def contents(memory: Memory) -> dict[str, Any]:
    return {**contents_of(memory), "found": word_scores(memory, WORDS), "refreshed": memory.refresh()}


def surroundings(path: Path) -> dict[str, Any]:
    """All that lies next to the folder of the memory."""
    return {
        str(entry): (entry.lstat().st_mode, entry.read_bytes() if stat.S_ISREG(entry.lstat().st_mode) else None)
        for entry in sorted(path.parent.rglob("*"))
        if not entry.is_relative_to(path)
    }


def merged_from(path: Path) -> Memory:
    memory = Memory(FINGERPRINT)
    memory.merge(load_memory(path))
    return memory


def attempted(act: Callable[[Path], Any], path: Path) -> tuple[MemspanError | None, Any]:
    """The error that it raises, or what it returns."""
    try:
        return None, act(path)
    except MemspanError as error:
        return error, None


@pytest.mark.parametrize(("name", "attack"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_a_hostile_folder_ends_in_a_typed_error_or_in_its_contents(
    prepared: Path, expected: dict[str, Any], quick_path: Path, name: str, attack: Attack
) -> None:
    path = quick_path / "m"
    shutil.copytree(prepared, path)
    attack(path)
    before = surroundings(path)
    is_harmless = any(part in name for part in HARMLESS)
    for attempt in (load_memory, merged_from):
        refused, memory = attempted(attempt, path)
        assert (refused is None) == is_harmless, refused
        assert memory is None or contents(memory) == expected
    refused, memory = attempted(lambda path: Memory.open(path, FINGERPRINT), path)
    if name.endswith("for unfinished"):  # such a folder holds nothing yet, and is filled
        assert refused is not None or len(memory) == 0
    else:
        assert (refused is None) == is_harmless, refused
        assert memory is None or contents(memory) == expected
    for change in (
        lambda path: Memory.load(path).append([encoded("new", source="new")]),
        lambda path: Memory.load(path).forget("a"),
    ):
        refused, _ = attempted(change, path)
        assert refused is None or not is_harmless or name.endswith("for lock"), refused
    assert surroundings(path) == before


def test_the_tools_of_the_hostile_forge_what_is_accepted_where_nothing_is_changed(
    prepared: Path, quick_path: Path
) -> None:
    """Otherwise every case would be refused for the same, uninteresting reason."""
    for number, neutral in enumerate(
        (hostile.manifest(), hostile.fingerprint(), hostile.entry(), hostile.shard(lambda arrays: None), hostile.record(),
         hostile.header(lambda entries: entries), hostile.sources(lambda records: records), hostile.text(0, "ö".encode()))
    ):  # fmt: skip
        path = quick_path / str(number)
        shutil.copytree(prepared, path)
        neutral(path)
        assert contents(load_memory(path)) == contents(load_memory(prepared)), number
    hostile.extended(lambda arrays: None)(path)
    marks = [dict(marks) for marks in load_memory(path).snapshot.marks()]
    assert marks[:3] == [{"page": 1}, {"page": 1, "title": "x"}, {"title": "x"}]


def test_there_are_many_cases_and_each_has_a_name() -> None:
    assert len({name for name, _ in HOSTILE}) == len(HOSTILE) >= 140
