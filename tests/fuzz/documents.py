"""Fuzz targets: documents of every format, their bytes edited, and the members of those that are archives."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from memspan.data.documents import open_documents
from tests.data.files import CHINESE, docx_of, epub_of, pdf_of
from tests.data.hostile import archive_of, odt_with, pptx_with, shape, xlsx_with
from tests.fuzz.harness import Target, Use
from tests.fuzz.mutations import mutated, mutated_archive

HTML = (
    "<!DOCTYPE html><html><head><meta charset='utf-8'><title>The log</title><style>p{}</style></head><body><h1>One</h1>"
    f"<p>Words &amp; <b>more</b><br>of it. {CHINESE}</p><table><tr><td>a<td>b</table><!-- no --><ul><li>x</ul></body></html>"
)
CHAT = "\n".join(json.dumps({"role": role, "content": f"words of {role}"}) for role in ("user", "assistant"))

TREE = json.dumps(
    [
        {"title": "t", "mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"parts": ["words"]}}}}},
        {"name": "n", "chat_messages": [{"sender": "human", "text": "words", "created_at": "2023-05-08T13:56:00Z"}]},
        {"messages": [{"from": "Ann", "text": ["a", {"text": "b"}], "date": 1683554160}]},
    ]
)
WHATSAPP = "[12/05/23, 10:15:32 PM] Ann: words\n2023年5月8日 下午1:56 - Bo: 早\n12.05.23, 10:15 - Ann: a\nb\n"

NOTEBOOK = json.dumps(
    {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title"]},
            {
                "cell_type": "code",
                "source": "1",
                "outputs": [{"text": ["x"]}, {"data": {"text/plain": "y"}}, {"ename": "E"}],
            },
        ]
    }
)
SHEET = (
    '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
    '<row r="2"><c r="A2" t="inlineStr"><is><t>a</t></is></c><c r="B2" s="1"><v>45054.5</v></c></row>'
)

LETTER = (
    b"Subject: =?utf-8?q?Rain?=\nFrom: Ann <a@b.org>\nDate: Mon, 01 May 2023 10:00:00 +0000\n"
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nIt rains.\n--b\n"
    b"Content-Disposition: attachment; filename=a.png\n\nx\n--b--\n"
)


def samples(folder: Path) -> dict[str, bytes]:
    return {
        "txt": f"First line.\nSecond line. {CHINESE}\n\nAnother paragraph.".encode(),
        "utf16": "\ufeffFirst line.\nSecond line.".encode("utf-16-le"),
        "md": b"# Title\n\n- a\n- b\n\n```code```\n",
        "html": HTML.encode(),
        "jsonl": CHAT.encode(),
        "json": TREE.encode(),
        "whatsapp": WHATSAPP.encode(),
        "csv": f'Name,City,Note\nBo,Bergen,"a ""b"", c"\n{CHINESE},2,\n'.encode(),
        "eml": LETTER,
        "mbox": b"From a\n%b\n\nFrom b\n%b\n" % (LETTER, LETTER),
        "vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Where <i>is</i> it?\n\n00:03.000 --> 00:04.000\nHere.\n",
        "py": b'@a\nclass A:\n    """b\n    def c(): ...\n    """\n    def d(self):\n        pass\nx = 7\n',
        "cpp": b"// a\nstatic int b(const C& c) {\n}\nstruct D {\n  int e() const {\n  }\n};\n",
        "ipynb": NOTEBOOK.encode(),
        "zip": archive_of({"a/b.md": "# Words\n\nof it.", "c.html": HTML, "d.jsonl": CHAT}),
        "pptx": pptx_with([shape("words"), shape("title", "title")], notes={0: "notes"}),
        "xlsx": xlsx_with({"Sheet": SHEET}, ["Name", "Price"]),
        "odt": odt_with(
            '<text:h>Title</text:h><text:p>a<text:s text:c="3"/>b</text:p><table:table><table:table-row/></table:table>'
        ),
        "pdf": pdf_of(folder / "sample.pdf", ["First page.", "Second page."]).read_bytes(),
        "docx": docx_of(folder / "sample.docx").read_bytes(),
        "epub": epub_of(folder / "sample.epub").read_bytes(),
    }


def document(kind: str, archive: bool, folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    content = samples(folder)[kind]
    path = folder / f"document.{'txt' if kind in ('utf16', 'whatsapp') else kind}"

    def run(changed: bytes) -> None:
        path.write_bytes(changed)
        size = 0
        for opened in open_documents([path]):
            size += sum(len(chunk) for chunk in opened.chunks())
        assert size < 64 * 2**20

    return (mutated_archive if archive else mutated)(content), run


KINDS = (
    *("txt", "utf16", "md", "html", "jsonl", "json", "whatsapp", "csv", "eml", "mbox", "vtt", "pdf", "docx", "epub"),
    *("py", "cpp", "ipynb", "zip", "pptx", "xlsx", "odt"),
)
TARGETS: dict[str, Target] = {kind: partial(document, kind, False) for kind in KINDS}
TARGETS |= {f"{kind}_members": partial(document, kind, True) for kind in ("docx", "epub", "zip", "pptx", "xlsx", "odt")}
