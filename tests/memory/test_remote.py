"""A memory in a remote store: what is sent and received, what is refused, and what an interruption leaves."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from memspan.errors import DamagedMemory, MemspanError, UsageError
from memspan.memory import Memory, load_memory
from memspan.memory.remote import Remote
from memspan.memory.retention import Rule, keep_rules
from memspan.memory.store.folder import Folder
from memspan.plugins import is_installed
from tests.commands import Run
from tests.memory.make import FINGERPRINT, contents_of, encoded

URL = "memory://store/library.mem"


@pytest.fixture(autouse=True)
def store() -> Iterator[Any]:
    """The files of the store by their paths, which is empty at first."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store.store
    store.store.clear()


def add(path: Path, *sources: str) -> Memory:
    """A memory in a folder, with so many sources more, each in a commit of its own."""
    memory = Memory.open(path, FINGERPRINT)
    for source in sources:
        memory.append([encoded(f"the text of {source} " * 40, source=source)])
    return memory


def parts(store: Any) -> set[str]:
    return {Path(name).stem for name in store if name.endswith(".safetensors")}


def test_what_was_pushed_is_pulled(quick_path: Path, store: Any) -> None:
    ours = add(quick_path / "ours", "a", "b")
    sent = Remote(URL).push(quick_path / "ours")
    assert (sent.files, sent.total) == (len(parts(store)), len(Folder(quick_path / "ours").manifest().shards))
    assert not any(name.endswith((".sqlite", "lock")) for name in store)
    received = Remote(URL).pull(quick_path / "theirs")
    assert received == sent
    theirs = load_memory(quick_path / "theirs")
    assert contents_of(theirs) == contents_of(ours)
    manifests = [Folder(quick_path / name).manifest() for name in ("ours", "theirs")]
    assert manifests[0].lineage != manifests[1].lineage  # both may go on, each in its own way
    assert theirs.word_scores("text of b").tolist() == ours.word_scores("text of b").tolist()
    assert os.stat(quick_path / "theirs" / "manifest.json").st_mode & 0o777 == 0o600


def test_only_what_is_missing_is_moved_and_what_was_forgotten_goes(quick_path: Path, store: Any) -> None:
    ours, other = quick_path / "ours", quick_path / "other"
    memory = add(ours, *(f"{number}" for number in range(6)))
    Remote(URL).push(ours)
    Remote(URL).pull(other)
    memory.append([encoded("one more", source="more")])
    before = parts(store)
    sent = Remote(URL).push(ours)
    assert 0 < sent.files < sent.total
    assert len(parts(store) - before) == sent.files
    received = Remote(URL).pull(other)
    assert (received.files, received.nbytes) == (sent.files, sent.nbytes)
    assert Remote(URL).pull(other).files == Remote(URL).push(ours).files == 0
    held_open = load_memory(other)
    memory.forget("3")
    Remote(URL).push(ours)
    assert parts(store) == {entry.name for entry in Folder(ours).manifest().shards}
    assert not any(b"the text of 3 " in each.getvalue() for each in store.values())
    Remote(URL).pull(other)
    held_open.refresh()
    assert contents_of(load_memory(other)) == contents_of(held_open) == contents_of(memory)
    assert not any(b"the text of 3 " in file.read_bytes() for file in other.rglob("*") if file.is_file())


def test_changes_from_two_sides_are_refused_and_one_side_can_win(quick_path: Path, store: Any) -> None:
    ours, other = quick_path / "ours", quick_path / "other"
    add(ours, "a")
    Remote(URL).push(ours)
    Remote(URL).pull(other)
    add(other, "b")
    assert Remote(URL).push(other).files > 0  # it has what the store has, and more
    add(ours, "c")
    held = dict(store)
    with pytest.raises(UsageError, match="pull it first"):
        Remote(URL).push(ours)
    with pytest.raises(UsageError, match="--replace"):
        Remote(URL).pull(ours)
    assert dict(store) == held
    assert set(load_memory(ours).sources) == {"a", "c"}
    Remote(URL).push(ours, replace=True)
    Remote(URL).pull(other)
    assert set(load_memory(other).sources) == {"a", "c"}


def test_another_memory_is_neither_overwritten_nor_mixed(quick_path: Path) -> None:
    add(quick_path / "one", "a")
    add(quick_path / "two", "b")
    Remote(URL).push(quick_path / "one")
    with pytest.raises(UsageError, match="was not sent from here"):
        Remote(URL).push(quick_path / "two")
    with pytest.raises(UsageError, match="does not have"):
        Remote(URL).pull(quick_path / "two")
    assert set(load_memory(quick_path / "two").sources) == {"b"}
    Remote(f"{URL}2").push(quick_path / "two")  # a place of its own


def test_a_folder_that_is_no_memory_and_a_url_without_one(quick_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no memory at memory://store/nothing"):
        Remote("memory://store/nothing").pull(quick_path / "new")
    assert not (quick_path / "new").exists()
    with pytest.raises(UsageError, match="there is no memory at"):
        Remote(URL).push(quick_path / "new")
    with pytest.raises(UsageError, match="no place that can be used"):
        Remote("nonsense://store/x")


def test_an_interrupted_pull_goes_on_and_holds_nothing_meanwhile(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(quick_path / "ours", "a", "b", "c")
    sent = Remote(URL).push(quick_path / "ours")
    assert sent.files > 1
    read, calls = Remote.blocks_of, []

    def failing(self: Remote, name: str) -> Iterator[bytes]:
        calls.append(name)
        if len(calls) == 2:
            raise MemspanError("the network is gone")
        return read(self, name)

    monkeypatch.setattr(Remote, "blocks_of", failing)
    with pytest.raises(MemspanError, match="network"):
        Remote(URL).pull(quick_path / "theirs")
    with pytest.raises(UsageError, match="interrupted"):
        load_memory(quick_path / "theirs")
    monkeypatch.undo()
    assert Remote(URL).pull(quick_path / "theirs").files == sent.files - 1
    assert contents_of(load_memory(quick_path / "theirs")) == contents_of(load_memory(quick_path / "ours"))


def test_an_interrupted_push_leaves_what_the_store_held(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = add(quick_path / "ours", "a")
    Remote(URL).push(quick_path / "ours")
    before = contents_of(memory)
    memory.append([encoded("b", source="b")])
    send = Remote._send

    def failing(self: Remote, name: str, raw: Any) -> None:
        if name == "manifest.json":
            raise OSError("no route to host")
        send(self, name, raw)

    monkeypatch.setattr(Remote, "_send", failing)
    with pytest.raises(MemspanError, match=r"cannot write to memory://store/library\.mem: OSError: no route to host"):
        Remote(URL).push(quick_path / "ours")
    monkeypatch.undo()
    Remote(URL).pull(quick_path / "theirs")
    assert contents_of(load_memory(quick_path / "theirs")) == before
    Remote(URL).push(quick_path / "ours")


@pytest.mark.parametrize("damage", ["shard", "manifest", "missing"])
def test_a_damaged_store_changes_no_folder(quick_path: Path, store: Any, damage: str) -> None:
    memory = add(quick_path / "ours", "a")
    Remote(URL).push(quick_path / "ours")
    Remote(URL).pull(quick_path / "theirs")
    memory.append([encoded("b", source="b")])
    before = parts(store)
    Remote(URL).push(quick_path / "ours")
    (new,) = parts(store) - before
    name = f"/store/library.mem/{'manifest.json' if damage == 'manifest' else f'parts/{new}.safetensors'}"
    if damage == "missing":
        del store[name]
    else:
        raw = bytearray(store[name].getvalue())
        raw[len(raw) // 2] ^= 1
        fsspec.filesystem("memory").pipe_file(name, bytes(raw))
    with pytest.raises(DamagedMemory):
        Remote(URL).pull(quick_path / "theirs")
    assert set(load_memory(quick_path / "theirs").sources) == {"a"}


def test_rules_of_retention_go_along(quick_path: Path) -> None:
    add(quick_path / "ours", "a")
    keep_rules(Folder(quick_path / "ours"), [Rule(days=30)])
    Remote(URL).push(quick_path / "ours")
    Remote(URL).pull(quick_path / "theirs")
    assert Folder(quick_path / "theirs").read_retention() == Folder(quick_path / "ours").read_retention() is not None


def test_no_password_of_a_url_is_kept_or_shown(quick_path: Path) -> None:
    add(quick_path / "ours", "a")
    remote = Remote("memory://user:secret-word@store/x")
    assert "secret" not in remote.shown
    remote.push(quick_path / "ours")
    assert not any(b"secret-word" in file.read_bytes() for file in (quick_path / "ours").rglob("*") if file.is_file())


def test_a_damaged_record_is_as_none(quick_path: Path) -> None:
    add(quick_path / "ours", "a")
    Remote(URL).push(quick_path / "ours")
    (quick_path / "ours" / "remotes.json").write_text("[", "utf-8")
    add(quick_path / "ours", "b")
    with pytest.raises(UsageError, match="was not sent from here"):
        Remote(URL).push(quick_path / "ours")


def test_the_commands(run: Run, tmp_path: Path) -> None:
    add(tmp_path / "ours", "a")
    url = (tmp_path / "disk" / "copy").as_uri()  # another disk, say
    assert f"{url} holds " in run("push", str(tmp_path / "ours"), url).out
    assert "received" in run("pull", url, str(tmp_path / "theirs")).out
    assert set(load_memory(tmp_path / "theirs").sources) == {"a"}
    add(tmp_path / "theirs", "b")
    run("push", str(tmp_path / "theirs"), url)
    add(tmp_path / "ours", "c")
    assert "--replace" in run("push", str(tmp_path / "ours"), url).sentence
    assert "no place" in run("pull", "nonsense://x", str(tmp_path / "new")).sentence
    assert json.loads((tmp_path / "ours" / "remotes.json").read_text("utf-8"))


@pytest.mark.skipif(not (is_installed("s3fs") and is_installed("moto")), reason="needs s3fs and moto's server")
def test_a_server_of_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "us-east-1")
        add(tmp_path / "lost", "a")
        with pytest.raises(MemspanError, match="s3://library/a"):  # there is no such bucket
            Remote("s3://library/a").push(tmp_path / "lost")
        fsspec.filesystem("s3").mkdir("library")
        memory = add(tmp_path / "ours", "a", "b")
        Remote("s3://library/a").push(tmp_path / "ours")
        Remote("s3://library/a").pull(tmp_path / "theirs")
        memory.forget("a")
        memory.append([encoded("c", source="c")])
        Remote("s3://library/a").push(tmp_path / "ours")
        Remote("s3://library/a").pull(tmp_path / "theirs")
        assert contents_of(load_memory(tmp_path / "theirs")) == contents_of(memory)
        stored = fsspec.filesystem("s3").find("library/a/parts")
        assert len(stored) == len(Folder(tmp_path / "ours").manifest().shards)
    finally:
        process.kill()
        process.wait()
