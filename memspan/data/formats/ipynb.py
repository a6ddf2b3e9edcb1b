"""Notebooks of Jupyter (ipynb): the cells in their order, with the text among their outputs."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded
from memspan.data.formats.parsing import MAX_PAGE, MAX_TEXT, MAX_VALUES, check_at_most, parsing
from memspan.data.headings import with_headings
from memspan.data.marks import Mark

MAX_OUTPUT = 10_000  # characters of the outputs of a cell: tables and results, not the log of a night
_COLOURS = re.compile(r"\x1b\[[\d;]{0,20}[A-Za-z]")


def read_ipynb(source: FileSource) -> Iterator[str | Mark]:
    """The cells of a notebook: text with its headings, code, and outputs that are text, behind "Output:".

    Pictures and web pages among the outputs are left out. Raises UnreadableSource for what is no notebook, or too large.
    """
    text = ""
    for portion in decoded(source, "", longest=MAX_TEXT):
        text += portion
        check_at_most(source, len(text), MAX_PAGE, "characters of JSON")
    check_at_most(source, sum(map(text.count, "[{,:")), MAX_VALUES, "values of JSON")
    with parsing(source, "notebook"):
        notebook = json.loads(text)
        cells = notebook.get("cells")
        if cells is None:  # before version 4
            cells = [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
        texts = [(_is_prose(cell), part) for cell in cells for part in _parts(cell) if part.strip()]
    for number, (prose, part) in enumerate(texts):
        if number:
            yield "\n\n"
        yield from with_headings([part]) if prose else (part,)


def _is_prose(cell: Mapping[str, Any]) -> bool:
    """Whether a cell is Markdown, whose headings count; "# " in code is a comment."""
    return cell.get("cell_type") in ("markdown", "heading")


def _parts(cell: Mapping[str, Any]) -> Iterator[str]:
    """The text of a cell, and that of its outputs."""
    own = _joined(cell.get("source", cell.get("input"))).strip("\n")
    yield f"{'#' * min(6, int(cell.get('level', 1)))} {own}" if cell.get("cell_type") == "heading" else own
    outputs = cell.get("outputs")
    shown = "\n".join(filter(None, map(_output, outputs if isinstance(outputs, list) else [])))
    if shown.strip():
        yield f"Output:\n{shown[:MAX_OUTPUT]}"


def _output(output: Mapping[str, Any]) -> str:
    """The text of an output: what was printed, the result as text, or the error."""
    data = output.get("data", output)
    if "ename" in output:
        return f"{_joined(output['ename'])}: {_joined(output.get('evalue'))}"
    text = output.get("text") if "text" in output else data.get("text/plain")
    return _COLOURS.sub("", _joined(text)).strip("\n")


def _joined(lines: Any) -> str:
    """A text, which notebooks hold whole or as a list of its lines."""
    return lines if isinstance(lines, str) else "".join(line for line in lines or [] if isinstance(line, str))


IPYNB = Format("ipynb", (".ipynb",), read_ipynb, packed=True)
