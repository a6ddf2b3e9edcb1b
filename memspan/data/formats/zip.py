"""Zip archives: their documents one after another, each read as if it were unpacked.

Members are unpacked one at a time into a temporary file without a name. What is no document (pictures, hidden files, empty
ones) is passed over, as in a folder.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.parsing import (
    MAX_MEMBER,
    MAX_PAGE,
    check_at_most,
    check_unpacked_size,
    opened_archive,
    parsing,
    unpacked_portions,
)
from memspan.data.marks import Mark
from memspan.errors import UnreadableSource

MAX_FILES = 10_000  # of an archive
MAX_RATIO = 200  # bytes that a packed byte may unpack to, beyond MAX_PAGE; texts have some 4, logs some 30
_ARCHIVES = frozenset(
    {".zip", ".jar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".iso", ".whl", ".cab"}
)


def read_zip(source: FileSource) -> Iterator[str | Mark]:
    """The documents in an archive in the order of its list, each behind a mark "file" with its name.

    Raises UnreadableSource for an archive that is damaged, encrypted, too large, or holds another archive; and for a
    document in it that turns out unreadable behind its beginning.
    """
    with source.open() as file:
        with parsing(source, "zip"):
            archive = opened_archive(source, file)
            members = _members(source, archive)
        empty, kinds = True, set[str]()  # of the marks of the member before
        for member in members:
            begun = False
            try:
                for portion in _portions(source, archive, member):
                    if not begun and isinstance(portion, str) and not portion.strip():
                        continue
                    if not begun:
                        if not empty:
                            yield "\n\n"
                        yield from (Mark(kind, None) for kind in sorted(kinds))
                        yield Mark("file", member.filename)
                        begun, empty, kinds = True, False, set()
                    if isinstance(portion, Mark):
                        kinds.add(portion.kind)
                    yield portion
            except UnreadableSource:
                if begun:
                    raise
        if empty:
            raise source.refused("holds no document that can be read: unpack it and look at its files")


def _members(source: FileSource, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive that may be documents."""
    files = [member for member in archive.infolist() if not member.is_dir()]
    check_at_most(source, len(files), MAX_FILES, "files")
    if not files:
        raise source.refused("is an archive without files: there is nothing to read")
    names = [PurePosixPath(member.filename) for member in files]
    nested = next((name for name in names if name.suffix.lower() in _ARCHIVES), None)
    if nested is not None:
        raise source.refused(f"holds another archive ({str(nested)[:200]}): unpack that first")
    if any(member.flag_bits & 1 for member in files):
        raise source.refused("is encrypted: unpack it with its password and name the folder")
    shown = [
        member
        for member, name in zip(files, names, strict=True)
        if member.file_size and not any(part.startswith((".", "__MACOSX")) for part in name.parts)
    ]
    check_unpacked_size(source, shown or files)
    packed = max(1, sum(member.compress_size for member in shown))
    if sum(member.file_size for member in shown) > MAX_PAGE + MAX_RATIO * packed:
        raise source.refused(
            f"unpacks to over {MAX_RATIO} times its size, as no text does: unpack it and name the folder"
        )
    return shown


def _portions(source: FileSource, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[str | Mark]:
    """The text and the marks of one member, by the format of its name."""
    from memspan.data.formats import format_of
    from memspan.data.piped import PipedSource

    path = Path(PurePosixPath(member.filename).name)
    unpacked = PipedSource(FileSource(path, f"{source.name}/{member.filename}", source.encoding, source.main_text))
    try:
        with parsing(source, "zip"):
            for portion in unpacked_portions(source, archive, member.filename, MAX_MEMBER):
                unpacked.copy.write(portion)
            unpacked.copy.flush()
        yield from format_of(path).read(unpacked)
    finally:
        unpacked.copy.close()


ZIP = Format("zip", (".zip",), read_zip, packed=True)
