"""The laws of a library: owners are strangers, names are no paths, one writer at a time, and RAM stays within its budget."""

import gc
import os
import shutil
import threading
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspan import LanguageModel, Library, Memory, load_memory
from memspan.errors import ForeignMemory, MemoryLocked, UnknownMemory, UsageError
from memspan.serve.library import LOCAL, OPEN_BYTES
from memspan.serve.names import is_name, is_owner
from tests.memory.make import FINGERPRINT

PATHS = [
    "",
    ".",
    "..",
    "../b/secret",
    "..\\b\\secret",
    "/etc/passwd",
    "//etc/passwd",
    "C:\\secret",
    "a/b",
    "a\\b",
    "a\0",
    "a\n",
    "%2e%2e%2fb",
    "..%2fb",
    "a:b",
    ".hidden",
    ".deleted-00",
    "~",
    "~root",
    "$HOME",
    "a*",
    "a?",
    "con",
    "NUL.txt",
    "com1",
    "a.",
    "a ",
    " a",
    "a  b",
    "-rf",
    "\u202ea",
    "e\u0301",  # not normalised: another spelling of a name that looks the same
    "\ud800",
    "a" * 81,
    "字" * 80,
]


def read(library: Library, owner: str, name: str, text: str) -> None:
    library.create(owner, name)
    with library.lease(owner, name) as memory:
        library.lm.read(text, memory, source="text")


def test_a_memory_is_made_opened_listed_and_deleted(library: Library) -> None:
    assert library.names(LOCAL) == []
    read(library, LOCAL, "notes", "The zinc trunk stands in the boathouse.")
    library.create(LOCAL, "2 日记.mem")
    assert library.names(LOCAL) == ["2 日记.mem", "notes"]
    memory = library.open(LOCAL, "notes")
    assert list(memory.sources) == ["text"]
    assert library.open(LOCAL, "notes") is memory
    with pytest.raises(UsageError, match="already"):
        library.create(LOCAL, "notes")
    library.delete(LOCAL, "notes")
    assert library.names(LOCAL) == ["2 日记.mem"]
    with pytest.raises(UnknownMemory):
        library.open(LOCAL, "notes")
    assert sorted(os.listdir(library.root / LOCAL)) == ["2 日记.mem"]


def test_what_was_written_is_on_disk_and_seen_by_another_library(library: Library) -> None:
    read(library, LOCAL, "notes", "The zinc trunk stands in the boathouse.")
    other = Library(library.root, library.lm)
    assert other.open(LOCAL, "notes").sources.keys() == {"text"}
    with other.lease(LOCAL, "notes") as memory:
        library.lm.remember(memory, "The key hangs by the door.", source="key")
    assert "key" in library.open(LOCAL, "notes").sources
    other.delete(LOCAL, "notes")
    with pytest.raises(UnknownMemory):
        library.open(LOCAL, "notes")
    other.create(LOCAL, "notes")
    assert library.open(LOCAL, "notes").sources == {}


def test_a_foreign_memory_equals_a_missing_one(library: Library) -> None:
    read(library, "a", "diary", "The zinc trunk stands in the boathouse.")
    read(library, "b", "notes", "The pump is in the cellar.")
    assert library.names("a") == ["diary"]
    assert library.names("b") == ["notes"]
    for act in (
        library.open,
        library.delete,
        lambda *key: library.fork(*key, "copy"),
        lambda *key: lease(library, *key),
    ):
        sentences = []
        for name in ("diary", "nothing"):
            with pytest.raises(UnknownMemory) as raised:
                act("b", name)
            sentences.append(str(raised.value).replace(name, "NAME"))
        assert sentences[0] == sentences[1]
        assert str(library.root) not in sentences[0]
    assert library.names("b") == ["notes"]
    library.create("b", "diary")
    assert library.open("b", "diary").sources == {}
    library.delete("b", "diary")
    assert library.names("a") == ["diary"]


def lease(library: Library, owner: str, name: str) -> None:
    with library.lease(owner, name):
        pass


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_no_name(library: Library, path: str) -> None:
    read(library, "b", "secret", "The pump is in the cellar.")
    before = sorted(library.root.rglob("*"))
    for act in (library.open, library.delete, lambda *key: lease(library, *key)):
        with pytest.raises(UnknownMemory, match="There is no memory"):
            act("a", path)
        with pytest.raises(UnknownMemory, match="There is no memory"):
            act(path, "secret")
    for owner, name in (("a", path), (path, "secret")):
        with pytest.raises(UsageError, match="must be from 1 to"):
            library.create(owner, name)
    with pytest.raises(UsageError, match="must be from 1 to"):
        library.fork("b", "secret", path)
    assert sorted(library.root.rglob("*")) == before


@given(st.text(max_size=30))
def test_a_name_is_the_name_of_one_folder(name: str) -> None:
    if is_name(name):
        assert Path("root", name).parts == ("root", name)
        assert Path("root", name).resolve().parent == Path("root").resolve()
    if is_owner(name):
        assert name == name.lower()
        assert is_name(name)


def test_links_lead_out_of_the_library(library: Library, tmp_path: Path) -> None:
    library.lm.new_memory(tmp_path / "outside")
    library.create("a", "inside")
    (library.root / "a" / "link").symlink_to(tmp_path / "outside")
    (library.root / "b").symlink_to(library.root / "a")
    assert library.names("a") == ["inside"]
    for owner, name in (("a", "link"), ("b", "inside")):
        with pytest.raises(UnknownMemory):
            library.open(owner, name)
        with pytest.raises(UnknownMemory):
            library.delete(owner, name)
    assert load_memory(tmp_path / "outside").sources == {}


def test_a_fork_shares_bytes_and_goes_its_own_way(library: Library) -> None:
    read(library, "a", "notes", "The zinc trunk stands in the boathouse. " * 200)
    alone = library.nbytes("a")
    library.fork("a", "notes", "draft")
    assert alone < library.nbytes("a") < 1.5 * alone
    with library.lease("a", "draft") as memory:
        library.lm.remember(memory, "The key hangs by the door.", source="key")
    assert list(library.open("a", "notes").sources) == ["text"]
    library.delete("a", "notes")
    assert list(library.open("a", "draft").sources) == ["text", "key"]
    assert library.nbytes("b") == 0
    with pytest.raises(UsageError, match="already"):
        library.fork("a", "draft", "draft")


def test_the_least_recently_used_is_let_go(library: Library) -> None:
    for name in "xyz":
        library.create(LOCAL, name)
    size = library.open(LOCAL, "x").nbytes + OPEN_BYTES
    library.ram_bytes = 2 * size
    references = {name: weakref.ref(library.open(LOCAL, name)) for name in "xyz"}
    gc.collect()
    assert [name for name, reference in references.items() if reference() is not None] == ["y", "z"]
    assert library.open_bytes == 2 * size
    library.open(LOCAL, "y")
    library.open(LOCAL, "x")
    gc.collect()
    assert references["y"]() is not None
    assert references["z"]() is None


def test_what_a_lease_adds_counts_at_once_and_an_empty_memory_does_too(library: Library) -> None:
    library.create(LOCAL, "x")
    library.create(LOCAL, "y")
    library.open(LOCAL, "y")
    with library.lease(LOCAL, "x") as memory:
        empty = library.open_bytes
        library.lm.remember(memory, "The lamp is lit at dusk. " * 50, source="text")
    assert empty >= 2 * OPEN_BYTES
    assert library.open_bytes == memory.nbytes + library.open(LOCAL, "y").nbytes + 2 * OPEN_BYTES > empty
    library.ram_bytes = library.open_bytes - 1
    with library.lease(LOCAL, "x") as memory:
        library.lm.remember(memory, "The relief is in the bay. " * 50, source="more")
    assert library.open_bytes == memory.nbytes + OPEN_BYTES  # the other was let go
    with library.lease(LOCAL, "x"):
        library.delete(LOCAL, "x")
    assert library.open_bytes == 0


def test_a_memory_in_use_is_the_same_for_everybody(lm: LanguageModel, tmp_path: Path) -> None:
    library = Library(tmp_path, lm, ram_bytes=0)
    library.create(LOCAL, "x")
    library.create(LOCAL, "y")
    held = library.open(LOCAL, "x")
    with library.lease(LOCAL, "y") as leased:
        assert library.open_bytes >= leased.nbytes
        library.open(LOCAL, "x")
        assert library.open(LOCAL, "x") is held
        assert library.open(LOCAL, "y") is leased
    assert library.open_bytes == 0
    assert library.open(LOCAL, "x") is held


def test_one_writer_at_a_time(library: Library) -> None:
    library.create(LOCAL, "x")
    library.create(LOCAL, "y")
    library.lease_seconds = 0.05
    entered, leave, outcome = threading.Event(), threading.Event(), []

    def write() -> None:
        with library.lease(LOCAL, "x"):
            entered.set()
            leave.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    entered.wait(30)
    try:
        for act in (lambda: lease(library, LOCAL, "x"), lambda: library.delete(LOCAL, "x")):
            with pytest.raises(MemoryLocked, match="being changed by another request"):
                act()
        library.open(LOCAL, "x")
        lease(library, LOCAL, "y")
    finally:
        leave.set()
        writer.join()
    with library.lease(LOCAL, "x"), library.lease(LOCAL, "x") as memory:
        outcome.append(memory)
    library.delete(LOCAL, "x")
    assert outcome


def test_writers_and_readers_of_many_threads_lose_nothing(lm: LanguageModel, tmp_path: Path) -> None:
    library = Library(tmp_path, lm, ram_bytes=0)
    owners = ("a", "b")
    for owner in owners:
        library.create(owner, "x")
    failures: list[BaseException] = []

    def write(owner: str, thread: int) -> None:
        try:
            for count in range(5):
                with library.lease(owner, "x") as memory:
                    library.lm.remember(memory, f"{owner} {thread} {count}", source=f"{owner}-{thread}-{count}")
                assert all(name.startswith(owner) for name in library.open(owner, "x").sources)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(owner, number)) for owner in owners for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for owner in owners:
        assert len(library.open(owner, "x").sources) == 15


def test_what_an_interrupted_deletion_left_is_deleted(library: Library) -> None:
    library.create("a", "x")
    os.rename(library.root / "a" / "x", library.root / "a" / ".deleted-0123")
    assert Library(library.root, library.lm).names("a") == []
    assert os.listdir(library.root / "a") == []


def test_a_memory_of_another_model_is_refused(library: Library) -> None:
    Memory(FINGERPRINT).save(library.root / "a" / "foreign")
    assert library.names("a") == ["foreign"]
    with pytest.raises(ForeignMemory):
        library.open("a", "foreign")


def test_one_memory_as_a_library(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no memory at"):
        Library.of_memory(tmp_path / "nothing", library.lm)
    library.lm.read("The zinc trunk.", library.lm.new_memory(tmp_path / "book.mem"), source="text")
    book = Library.of_memory(tmp_path / "book.mem", library.lm)
    assert book.names(LOCAL) == ["book.mem"]
    assert book.names("a") == []
    assert list(book.open(LOCAL, "book.mem").sources) == ["text"]
    with book.lease(LOCAL, "book.mem") as memory:
        library.lm.remember(memory, "The key hangs by the door.", source="key")
    assert book.nbytes(LOCAL) >= memory.nbytes
    with pytest.raises(UnknownMemory):
        book.open("a", "book.mem")
    for act in (
        lambda: book.create(LOCAL, "new"),
        lambda: book.delete(LOCAL, "book.mem"),
        lambda: book.fork(LOCAL, "book.mem", "new"),
    ):
        with pytest.raises(UsageError, match="is one memory"):
            act()
    shutil.copytree(tmp_path / "book.mem", tmp_path / "*.mem")
    with pytest.raises(UsageError, match="name of a memory must be"):
        Library.of_memory(tmp_path / "*.mem", library.lm)
