"""What the Office formats share: parts within an archive, and the relationships that name them."""

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from memspan.data.formats.base import FileSource
from memspan.data.formats.decoding import OFFICE_CONTAINER, SIGNATURES
from memspan.data.formats.parsing import (
    MAX_DEPTH,
    MAX_MEMBER,
    MAX_TREE,
    check_at_most,
    check_unpacked_size,
    opened_archive,
    parsing,
    unpacked,
    unpacked_portions,
)


def opened_document(source: FileSource, file: BinaryIO) -> zipfile.ZipFile:
    """The archive that an Office document is. Raises UnreadableSource for an old or encrypted one, and if it unpacks to too
    much."""
    if file.read(len(OFFICE_CONTAINER)) == OFFICE_CONTAINER:
        raise source.refused(f"is {SIGNATURES[OFFICE_CONTAINER]}")
    archive = opened_archive(source, file)
    check_unpacked_size(source, archive.infolist())
    return archive


def tree(source: FileSource, archive: zipfile.ZipFile, member: str) -> Any:
    """The root of an XML file within an archive. Entities stay unexpanded and nothing is fetched."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return etree.fromstring(unpacked(source, archive, member, MAX_TREE), parser)


def events(source: FileSource, archive: zipfile.ZipFile, member: str, target: Any, format_name: str) -> Iterator[None]:
    """Feeds an XML file within an archive to a parser target, and yields after each portion of it.

    Raises UnreadableSource for more than MAX_DEPTH elements within one another.
    """
    from lxml import etree

    markup = unpacked_portions(source, archive, member, MAX_MEMBER)
    target = _BoundedDepth(source, target)
    parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True, load_dtd=False)
    while True:
        with parsing(source, format_name):
            portion = next(markup, None)
            if portion is None:
                parser.close()
            else:
                parser.feed(portion)
        yield
        if portion is None:
            return


class _BoundedDepth:
    """A parser target ahead of another, which keeps notes of every element that is open."""

    def __init__(self, source: FileSource, target: Any) -> None:
        self._source, self._target, self._depth = source, target, 0
        self.data, self.close = target.data, target.close

    def start(self, tag: str, attributes: Any) -> None:
        """Called by the parser at a start tag."""
        self._depth += 1
        check_at_most(self._source, self._depth, MAX_DEPTH, "elements within one another")
        self._target.start(tag, attributes)

    def end(self, tag: str) -> None:
        """Called by the parser at an end tag."""
        self._depth -= 1
        self._target.end(tag)


def main_part(source: FileSource, archive: zipfile.ZipFile) -> str:
    """The name of the file in the archive that holds the document. Raises ValueError if none is named."""
    for relationship in tree(source, archive, "_rels/.rels").iter("{*}Relationship"):
        if relationship.get("Type", "").endswith("/officeDocument"):
            return str(posixpath.normpath(relationship.get("Target"))).lstrip("/")
    raise ValueError("no main document")


def related(source: FileSource, archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """The parts that a part refers to: id -> the last word of the kind of relationship, and the name of the part."""
    folder, name = posixpath.split(part)
    listing = posixpath.join(folder, "_rels", f"{name}.rels")
    if listing not in archive.NameToInfo:
        return {}
    found = {}
    for relationship in tree(source, archive, listing).iter("{*}Relationship"):
        if relationship.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join(folder, relationship.get("Target", "")))
            kind = relationship.get("Type", "").rpartition("/")[2]
            found[relationship.get("Id", "")] = (kind, target.lstrip("/"))
    return found


def local(name: str) -> str:
    """A name of XML without its namespace."""
    return name.rpartition("}")[2]


def attribute(attributes: Any, name: str) -> str:
    """An attribute by its name without namespace, "" if it is absent."""
    return next((str(value) for key, value in attributes.items() if local(key) == name), "")
