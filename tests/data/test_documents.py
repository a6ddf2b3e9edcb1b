"""Every document gives its whole text; everything else gives one sentence that says what to do."""

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memspan.data.chunking import MAX_CHUNK
from memspan.data.documents import Skipped, open_documents
from memspan.data.formats import FileSource, Format
from memspan.errors import UnreadableSource, UsageError
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
        for _ in range(8_000_000 // len(unit.encode())):
            file.write(unit)
    tracemalloc.start()
    try:
        (document,) = open_documents([tmp_path / name])
        assert sum(map(len, document.chunks())) > 2_400_000
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
    assert "picture" in reasons["docs/pic.png"] or "PNG image" in reasons["docs/pic.png"]


def test_a_folder_without_readable_files_says_what_it_holds(tmp_path: Path) -> None:
    for number in range(5):
        written(tmp_path / f"{number}.png", b"\x89PNG")
    message = refusal(tmp_path)
    assert "no readable file, skipped 5" in message
    assert "0.png" in message
    assert message.endswith("and 2 more")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no files" in refusal(tmp_path)


# --- files that are none, or change -----------------------------------------------------------------------------------


def skipped_in(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The texts of the documents in a folder, and the reasons why others were skipped."""
    skipped: list[Skipped] = []
    texts = ["".join(document.chunks()) for document in open_documents([folder], on_skip=skipped.append)]
    return texts, {Path(member.source).name: member.reason for member in skipped}


def test_what_is_no_file_is_passed_over_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "zeros.txt").symlink_to("/dev/zero")
    (tmp_path / "loop.pdf").symlink_to(tmp_path / "loop.pdf")
    (tmp_path / "up").symlink_to(tmp_path.parent)
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(tmp_path)  # the name of a socket is short
        server.bind("socket.txt")
        os.chdir(before)
        written(tmp_path / "a.txt", "words")
        texts, reasons = skipped_in(tmp_path)
    assert texts == ["words"]
    assert reasons.pop("up") == "is a link to a folder"
    assert sorted(reasons) == ["loop.pdf", "pipe.html", "socket.txt", "zeros.txt"]
    assert all(reason.startswith("is not a regular file") for reason in reasons.values())


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device")
def test_a_device_is_refused() -> None:
    assert "is not a regular file" in refusal("/dev/zero")


def test_a_file_that_goes_on_growing_is_read_as_far_as_it_reached(tmp_path: Path) -> None:
    path = written(tmp_path / "log.txt", "a line\n" * 30_000)
    (document,) = open_documents([path])
    with path.open("a") as log:
        chunks = document.chunks()
        text = next(chunks)
        log.write("more\n" * 30_000)
        log.flush()
        for chunk in chunks:
            text += chunk
            log.write("more\n" * 30_000)
            log.flush()
    assert text == "a line\n" * 30_000


def test_a_file_that_is_cut_while_it_is_read_ends_where_it_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "log.txt", "a line\n" * 60_000)
    (document,) = open_documents([path])
    chunks = document.chunks()
    text = next(chunks)
    os.truncate(path, 70_000)
    text += "".join(chunks)
    assert "a line\n" * 60_000 != text != ""
    assert ("a line\n" * 60_000).startswith(text)
    path.unlink()
    with pytest.raises(UnreadableSource, match="is not a regular file"):
        next(document.chunks())


@pytest.mark.parametrize("name", ["a\nb.txt", "a\x1b[2Jb.txt", "a\udcffb.txt", "a\u2028b.txt"])
def test_a_name_that_steers_the_terminal_is_written_with_escapes(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, "words")
    (document,) = open_documents([path])
    assert document.source == f"{tmp_path}/" + name.encode("unicode_escape").decode()
    assert document.source.encode().decode().isprintable()
    assert "".join(document.chunks()) == "words"
    (member,) = open_documents([tmp_path])
    assert member.source == document.source


def test_names_in_all_scripts_stay_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "船 \u3000é \U0001f469\u200d\U0001f4bb.txt", "words")
    (document,) = open_documents([path])
    assert document.source == str(path)


def test_folders_may_nest_deeper_than_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 100
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    Path("a.txt").write_text("words")
    os.chdir(tmp_path)
    try:
        (document,) = open_documents(["d"])
        assert "".join(document.chunks()) == "words"
    finally:  # shutil.rmtree, with which pytest tidies up, nests too
        os.chdir(tmp_path.joinpath(*"d" * depth))
        os.remove("a.txt")
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")


def test_a_folder_of_many_files_is_read_in_order(tmp_path: Path) -> None:
    for number in range(2_000):
        (tmp_path / f"{number:04}.png").touch()
    written(tmp_path / "z.txt", "words")
    texts, reasons = skipped_in(tmp_path)
    assert texts == ["words"]
    assert list(reasons) == [f"{number:04}.png" for number in range(2_000)]


# --- limits of any document -------------------------------------------------------------------------------------------


def one_format(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[FileSource], Iterator[str]], packed: bool = True
) -> None:
    """Lets `read` read every file."""
    monkeypatch.setattr("memspan.data.documents.format_of", lambda path: Format("new", (".new",), read, packed))


def test_a_parser_without_memory_refuses_its_document_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: FileSource) -> Iterator[str]:
        if source.path.name == "a.new":
            raise MemoryError
        yield "words"

    one_format(monkeypatch, read)
    for name in ("a.new", "b.new"):
        written(tmp_path / name, "x")
    texts, reasons = skipped_in(tmp_path)
    assert texts == ["words"]
    assert reasons["a.new"].startswith("needs more memory than there is: split it")


def test_the_text_of_a_small_file_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.data.formats.parsing.MAX_TEXT", 10_000)
    for packed, refused in ((True, True), (False, False)):
        one_format(monkeypatch, lambda source: iter(["x" * 5_001] * 2), packed)
        path = written(tmp_path / "a.new", "x")
        assert ("more characters of text" in refusal(path)) if refused else next(open_documents([path])).chunks()


def test_the_time_that_a_parser_takes_is_limited_and_not_that_of_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("memspan.data.formats.parsing.time.thread_time", lambda: clock[0])

    def read(source: FileSource) -> Iterator[str]:
        for _ in range(4):
            clock[0] += 300
            yield "words " * 20_000

    one_format(monkeypatch, read)
    assert "more seconds of work than are read from a document (900)" in refusal(written(tmp_path / "a.new", "x"))
    monkeypatch.setattr("memspan.data.formats.parsing.MAX_TOTAL_SECONDS", 1_200)
    (document,) = open_documents([tmp_path / "a.new"])
    for _ in document.chunks():
        clock[0] += 10_000  # a model encodes the text


# --- piped text -------------------------------------------------------------------------------------------------------


def test_piped_text_has_no_name_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with written(tmp_path / "in", CHINESE * 9000).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        (document,) = open_documents(["-"])
        chunks, others = document.chunks(), document.chunks()
        assert next(chunks) == next(others)
        assert list((tmp_path / "tmp").iterdir()) == []
        assert list(chunks) == list(others) != []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_signal_leaves_piped_text_behind(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import os; from memspan.data.documents import open_documents as o; document = next(o(['-'])); "
        f"print(next(document.chunks()), flush=True); os.kill(os.getpid(), {number:d}); print('alive')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=b"a secret",
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (run.returncode, run.stdout) == (-number, b"a secret\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_text_is_piped_in_is_an_error_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with written(tmp_path / "in", "words").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert "(No space left on device): set TMPDIR" in refusal("-")
