"""Reading documents into a memory: interruptions, folders, unreadable files, a full disk."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from memspan import load_memory
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
    assert message.count("\n") == 1
    assert "the same command goes on" in message
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
    assert snapshot(library) == before
    assert run("read", "long.txt", "--into", "library").code == 0
