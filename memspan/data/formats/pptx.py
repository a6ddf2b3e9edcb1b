"""Presentations (pptx): the text of the slides and of their notes, by zipfile and lxml."""

import zipfile
from collections.abc import Iterator
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.ooxml import local, main_part, opened_document, related, tree
from memspan.data.formats.parsing import check_at_most, parsing
from memspan.data.marks import Mark

MAX_SLIDES = 10_000
_SKIPPED = frozenset(
    {"sldNum", "ftr", "hdr", "dt", "sldImg"}
)  # placeholders for numbers, dates, and the picture of a slide


def read_pptx(source: FileSource) -> Iterator[str | Mark]:
    """The slides in their order, the title first, then the other texts and the rows of tables, and the notes.

    Marks: the number of a slide as "page", its title as "heading". Raises UnreadableSource if the presentation is
    damaged, encrypted, or unpacks to too much.
    """
    with source.open() as file:
        with parsing(source, "pptx"):
            archive = opened_document(source, file)
            slides = _slides(source, archive)
            check_at_most(source, len(slides), MAX_SLIDES, "slides")
        empty = True
        for number, slide in enumerate(slides, start=1):
            with parsing(source, "pptx"):
                title, blocks = _texts(tree(source, archive, slide))
                for kind, part in related(source, archive, slide).values():
                    if kind == "notesSlide":
                        blocks += [f"Notes: {text}" for text in _texts(tree(source, archive, part))[1]]
            if not (title or blocks):
                continue
            if not empty:
                yield "\n\n"
            empty = False
            yield Mark("page", number)
            yield Mark("heading", title or None)
            yield "\n\n".join(filter(None, (title, *blocks)))
    if empty:
        raise source.refused("has no text, only pictures: run text recognition over it")


def _slides(source: FileSource, archive: zipfile.ZipFile) -> list[str]:
    """The parts that hold the slides, in their order, each once."""
    main = main_part(source, archive)
    parts = related(source, archive, main)
    wanted = [id_ for entry in tree(source, archive, main).iter("{*}sldId") for id_ in _relationship(entry)]
    return list(dict.fromkeys(parts[id_][1] for id_ in wanted if id_ in parts))


def _relationship(entry: Any) -> Iterator[str]:
    """The id of the relationship of an entry, which has an id of its own, too."""
    yield from (value for key, value in entry.attrib.items() if key.endswith("/relationships}id"))


def _texts(slide: Any) -> tuple[str, list[str]]:
    """The title of a slide, and its other texts, a paragraph or a row of a table each."""
    title, blocks = "", list[str]()
    for shape in slide.iter("{*}sp", "{*}tbl"):
        if local(shape.tag) == "tbl":
            rows = shape.iter("{*}tr")
            cells = [[" ".join(_paragraphs(cell)) for cell in row.iter("{*}tc")] for row in rows]
            blocks.append("\n".join(" | ".join(row) for row in cells if any(row)))
            continue
        placeholder = next((entry.get("type", "body") for entry in shape.iter("{*}ph")), "")
        text = "\n".join(_paragraphs(shape)) if placeholder not in _SKIPPED else ""
        if placeholder in ("title", "ctrTitle") and not title:
            title = " ".join(text.split())
        else:
            blocks.append(text)
    return title, [block for block in blocks if block.strip()]


def _paragraphs(shape: Any) -> list[str]:
    """The paragraphs of a shape that hold text."""
    texts = []
    for paragraph in shape.iter("{*}p"):
        words = [_BREAKS.get(local(part.tag)) or part.text or "" for part in paragraph.iter("{*}t", *_BREAK_TAGS)]
        texts.append("".join(words).strip())
    return [text for text in texts if text]


_BREAKS = {"br": "\n", "tab": "\t"}
_BREAK_TAGS = tuple(f"{{*}}{name}" for name in _BREAKS)

PPTX = Format("pptx", (".pptx",), read_pptx, packed=True)
