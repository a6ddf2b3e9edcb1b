"""E-books (epub): the chapters in reading order, by zipfile and lxml."""

import posixpath
import zipfile
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.html import decode_page, visible_portions
from memspan.data.formats.parsing import (
    MAX_ARCHIVE,
    MAX_CHAPTERS,
    MAX_PAGE,
    MAX_TREE,
    check_at_most,
    opened_archive,
    parsing,
    unpacked,
)
from memspan.data.marks import Mark


def read_epub(source: FileSource) -> Iterator[str | Mark]:
    """The chapters of an e-book in reading order, without its table of contents, a blank line between chapters.

    The first heading of a page is its mark "chapter", each heading a mark of its own. A chapter that the reading order
    names again is read once. Raises UnreadableSource if the book is damaged,
    copy-protected, or too large.
    """
    with source.open() as file:
        with parsing(source, "epub"):
            book = opened_archive(source, file)
            chapters = list(dict.fromkeys(_chapters(source, book)))
            check_at_most(source, len(chapters), MAX_CHAPTERS, "chapters")
            check_at_most(source, sum(map(_size_in(book), chapters)), MAX_ARCHIVE, "bytes of markup")
            protected = _protected(source, book)
        empty = True
        for chapter in chapters:
            if chapter in protected:
                raise source.refused("is copy-protected (DRM): only a copy without protection can be read")
            with parsing(source, "epub"):
                page = FileSource(source.path, source.name)  # chapters declare their own encodings
                portions = visible_portions(
                    page, decode_page(page, unpacked(source, book, chapter, MAX_PAGE)), xml=True
                )
            if portions and not empty:
                yield "\n\n"
            empty = empty and not portions
            heading = next((portion for portion in portions if isinstance(portion, Mark)), None)
            if heading is not None:  # a page without any goes on with the chapter of the page before it
                yield Mark("chapter", heading.value)
                yield Mark("heading", None)
            yield from portions


def _chapters(source: FileSource, book: zipfile.ZipFile) -> list[str]:
    """The members of an e-book that hold its chapters, in the order of its spine.

    META-INF/container.xml names the package file; its manifest gives every file an id, and its spine lists the ids.
    """
    container = _xml(source, book, "META-INF/container.xml")
    package_name = next(container.iter("{*}rootfile")).get("full-path")
    package = _xml(source, book, package_name)
    items = {item.get("id"): item for item in package.iter("{*}item")}
    spine = [items.get(entry.get("idref")) for entry in package.iter("{*}itemref")]
    return [
        posixpath.normpath(posixpath.join(posixpath.dirname(package_name), unquote(item.get("href"))))
        for item in spine
        if item is not None and _is_chapter(item)
    ]


def _size_in(book: zipfile.ZipFile) -> Callable[[str], int]:
    """A function from a member of an e-book to its size in bytes, 0 for one that is missing."""
    sizes = {member.filename: member.file_size for member in book.infolist()}
    return lambda member: sizes.get(member, 0)


def _is_chapter(item: Any) -> bool:
    """Whether an entry of the manifest is a page of text and not the table of contents."""
    media_type = item.get("media-type", "html")
    is_page = "html" in media_type or "oeb1" in media_type  # what pages were called before EPUB 2
    return is_page and "nav" not in item.get("properties", "").split()


def _protected(source: FileSource, book: zipfile.ZipFile) -> set[str]:
    """The members of an e-book that are encrypted; often these are only its fonts."""
    listing = "META-INF/encryption.xml"
    if listing not in book.namelist():
        return set()
    return {unquote(entry.get("URI", "")) for entry in _xml(source, book, listing).iter("{*}CipherReference")}


def _xml(source: FileSource, book: zipfile.ZipFile, member: str) -> Any:
    """The root of an XML file within an archive. Entities stay unexpanded and nothing is fetched."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return etree.fromstring(unpacked(source, book, member, MAX_TREE), parser)


EPUB = Format("epub", (".epub",), read_epub, packed=True)
