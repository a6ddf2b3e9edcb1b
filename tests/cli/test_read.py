"""Reading documents into a memory: interruptions, folders, unreadable files, a full disk."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from memspan import load_memory
from memspan.data import documents
from memspan.errors import MemspanError, SystemRefused
from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.store.folder import Folder
from memspan.memory.store.lock import OnWait
from tests.commands import Run, snapshot
from tests.tiny import logbook


def test_reading_that_was_interrupted_goes_on(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["read", "log.txt", "--model", str(tiny_model), "--threads", "1", "--into"]
    manifest = tmp_path / "stopped" / "manifest.json"
    for volumes in (3, 6, 12, 24, 48, 96):  # the reading may be over before the signal is sent
        book = "\n\n".join(f"Volume {number}\n\n{logbook()}" for number in range(volumes))
        (tmp_path / "log.txt").write_text(book, "utf-8")
        interrupted = subprocess.Popen(
            [sys.executable, "-m", "memspan", *arguments, "stopped"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
        )
        while interrupted.poll() is None and not (manifest.exists() and '"tokens":' in manifest.read_text("utf-8")):
            time.sleep(0.005)
        interrupted.send_signal(signal.SIGINT)
        _, message = interrupted.communicate()
        if interrupted.returncode != 0:
            break
        shutil.rmtree(tmp_path / "stopped")
    assert interrupted.returncode == 130, message
    *notes, sentence = message.splitlines()
    assert all("Ctrl-C keeps what was read" in note for note in notes)  # on a busy machine the reading may take long
    assert "the same command goes on" in sentence
    stopped = load_memory(tmp_path / "stopped")
    assert stopped.tokens > 0
    assert not stopped.sources["log.txt"].complete
    assert "not read to its end" in run("inspect", "stopped").out
    assert run(*arguments, "stopped").code == 0
    assert run(*arguments, "whole").code == 0
    assert snapshot(tmp_path / "stopped") == snapshot(tmp_path / "whole")
    whole = load_memory(tmp_path / "whole")
    for block, expected in zip(load_memory(tmp_path / "stopped").blocks(), whole.blocks(), strict=False):
        shared = min(len(block.keys), len(expected.keys))
        assert (
            np.mean(block.keys[:shared] == expected.keys[:shared]) > 0.99
        )  # batches of another size round differently


def test_folders_tell_what_was_skipped_and_what_is_known(run: Run, library: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("Anchors.", "utf-8")
    (notes / "b.bin").write_bytes(bytes(100))
    first = run("read", "notes", "log.txt", "--into", "library")
    assert first.code == 0
    assert "skipped: notes/b.bin is binary" in first.err
    assert "already read: log.txt" in first.err
    assert "Read 1 document" in first.out
    assert "nothing new" in run("read", "notes", "--into", "library").out


def test_what_cannot_be_read_does_not_keep_from_reading_the_rest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "log.txt").write_text("Anchors.", "utf-8")
    outcome = run("read", "empty.txt", "log.txt", "--into", "library")
    assert outcome.code == 1
    assert outcome.err.startswith("warning: empty.txt is empty")
    assert list(load_memory(tmp_path / "library").sources) == ["log.txt"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (bytes(range(256)) * 8, "is binary"),
        ("Où est le garçon ? Là-bas, à côté de la forêt.\n".encode("cp1252") * 20, "--encoding"),
    ],
    ids=["empty", "binary", "wrong encoding"],
)
def test_an_unreadable_file(run: Run, library: Path, tmp_path: Path, content: bytes, told: str) -> None:
    before = snapshot(library)
    (tmp_path / "bad.txt").write_bytes(content)
    outcome = run("read", "bad.txt", "--into", "library")
    assert outcome.code == 2
    assert told in outcome.sentence
    assert snapshot(library) == before
    assert run("read", "bad.txt", "--into", "new").code == 2
    assert not (tmp_path / "new").exists()


def test_a_wrong_encoding_far_down(run: Run, library: Path, tmp_path: Path) -> None:
    text = logbook() * 8
    (tmp_path / "long.txt").write_bytes(text.encode() + b"\xe9t\xe9 \xe0 la for\xeat\n" * 9)
    outcome = run("read", "long.txt", "--into", "library")
    assert outcome.code == 2
    assert "is not valid UTF-8 in line" in outcome.sentence
    assert not load_memory(library).sources["long.txt"].complete
    (tmp_path / "long.txt").write_bytes(text.encode())
    assert run("read", "long.txt", "--into", "library").code == 0
    assert load_memory(library).sources["long.txt"].characters == len(text)


def test_a_full_disk(run: Run, library: Path, tmp_path: Path) -> None:
    before = snapshot(library)
    (tmp_path / "long.txt").write_text(logbook() * 3, "utf-8")

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        outcome = run("read", "long.txt", "--into", "library")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.code == 1
    assert "cannot write" in outcome.sentence
    assert "0 tokens read and kept; the same command goes on from there" in outcome.sentence
    assert snapshot(library) == before
    assert run("read", "long.txt", "--into", "library").code == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=str
)
def test_a_signal_ends_a_reading_in_order(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("Anchors.", "utf-8")
    encode = KeyEncoder.encode
    calls = iter([lambda: None, lambda: signal.raise_signal(number)])

    def stopped(self: KeyEncoder, *arguments: object) -> object:
        next(calls)()
        return encode(self, *arguments)  # type: ignore[arg-type]

    handlers = [signal.getsignal(other) for other in (signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context() as patch:
        patch.setattr(KeyEncoder, "encode", stopped)
        outcome = run("read", "a.txt", "b.txt", "--into", "library")
    assert outcome.code == code
    tokens = load_memory(tmp_path / "library").tokens
    assert outcome.err == f"interrupted: {tokens} tokens read and kept; the same command goes on from there\n"
    assert [signal.getsignal(other) for other in (signal.SIGTERM, signal.SIGHUP)] == handlers
    assert "Read 1 document" in run("read", "a.txt", "b.txt", "--into", "library").out


def test_a_signal_in_the_middle_of_a_commit_is_counted_by_what_the_folder_holds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("Anchors.", "utf-8")
    publish = Folder.publish

    def stopped(self: Folder, *arguments: object) -> None:
        publish(self, *arguments)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "publish", stopped)
        outcome = run("read", "a.txt", "--into", "library")
    assert outcome.code == 143
    assert outcome.err.startswith(f"interrupted: {load_memory(tmp_path / 'library').tokens} tokens read and kept")
    assert load_memory(tmp_path / "library").tokens > 0
    assert "nothing new" in run("read", "a.txt", "--into", "library").out


def failing(monkeypatch: pytest.MonkeyPatch, error: MemspanError) -> None:
    """Let the second text that is encoded fail."""
    encode, calls = KeyEncoder.encode, iter(range(99))

    def fails(self: KeyEncoder, *arguments: object) -> object:
        if next(calls) == 1:
            raise error
        return encode(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyEncoder, "encode", fails)


def test_a_document_that_fails_leaves_the_others_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("Anchors.", "utf-8")
    failing(monkeypatch, MemspanError("The model computed numbers that are not finite."))
    outcome = run("read", "a.txt", "b.txt", "c.txt", "--into", "library")
    assert (outcome.code, outcome.err) == (1, "warning: The model computed numbers that are not finite.\n")
    assert "Read 2 documents" in outcome.out
    assert list(load_memory(tmp_path / "library").sources) == ["a.txt", "c.txt"]


def test_a_memory_that_fails_ends_the_reading_and_says_what_was_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("Anchors.", "utf-8")
    failing(monkeypatch, SystemRefused("cannot write library: no space. Free some space and try again."))
    outcome = run("read", "a.txt", "b.txt", "c.txt", "--into", "library")
    tokens = load_memory(tmp_path / "library").tokens
    kept = f"{tokens} tokens read and kept; the same command goes on from there."
    assert outcome.code == 1
    assert outcome.sentence == f"error: cannot write library: no space. Free some space and try again. {kept}"
    assert list(load_memory(tmp_path / "library").sources) == ["a.txt"]


def test_an_unchanged_file_is_compared_on_request(
    run: Run, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "SETTLED_NS", 0)
    assert run("read", "log.txt", "--as", "again", "--into", "library").code == 0
    recorded = dict(load_memory(library).sources["again"].meta)
    assert list(recorded) == ["file"]
    monkeypatch.setattr(documents, "_file_state", lambda source: recorded["file"])  # as if no time had passed
    (tmp_path / "log.txt").write_text("Another text, in the same file.", "utf-8")
    assert "nothing new" in run("read", "log.txt", "--as", "again", "--into", "library").out
    checked = run("read", "log.txt", "--as", "again", "--into", "library", "--check")
    assert "what was read before under this name" in checked.sentence


def test_a_reading_waits_for_another_writer_and_says_for_whom(
    run: Run, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more.txt").write_text("Anchors.", "utf-8")
    lock, waits = Folder.lock, []

    def waiting(self: Folder, seconds: float | None = 0, on_wait: OnWait | None = None) -> AbstractContextManager[None]:
        if on_wait is not None:
            waits.append(seconds)
            on_wait(None)
        return lock(self, seconds, on_wait)

    monkeypatch.setattr(Folder, "lock", waiting)
    outcome = run("read", "more.txt", "--into", "library")
    assert (outcome.code, waits) == (0, [None])
    assert outcome.err.startswith("waiting for another process, which writes to this memory")


def test_a_changed_document_takes_the_position_of_its_earlier_text(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("The boat is green.\n", "utf-8")
    (tmp_path / "other.md").write_text("The oil is low.\n", "utf-8")
    arguments = ["read", "notes.md", "other.md", "--into", "m", "--model", str(tiny_model)]
    assert run(*arguments).code == 0
    (tmp_path / "notes.md").write_text("The boat is red now.\n", "utf-8")
    assert "--update" in run(*arguments).err
    assert [text for _, text, _ in snapshot(tmp_path / "m")] == ["The boat is green.\n", "The oil is low.\n"]
    assert run(*arguments, "--update").code == 0
    assert [text for _, text, _ in snapshot(tmp_path / "m")] == ["The oil is low.\n", "The boat is red now.\n"]
    assert load_memory(tmp_path / "m").sources["notes.md"].complete
