"""Every document gives its whole text; everything else gives one sentence that says what to do."""

import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from memspan.data.chunking import MAX_CHUNK
from memspan.data.documents import Skipped, open_documents
from memspan.errors import UsageError
from tests.data.files import CHINESE, refusal, written


def test_a_document_has_its_name_size_and_text_and_can_be_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "sea.txt", "high tide\n")
    (document,) = open_documents(["sea.txt"])
    assert (document.source, document.size, document.kind) == ("sea.txt", 10, "document")
    assert "".join(document.chunks()) == "".join(document.chunks()) == "high tide\n"


def test_documents_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    paths = [written(tmp_path / name, name) for name in ("b.txt", "a.md", "noext", "z.LOG")]
    assert [document.source for document in open_documents(paths)] == [str(path) for path in paths]


def test_a_missing_path_is_reported_before_any_document_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file or folder '.*nowhere\.txt'"):
        open_documents([written(tmp_path / "a.txt", "a"), tmp_path / "nowhere.txt"])


@pytest.mark.parametrize("paths", [[], "book.txt", ["-", "-"], ["a\0b"]])
def test_senseless_paths_are_refused(paths: list[str]) -> None:
    with pytest.raises(UsageError):
        open_documents(paths)


def test_a_long_file_comes_in_chunks_of_bounded_size_that_join_to_it(tmp_path: Path) -> None:
    rng = random.Random(3)
    text = "".join(rng.choice(["The sea. ", CHINESE, "\n", "\n\n", "wind "]) for _ in range(60_000))
    (document,) = open_documents([written(tmp_path / "long.md", text)])
    chunks = list(document.chunks())
    assert "".join(chunks) == text
    assert len(chunks) > 3
    assert max(map(len, chunks)) <= MAX_CHUNK
    assert all(chunk.endswith("\n\n") for chunk in chunks[:-1])


CHAT_LINE = json.dumps({"role": "user", "content": CHINESE * 5}, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(("name", "unit"), [("big.txt", "The sea was calm. " * 5 + "\n"), ("big.jsonl", CHAT_LINE)])
def test_memory_stays_bounded_while_reading(tmp_path: Path, name: str, unit: str) -> None:
    with (tmp_path / name).open("w", encoding="utf-8") as file:
        for _ in range(20_000_000 // len(unit.encode())):
            file.write(unit)
    tracemalloc.start()
    try:
        (document,) = open_documents([tmp_path / name])
        assert sum(map(len, document.chunks())) > 6_000_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "closed.txt", "secret")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "chmod" in refusal(path)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert "not a regular file" in refusal(tmp_path / "pipe.txt")


def test_standard_input_is_read_and_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with written(tmp_path / "in", CHINESE * 9000).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        (document,) = open_documents(["-"])
    assert document.source.startswith("stdin-20")
    assert document.size is None
    assert "".join(document.chunks()) == "".join(document.chunks()) == CHINESE * 9000


@pytest.mark.parametrize(("data", "reason"), [(b"", "pipe some text in"), (b" \n", "no text"), (b"a\0b", "binary")])
def test_bad_standard_input_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str
) -> None:
    with written(tmp_path / "in", data).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert reason in refusal("-")


def test_the_copy_of_standard_input_goes_with_its_document(tmp_path: Path) -> None:
    code = "from memspan.data.documents import open_documents as o; print(*next(o(['-'])).chunks())"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=CHINESE.encode(),
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert run.stdout.decode().strip() == CHINESE
    assert run.stderr == b""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_read_recursively_in_order_and_reports_what_it_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("docs/b.md", "docs/a/z.txt", "docs/c.py"):
        written(tmp_path / name, name)
    written(tmp_path / "docs/.git/config", "x")
    written(tmp_path / "docs/.hidden", "x")
    written(tmp_path / "docs/empty.txt", "")
    written(tmp_path / "docs/pic.png", b"\x89PNG\r\n")
    (tmp_path / "docs/again").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/broken").symlink_to(tmp_path / "nowhere")
    skipped: list[Skipped] = []
    documents = list(open_documents(["docs"], on_skip=skipped.append))
    assert [document.source for document in documents] == ["docs/a/z.txt", "docs/b.md", "docs/c.py"]
    assert ["".join(document.chunks()) for document in documents] == [document.source for document in documents]
    reasons = {member.source: member.reason for member in skipped}
    assert list(reasons) == sorted(reasons)
    assert reasons["docs/.git"] == reasons["docs/.hidden"] == "is hidden"
    assert reasons["docs/again"] == "is a link to a folder"
    assert reasons["docs/broken"].startswith("is not a regular file")
    assert reasons["docs/empty.txt"].startswith("is empty")
    assert reasons["docs/pic.png"].startswith("is a PNG image")


def test_a_folder_without_readable_files_says_what_it_holds(tmp_path: Path) -> None:
    for number in range(5):
        written(tmp_path / f"{number}.png", b"\x89PNG")
    message = refusal(tmp_path)
    assert "no readable file, skipped 5" in message
    assert "0.png is a PNG image" in message
    assert message.endswith("and 2 more")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no files" in refusal(tmp_path)
