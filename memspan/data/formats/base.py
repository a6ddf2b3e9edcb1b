"""What every format shares: the file that is read, and the record that describes a format."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from memspan.data.marks import Mark
from memspan.errors import UnreadableSource, UsageError

NOT_REGULAR = 'is not a regular file (a pipe, a device, a broken link?): pipe it in and name it "-"'
NO_PERMISSION = "may not be read by you: change its permissions (chmod +r) or copy it to a folder of your own"


def _open_at_once(path: str, flags: int) -> int:
    """`os.open` that does not wait for another process to open the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@dataclass(frozen=True)
class FileSource:
    """The file behind a document.

    Attributes:
        path: where the file is.
        name: what the user calls it.
        encoding: how its bytes are decoded; None detects it.
        main_text: whether a web page gives only what an extractor takes for its main text.
    """

    path: Path
    name: str
    encoding: str | None = None
    main_text: bool = False

    def refused(self, why: str) -> UnreadableSource:
        """The error that explains why this file is not readable."""
        return UnreadableSource(f"{self.name} {why}")

    def open(self) -> BinaryIO:
        """The file, open for reading bytes.

        Raises UnreadableSource if the system refuses it, or if it is no regular file; a pipe is not waited for.
        """
        try:
            file = open(self.path, "rb", opener=_open_at_once)  # noqa: SIM115  # for the caller to close
        except PermissionError:
            raise self.refused(NO_PERMISSION) from None
        except OSError as error:
            if not os.path.isfile(self.path):  # a socket, or a link that leads nowhere
                raise self.refused(NOT_REGULAR) from None
            raise self.refused(f"failed to open ({error.strerror}): check the path and the disk") from None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise self.refused(NOT_REGULAR)
        return file


@dataclass(frozen=True)
class Format:
    """A kind of document and how to read it.

    Attributes:
        name: the word for the format in help texts and documentation.
        suffixes: endings of its files, lower case with the dot.
        read: a function from a file to its text, in portions of any size and in reading order, with marks
            (`memspan.data.marks`) ahead of the portions that they hold of. It raises UnreadableSource (`source.refused`)
            for a file that it does not understand, and imports the library it needs in its body, so that no other format
            pays for it.
        packed: whether the size of the file does not tell the length of its text (compression, markup).
        verbatim: whether the text is the file's own, so that its lines are those of the file.

    Raises UsageError for a field of another type, or a suffix that no file name ends in.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[FileSource], Iterator[str | Mark]]
    packed: bool = False
    verbatim: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name and callable(self.read)):
            raise UsageError(f"A format must have a name and a function `read`, got {self.name!r} and {self.read!r}.")
        if not (isinstance(self.suffixes, tuple) and self.suffixes and all(map(_is_suffix, self.suffixes))):
            raise UsageError(f"suffixes must be a tuple of endings such as ('.txt',), got {self.suffixes!r}.")


def _is_suffix(value: object) -> bool:
    """Whether `Path(name).suffix.lower()` can be `value`."""
    return isinstance(value, str) and len(value) > 1 and value == Path(f"a{value}").suffix.lower()
