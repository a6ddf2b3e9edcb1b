"""Full disks and interrupted requests: what a client tries again works, and no file is left behind."""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from memspan import LanguageModel, Library
from memspan.errors import MemspanError
from memspan.serve.library import LOCAL
from memspan.serve.stored_files import UNFINISHED_SECONDS, drop_unfinished, file_records, keep_file
from tests.memory.faults import Crash, calls_of, crashing, failing
from tests.serve.running import running


def test_a_memory_whose_making_was_interrupted_can_be_made(tmp_path: Path, lm: LanguageModel) -> None:
    library = Library(tmp_path / "root", lm)
    for number in range(1, calls_of(lambda: library.create(LOCAL, "first")) + 1):
        for kind, disturbed in (("full", failing(number, errno.ENOSPC)), ("killed", crashing(number))):
            name = f"{kind}-{number}"
            with disturbed, suppress(MemspanError, Crash):
                library.create(LOCAL, name)
            again = Library(library.root, lm)
            assert (name in again.names(LOCAL)) == again.holds(LOCAL, name)
            if not again.holds(LOCAL, name):
                again.create(LOCAL, name)
            assert again.open(LOCAL, name).sources == {}, name


def test_an_upload_that_failed_leaves_no_bytes(library: Library) -> None:
    def keep() -> Any:
        return keep_file(library, LOCAL, "a.txt", "assistants", [b"bytes"])

    folder = library.root / LOCAL / ".files"
    for number in range(1, calls_of(keep) + 1):
        before = {file.name for file in folder.iterdir()} if folder.exists() else set()
        with failing(number, errno.ENOSPC):
            try:
                keep()
            except MemspanError:
                assert {file.name for file in folder.iterdir()} <= before, number
            else:
                assert len(set(folder.iterdir())) == len(before) + 2


def test_what_interrupted_uploads_left_is_deleted_later(library: Library) -> None:
    record = keep_file(library, LOCAL, "a.txt", "assistants", [b"whole"])
    folder = library.root / LOCAL / ".files"
    number = 0
    while True:
        number += 1
        with crashing(number):
            try:
                keep_file(library, LOCAL, "b.txt", "assistants", [b"interrupted"])
            except Crash:
                continue
        break
    kept = [each["id"] for each in file_records(library, LOCAL)]
    assert len({file.name for file in folder.iterdir()}) > 2 * len(kept)
    drop_unfinished(library)  # another process may be at work on them
    assert len({file.name for file in folder.iterdir()}) > 2 * len(kept)
    for file in folder.iterdir():
        old = time.time() - UNFINISHED_SECONDS - 1
        os.utime(file, (old, old))
    drop_unfinished(library)
    assert len({file.name for file in folder.iterdir()}) == 2 * len(kept)
    assert [each["id"] for each in file_records(library, LOCAL)] == kept
    assert record["id"] in kept


def test_a_conversation_that_was_not_made_is_not_there(tmp_path: Path, lm: LanguageModel) -> None:
    with running(tmp_path, lm) as server:
        client = server.client()
        calls = calls_of(client.conversations.create)
        for number in range(1, calls + 1):
            names = server.service.library.names(LOCAL)
            with failing(number, errno.ENOSPC):
                status = 200
                try:
                    client.conversations.create()
                except openai.InternalServerError as error:
                    status = error.status_code
            assert status in (200, 507)
            assert len(server.service.library.names(LOCAL)) == len(names) + (status == 200), number


def test_an_upload_for_which_there_is_no_temporary_space_says_so(
    tmp_path: Path, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with running(tmp_path, lm) as server:
        client = server.client()
        monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", full)
        with pytest.raises(openai.InternalServerError) as raised:
            client.files.create(file=("a.txt", b"x" * 3_000_000), purpose="assistants")
        assert raised.value.status_code == 507
        assert raised.value.code == "storage_failed"
    assert "Traceback" not in caplog.text
