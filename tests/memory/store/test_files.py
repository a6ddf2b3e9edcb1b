"""A file of a memory's folder is replaced as a whole, or stays as it was."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from memspan.errors import MemspanError
from memspan.memory.store.files import Directory


def test_a_write_that_fails_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    folder = Directory(tmp_path)
    folder.write("a.json", [b"as it was"])

    def half() -> Iterator[bytes]:
        yield b"half of"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MemspanError, match=r"a\.json"):
        folder.write("a.json", half())
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert folder.read("a.json", 100) == b"as it was"
