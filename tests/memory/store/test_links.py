"""Links inside a memory: nothing is read, listed, written or deleted through one, whoever put it there."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memspan.errors import DamagedMemory
from memspan.memory import Memory, load_memory
from memspan.memory.store import files
from memspan.memory.store.folder import Folder
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores
from tests.memory.store.changes import refusal


@pytest.fixture(params=[True, False], ids=["descriptors", "paths"])
def by_descriptor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether names are looked up in an open folder, as this system can, or by whole paths, as on Windows."""
    monkeypatch.setattr(files, "BY_DESCRIPTOR", request.param and files.BY_DESCRIPTOR)
    return request.param


@pytest.fixture
def path(quick_path: Path, by_descriptor: bool) -> Path:
    """A memory of two shards with a stored index, and a folder of somebody's model beside it."""
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one two three four", added=1.0)])
    memory.append([encoded("five six", source="b", added=2.0)])
    word_scores(memory, ["one"])
    victim = quick_path / "victim"
    victim.mkdir()
    (victim / "model.safetensors").write_text("weights")
    (victim / f"{'0' * 32}.safetensors").write_text("weights with an odd name")
    (victim / f".{'0' * 32}.safetensors.{'0' * 8}.tmp").write_text("half of them")
    (victim / ".manifest.json.00000000.tmp").write_text("half of a manifest")
    return quick_path / "m"


def tree(path: Path) -> dict[str, object]:
    """Everything below a path that is not a memory: contents, links and modes."""
    return {
        str(entry): (os.readlink(entry) if entry.is_symlink() else entry.read_bytes() if entry.is_file() else "folder",
                     entry.lstat().st_mode)
        for entry in sorted(path.rglob("*"))
    }  # fmt: skip


def everything(path: Path, memory: Memory) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every operation on the folder of a memory, by objects that were made before and after it was attacked."""
    other = Memory(FINGERPRINT)
    other.append([encoded("merged", source="other")])
    spare = path.with_name("spare")
    yield "load", lambda: load_memory(path)
    yield "open", lambda: Memory.open(path, FINGERPRINT)
    yield "save to", lambda: other.save(path)
    yield "fork to", lambda: other.fork(path)
    yield "clean", lambda: Folder(path).clean()
    yield "append", lambda: memory.append([encoded("x", source="x")])
    yield "forget", lambda: memory.forget("a")
    yield "merge", lambda: memory.merge(other)
    yield "fork from", lambda: memory.fork(spare / "fork")
    yield "save from", lambda: memory.save(spare / "saved")
    yield "nbytes", lambda: memory.nbytes
    yield "inspect", memory.inspect
    yield "search", lambda: word_scores(memory, ["one", "five"])
    yield "refresh", memory.refresh


def linked_parts(path: Path) -> None:
    for part in (path / "parts").iterdir():
        part.rename(path.with_name("victim") / part.name)
    (path / "parts").rmdir()
    (path / "parts").symlink_to("../victim")


def linked_parts_without_shards(path: Path) -> None:
    shutil.rmtree(path / "parts")
    (path / "parts").symlink_to(path.with_name("victim"))


def linked_parts_of_an_unfinished_memory(path: Path) -> None:
    linked_parts(path)
    (path / "unfinished").write_text("")


def linked_parts_without_a_manifest(path: Path) -> None:
    linked_parts(path)
    (path / "manifest.json").unlink()


def linked_folder(path: Path) -> None:
    for entry in path.iterdir():
        entry.rename(path.with_name("victim") / entry.name)
    path.rmdir()
    path.symlink_to("victim")


def link_to(name: str) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to("../victim/model.safetensors")

    return put


def dangling_link(name: str) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to("../victim/new")

    return put


ATTACKS = {
    "parts": linked_parts,
    "parts without shards": linked_parts_without_shards,
    "parts of an unfinished memory": linked_parts_of_an_unfinished_memory,
    "parts without a manifest": linked_parts_without_a_manifest,
    **{name: link_to(name) for name in ("lock", "manifest.json", "search.sqlite", "search.json", "unfinished")},
    **{f"no {name}": dangling_link(name) for name in ("lock", "manifest.json", "search.sqlite", "search.json")},
    "a temporary file": link_to(".search.json.00000000.tmp"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_operation_goes_through_a_link(path: Path, attack: str) -> None:
    memory = load_memory(path)
    ATTACKS[attack](path)
    victim = tree(path.with_name("victim"))
    for name, operation in everything(path, memory):
        refused = refusal(operation)
        assert refused is None or str(path.parent) in str(refused) or "no source matches" in str(refused), name
        assert tree(path.with_name("victim")) == victim, name


@pytest.mark.parametrize("attack", ["parts", "parts without shards"])
def test_a_linked_folder_of_shards_is_refused_with_the_way_out(path: Path, attack: str) -> None:
    ATTACKS[attack](path)
    for operation in (load_memory, lambda path: Memory.open(path, FINGERPRINT), lambda path: Folder(path).clean()):
        with pytest.raises(DamagedMemory, match=r"m/parts is a link, .* move to another disk as a whole"):
            operation(path)


def test_a_folder_that_became_a_link_is_refused(path: Path) -> None:
    """The path was no link when the memory was opened: whoever put one there leads its writer elsewhere."""
    memory = load_memory(path)
    linked_folder(path)
    victim = tree(path.with_name("victim"))
    for operation in (
        lambda: memory.append([encoded("x", source="x")]),
        lambda: memory.forget("a"),
        memory.refresh,
        lambda: memory.nbytes,
    ):
        with pytest.raises(DamagedMemory, match="m is a link"):
            operation()
        assert tree(path.with_name("victim")) == victim
    assert word_scores(memory, ["one"])[0] > 0
    assert tree(path.with_name("victim")) == victim


def test_the_path_of_a_memory_may_lead_through_links(path: Path) -> None:
    before = contents_of(load_memory(path))
    (path.parent / "way").symlink_to(path.parent)
    (path.parent / "direct").symlink_to("way/m")
    for way in (path.parent / "direct", path.parent / "way" / "m"):
        memory = Memory.open(way, FINGERPRINT)
        assert contents_of(memory) == before
        memory.append([encoded("x", source="x", added=3.0)])
        assert memory.forget("x") == ["x"]
        assert contents_of(load_memory(path)) == before


@pytest.mark.parametrize("name", ["parts", "m"])
@pytest.mark.skipif(not files.BY_DESCRIPTOR, reason="there is a moment between the look at a folder and its use")
@pytest.mark.parametrize("by_descriptor", [True], indirect=True, ids=["descriptors"])
@pytest.mark.parametrize("call", ["open", "unlink", "replace", "lstat", "listdir"])
def test_a_link_that_is_there_only_during_a_call_of_the_system_leads_nowhere(
    path: Path, name: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is moved away and a link put in its place just before a file is looked up in it."""
    folder, away = path if name == "m" else path / name, path.with_name("away")
    memory, victim, real, swaps = load_memory(path), tree(path.with_name("victim")), getattr(os, call), []

    def swapped(*args: object, **keywords: object) -> object:
        if not isinstance(args[0], int) and keywords.get("dir_fd", keywords.get("src_dir_fd")) is None:
            return real(*args, **keywords)  # the opening of the folder itself
        swaps.append(args)
        folder.rename(away)
        folder.symlink_to(path.with_name("victim"))
        try:
            return real(*args, **keywords)
        finally:
            folder.unlink()
            away.rename(folder)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, swapped)
        refusal(lambda: memory.append([encoded("x", source="x")]))
        refusal(lambda: memory.forget("a"))
    assert swaps
    assert tree(path.with_name("victim")) == victim


def test_only_names_that_memspan_gives_are_deleted(path: Path) -> None:
    mine = [
        "model.safetensors",
        "0123.safetensors",
        f"{'A' * 32}.safetensors",
        ".notes.tmp",
        ".x.safetensors.00000000.tmp",
    ]
    for name in [*mine, "manifest.json"]:
        (path / "parts" / name).write_text("precious")
    for name in [*mine, f"{'0' * 32}.safetensors", f".notes.{'0' * 8}.tmp", ".manifest.json.0.tmp"]:
        (path / name).write_text("precious")
    before = {name: entry for name, entry in tree(path).items() if entry[0] == b"precious"}
    assert len(before) == 14
    memory = Memory.open(path, FINGERPRINT)
    memory.append([encoded("x", source="x")])
    memory.forget("x")
    assert {name: entry for name, entry in tree(path).items() if entry[0] == b"precious"} == before
    (path / "unfinished").write_text("")
    Memory(FINGERPRINT).save(path)
    assert {name: entry for name, entry in tree(path).items() if entry[0] == b"precious"} == before
