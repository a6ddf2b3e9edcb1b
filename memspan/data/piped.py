"""A copy of standard input that no crash leaves behind: a temporary file without a name."""

import io
import os
import tempfile
import threading
import weakref
from typing import BinaryIO

from memspan.data.formats import FileSource


class PipedSource(FileSource):
    """A source that was piped in, read as often as needed from a file that the system deletes with this process.

    On Linux the file never has a name; on other Unix systems it is unlinked at once; Windows deletes it when its last
    handle is closed, also by the end of the process.

    Attributes:
        copy: the file, to be filled before it is read.
    """

    copy: BinaryIO
    _lock: threading.Lock

    def __init__(self, source: FileSource) -> None:
        super().__init__(source.path, source.name, source.encoding, source.main_text)
        copy = tempfile.TemporaryFile(prefix="memspan-stdin-")  # noqa: SIM115  # open as long as the source lives
        object.__setattr__(self, "copy", copy)
        object.__setattr__(self, "_lock", threading.Lock())
        weakref.finalize(self, copy.close)

    def open(self) -> BinaryIO:
        """A reader from the beginning of the file, independent of other readers."""
        return io.BufferedReader(_Reader(self.copy, self._lock))  # type: ignore[type-var]


class _Reader(io.RawIOBase):
    """A position of its own in a file that several readers share."""

    def __init__(self, file: BinaryIO, lock: threading.Lock) -> None:
        super().__init__()
        self._file, self._lock, self._position = file, lock, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.fstat(self.fileno()).st_size if start is None else start)
        if self._position < 0:
            self._position = 0
            raise OSError("the position is before the beginning of the file")
        return self._position

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Fills the buffer with what follows and returns the number of bytes."""
        with self._lock:
            self._file.seek(self._position)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
