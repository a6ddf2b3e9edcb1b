"""Guards around foreign parsers: every failure becomes one clear error, and archives are bounded before unpacking."""

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from memspan.data.formats.base import FileSource
from memspan.errors import MemspanError

MAX_MEMBER = 64 * 1024 * 1024  # bytes that one file within an archive may unpack to
MAX_ARCHIVE = 16 * MAX_MEMBER  # bytes that an archive may unpack to as a whole


@contextmanager
def parsing(source: FileSource, format_name: str) -> Iterator[None]:
    """Turn whatever a parser raises into UnreadableSource, and silence its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MemspanError, MemoryError):
        raise
    except Exception as error:  # given damaged files, parsers raise nearly every kind
        cause = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
        raise source.refused(
            f"is damaged or no {format_name} at all ({cause}): open it in its own program and save it again, or as .txt"
        ) from error


def unpacked(source: FileSource, archive: zipfile.ZipFile, member: str) -> bytes:
    """One member of an archive; zipfile never gives more than the size that was checked."""
    check_unpacked_size(source, [archive.getinfo(member)])
    return archive.read(member)


def check_unpacked_size(source: FileSource, members: Sequence[zipfile.ZipInfo]) -> None:
    """Raise UnreadableSource if a few packed bytes would fill the memory of the machine."""
    largest = max(members, key=lambda member: member.file_size)
    if largest.file_size > MAX_MEMBER or sum(member.file_size for member in members) > MAX_ARCHIVE:
        raise source.refused(
            f"unpacks to more than is sound for a text ({largest.filename} alone to {largest.file_size:,} bytes; up to "
            f"{MAX_MEMBER:,} are read): save its text as .txt"
        )
