"""Documents made to take the machine: each grows with a number, and must be read or refused in proportion to it."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.data.files import CONTAINER
from tests.data.hostile_tables import CASES


@dataclass(frozen=True)
class Hostile:
    """A document that grows.

    Attributes:
        name: what is in it.
        suffix: of its file, with the dot.
        make: the contents of the file, whose length or claims grow with the number.
        size: the number with which tests make it; twice and four times that in tests of growth.
        refused: words of the error that it must end in; "" if it may be read.
    """

    name: str
    suffix: str
    make: Callable[[int], bytes]
    size: int = 8_000
    refused: str = ""

    def __str__(self) -> str:
        return f"{self.suffix[1:]}: {self.name}"


def repeated(pattern: str, end: str = "x") -> Callable[[int], bytes]:
    """The same characters over and over, then an end that makes what came before a failed beginning."""
    return lambda n: (pattern * n + end).encode("utf-8", "surrogatepass")


def archive_of(members: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


# --- text and web pages -----------------------------------------------------------------------------------------------

TEXT = {
    "spaces": " ", "line ends": "\n", "spaces at line ends": " \n", "empty lines with spaces": "\n \t\n",
    "tabs": "\t", "carriage returns": "\r", "zero-width spaces": "\u200b", "joiners": "\u200d",
    "combining marks": "\u0301", "an emoji family": "\U0001f469\u200d", "no-break spaces": "\xa0",
    "full stops": ".", "full stops and quotes": '."', "brackets": "[", "closing brackets": ")", "links": "[](",
    "stars": "*", "underscores": "_", "backticks": "`", "hashes": "#", "headings": "# a\n", "pipes": "|",
    "quote marks": ">", "initials": "A. ", "Mr.": "Mr. ", "ellipses": "…", "Chinese stops": "。", "Chinese quotes": "。」",
    "clauses": "a,", "colons": ":\n", "letters": "a", "single letters": "a ", "dashes": " – ", "numbered lines": "\n1",
    "backslashes": "\\", "line separators": "\u2028", "form feeds": "\f", "right to left": "\u202e", "hyphens": "-\n",
}  # fmt: skip

MARKUP = {
    "comments that do not end": "<!--", "CDATA that does not end": "<![CDATA[", "instructions": "<?a ",
    "declarations": "<!a ", "signs": "<", "tags that do not end": "<a ", "end tags that do not end": "</a ",
    "elements that do not end": "<div>", "tables in tables": "<table><tr><td>", "paragraphs": "<p>",
    "end tags": "</p>", "text in elements": "<b>a", "lists in lists": "<ul><li>", "forms": "<form>", "links": "<a href=x>",
    "attributes that do not end": "<a href='", "both quotes": "<a b=\"'", "ampersands": "&", "entities": "&amp;",
    "entities that do not end": "&notin", "digits of a character": "&#9", "scripts": "<script>",
    "comments in scripts": "<script><!--", "styles": "<style>", "titles": "<title>", "text areas": "<textarea>",
    "menus": "<select><option>", "heads": "<head>", "bodies with attributes": "<body a=b>", "frames": "<frameset>",
    "drawings": "<svg><title>", "templates": "<template>", "navigation": "<nav>a", "page headers": "<header>a</header>",
    "asides": "<aside><p>a", "notices": "<div class='cookie-banner'>a", "roles": "<div role=banner>a</div>",
    "lines in lines": "<pre><br>", "line breaks": "<br>", "hidden": "<p hidden>", "plain text": "<plaintext>",
    "objects": "<object>", "misnested": "<b><p></b>", "images": "<img src=x>", "rules": "<hr/>", "ruby": "<ruby><rt>",
}  # fmt: skip


def _size(pattern: str) -> int:
    """A megabyte of beginnings that are read as one comment or tag; few of what makes an element or a character."""
    return 250_000 if pattern.startswith("<") and len(pattern) > 1 and ">" not in pattern else 4_000


def _attributes(n: int) -> bytes:
    return b"<p " + b" ".join(b"a%d=1" % number for number in range(n)) + b">x"


def _long_attribute(n: int) -> bytes:
    return b"<p style='" + b" : " * n + b"' class='" + b"cookie-" * n + b"' id='" + b"-" * n + b"'>x"


PAGES = [
    Hostile("many attributes", ".html", _attributes),
    Hostile("long attributes", ".html", _long_attribute),
    Hostile("end tags in open elements", ".html", lambda n: b"<b>" * n + b"</i>" * n + b"x", 4_000),
    Hostile("end tags deep within", ".html", lambda n: b"<b>" * 9_000 + b"</i>" * n + b"x", 3_000),
    Hostile("depth", ".html", lambda n: b"<div>" * n + b"deep" + b"</div>" * n, 20_000, "elements within one another"),
    Hostile(
        "a declared codec for names", ".html", lambda n: b"<meta charset=punycode>\xff" + b"a-b" * n, 30_000, "valid"
    ),
    Hostile("elements closed at once", ".xhtml", repeated("<script/><a/>"), 3_000),
    Hostile("names that do not end", ".xhtml", lambda n: b"<?xml" + b"<" + b"a" * n + b"<" + b"a:" * n + b"x"),
    Hostile("CDATA", ".xhtml", repeated("<![CDATA[<a&]]>")),
    Hostile("CDATA that does not end", ".xhtml", lambda n: b"<?xml version='1.0'?>" + b"<![CDATA[" * n),
    Hostile("entities that grow", ".xhtml", lambda n: _entities(n, "<p>&e9;</p>")),
    Hostile("a page without end", ".html", lambda n: b"<p>" + b"x" * n, 33_600_000, "bytes of markup"),
]


def _entities(n: int, text: str) -> bytes:
    """Entities that stand for ten others each, in XML."""
    lines = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "{"lol" * n}">{lines}]><a>{text}</a>'.encode()


# --- Word documents ---------------------------------------------------------------------------------------------------

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELATIONSHIPS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r" Type='
    '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
    "{}</Relationships>"
)
PARAGRAPH = "<w:p><w:r><w:t>x</w:t></w:r></w:p>"


def docx_with(body: str | bytes, **members: str | bytes) -> bytes:
    """A Word document of the given body, or whole document part."""
    part = f"<w:document {W}><w:body>{body}</w:body></w:document>" if isinstance(body, str) else body
    return archive_of({"_rels/.rels": RELATIONSHIPS.format(""), "word/document.xml": part, **members})


def _cell(properties: str, text: str = "x") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>"


def _table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def _merged_rows(n: int) -> bytes:
    first, others = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    return docx_with(_table(_cell(first, "a label"), *[_cell(others, "")] * n))


def _merged_long(n: int) -> bytes:
    """Twice as many rows and twice as long a text: four times the text, if it were repeated."""
    return docx_with(_table(_cell('<w:vMerge w:val="restart"/>', "word " * n), *[_cell("<w:vMerge/>", "")] * n))


WORD = [
    Hostile(
        "a cell over 2,000 million columns", ".docx", lambda n: docx_with(_table(_cell(f'<w:gridSpan w:val="{n}"/>'))), 2 * 10**9
    ),
    Hostile("a span of many digits", ".docx", lambda n: docx_with(_table(_cell(f'<w:gridSpan w:val="{"9" * n}"/>')))),
    Hostile("a column merged over rows", ".docx", _merged_rows, 2_000),
    Hostile("a long text merged over rows", ".docx", _merged_long, 2_000),
    Hostile("many cells", ".docx", lambda n: docx_with(_table(_cell("") * n)), 4_000),
    Hostile("many columns merged", ".docx", lambda n: docx_with(_table(_cell('<w:vMerge w:val="restart"/>') * n)), 4_000),
    Hostile("many tables", ".docx", lambda n: docx_with(_table(_cell("")) * n), 2_000),
    Hostile("empty cells", ".docx", lambda n: docx_with(f"<w:tbl><w:tr>{'<w:tc/>' * n}</w:tr></w:tbl>{PARAGRAPH}"), 15_000),
    Hostile("tables in tables", ".docx", lambda n: docx_with("<w:tbl><w:tr><w:tc>" * n), 10_000, "elements within one another"),
    Hostile("runs", ".docx", lambda n: docx_with(f"<w:p>{'<w:r><w:t>x</w:t><w:br/></w:r>' * n}</w:p>"), 4_000),
    Hostile("empty paragraphs", ".docx", lambda n: docx_with("<w:p/>" * n + PARAGRAPH), 15_000),
    Hostile("text boxes", ".docx", lambda n: docx_with(f"<w:p><w:r>{PARAGRAPH * n}</w:r></w:p>"), 4_000),
    Hostile("attributes", ".docx", lambda n: docx_with("<w:p " + " ".join(f'a{k}=""' for k in range(n)) + "/>" + PARAGRAPH)),
    Hostile("a long text", ".docx", lambda n: docx_with(f"<w:p><w:r><w:t>{'word ' * n}</w:t></w:r></w:p>"), 20_000),
    Hostile("comments", ".docx", lambda n: docx_with("<!-- -->" * n + PARAGRAPH)),
    Hostile("comments that do not end", ".docx", lambda n: docx_with("<!--" * n), refused="damaged"),
    Hostile("entities that grow", ".docx", lambda n: docx_with(_entities(n, "&e9;")), 100, "not the text of a Word"),
    Hostile("a foreign entity", ".docx", lambda n: docx_with(f'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
            f"<w:document {W}><w:p><w:r><w:t>&e;x</w:t></w:r></w:p></w:document>".encode())),
    Hostile("relationships", ".docx", lambda n: archive_of(
        {"_rels/.rels": RELATIONSHIPS.format('<Relationship Id="a" Type="b" Target="c"/>' * n), "word/document.xml": b"<a/>"}
    ), refused="not the text of a Word"),
    Hostile("a spreadsheet", ".docx", lambda n: docx_with(b"<workbook/>"), refused="of kind 'workbook'"),
    Hostile("a part that is missing", ".docx", lambda n: archive_of({"_rels/.rels": RELATIONSHIPS.format("")}), refused="damaged"),
    Hostile("many files", ".docx", lambda n: archive_of({f"{k}": b"" for k in range(n)}), 1_000, "damaged"),
    Hostile("a large part", ".docx", lambda n: docx_with(b" " * n), 68_000_000, "unpacks to more"),
    Hostile("a long list of files", ".docx", lambda n: _forged_list(n), 5_000_000, "list of files"),
]  # fmt: skip


def _forged_list(n: int) -> bytes:
    """An archive that says that its list of files is `n` bytes long, and is."""
    content = bytearray(bytes(n) + docx_with(PARAGRAPH))
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = n.to_bytes(4, "little")
    return bytes(content)


# --- presentations, spreadsheets, OpenDocument, notebooks, archives ---------------------------------------------------

P = 'xmlns:p="p" xmlns:a="a" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'


def _listing(parts: dict[str, tuple[str, str]]) -> str:
    rows = (f'<Relationship Id="{id_}" Type="x/{kind}" Target="{part}"/>' for id_, (kind, part) in parts.items())
    return f'<Relationships xmlns="r">{"".join(rows)}</Relationships>'


def shape(text: str, placeholder: str = "") -> str:
    kind = f'<p:nvPr><p:ph type="{placeholder}"/></p:nvPr>' if placeholder else ""
    return f"<p:sp>{kind}<a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sp>"


def pptx_with(slides: list[str], order: list[int] | None = None, notes: dict[int, str] | None = None) -> bytes:
    """A presentation of the given shapes on each slide."""
    ids = "".join(f'<p:sldId id="{k}" r:id="r{k}"/>' for k in (range(len(slides)) if order is None else order))
    members = {
        "_rels/.rels": _listing({"r": ("officeDocument", "ppt/presentation.xml")}),
        "ppt/presentation.xml": f"<p:presentation {P}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": _listing(
            {f"r{k}": ("slide", f"slides/{k}.xml") for k in range(len(slides))}
        ),
        **{f"ppt/slides/{k}.xml": f"<p:sld {P}>{slide}</p:sld>" for k, slide in enumerate(slides)},
    }
    for number, text in (notes or {}).items():
        members[f"ppt/slides/_rels/{number}.xml.rels"] = _listing({"n": ("notesSlide", f"../notes{number}.xml")})
        members[f"ppt/notes{number}.xml"] = f"<p:notes {P}>{shape(text, 'body')}</p:notes>"
    return archive_of(members)


def xlsx_with(sheets: dict[str, str], texts: list[str] | None = None, **members: str) -> bytes:
    """A spreadsheet of the given rows in each sheet; cells of style 1 are dates."""
    rows = "".join(f'<sheet name="{name}" r:id="r{number}"/>' for number, name in enumerate(sheets))
    parts = {f"r{number}": ("worksheet", f"{number}.xml") for number in range(len(sheets))}
    parts |= {"s": ("sharedStrings", "strings.xml"), "t": ("styles", "styles.xml")}
    shared = "".join(f"<si><t>{text}</t></si>" for text in texts or [])
    return archive_of({
        "_rels/.rels": _listing({"r": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": f"<workbook {P}><sheets>{rows}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _listing(parts),
        "xl/strings.xml": f"<sst>{shared}</sst>",
        "xl/styles.xml": '<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs></styleSheet>',
        **{f"xl/{number}.xml": f"<worksheet><sheetData>{sheet}</sheetData></worksheet>" for number, sheet in enumerate(sheets.values())},
        **members,
    })  # fmt: skip


def odt_with(body: str) -> bytes:
    """An OpenDocument text of the given body."""
    names = 'xmlns:office="o" xmlns:text="t" xmlns:table="b"'
    return archive_of(
        {"content.xml": f"<office:document-content {names}><office:body>{body}</office:body></office:document-content>"}
    )


def _bomb(n: int) -> bytes:
    """An archive whose only file unpacks to `n` bytes."""
    return archive_of({"a.txt": b"\n" * n})


OFFICE = [
    Hostile("shapes", ".pptx", lambda n: pptx_with([shape("x") * n]), 3_000),
    Hostile("shapes in shapes", ".pptx", lambda n: pptx_with(["<p:sp>" * n + shape("x") + "</p:sp>" * n]), 200),
    Hostile("slides", ".pptx", lambda n: pptx_with([shape("x")] * n), 200),
    Hostile("a slide many times", ".pptx", lambda n: pptx_with([shape("x")], order=[0] * n)),
    Hostile("entities that grow", ".pptx", lambda n: archive_of({"_rels/.rels": _entities(n, "&e9;")}), 100, "damaged"),
    Hostile("cells", ".xlsx", lambda n: xlsx_with({"a": "<row>" + "<c><v>1</v></c>" * n + "</row>"}), 4_000),
    Hostile("more cells than are read", ".xlsx", lambda n: xlsx_with({"a": "<row>" + "<c><v>1</v></c>" * n + "</row>"}), 10_001, "columns in row"),
    Hostile("rows", ".xlsx", lambda n: xlsx_with({"a": "<row><c><v>1</v></c></row>" * n}), 4_000),
    Hostile("empty rows", ".xlsx", lambda n: xlsx_with({"a": "<row/>" * n + "<row><c><v>1</v></c></row>"})),
    Hostile("far cells", ".xlsx", lambda n: xlsx_with({"a": f'<row r="{n}"><c r="ZZZ{n}"><v>1</v></c></row>'}), 9_999_999),
    Hostile("texts", ".xlsx", lambda n: xlsx_with({"a": '<row><c t="s"><v>1</v></c></row>'}, ["x"] * n)),
    Hostile("a long text many times", ".xlsx", lambda n: xlsx_with({"a": '<row><c t="s"><v>0</v></c></row>' * 100}, ["x" * n])),
    Hostile("numbers of many digits", ".xlsx", lambda n: xlsx_with({"a": f'<row r="{"9" * n}"><c r="{"A" * n}1" s="1"><v>{"9" * n}</v></c></row>'})),
    Hostile("sheets", ".xlsx", lambda n: xlsx_with({f"s{k}": "<row><c><v>1</v></c></row>" for k in range(n)}), 200),
    Hostile("a sheet many times", ".xlsx", lambda n: xlsx_with({"a": "<row><c><v>1</v></c></row>"}, **{
        "xl/workbook.xml": f"<workbook {P}>" + '<sheet name="a" r:id="r0"/>' * n + "</workbook>"})),
    Hostile("paragraphs", ".odt", lambda n: odt_with("<text:p>x</text:p>" * n)),
    Hostile("paragraphs in paragraphs", ".odt", lambda n: odt_with("<text:p>x" * n), 10_000, "elements within one another"),
    Hostile("tables in tables", ".odt", lambda n: odt_with("<table:table><table:table-row><table:table-cell>" * n), 10_000, "elements within one another"),
    Hostile("spaces", ".odt", lambda n: odt_with(f'<text:p>x<text:s text:c="{n}"/>x</text:p>'), 2 * 10**9),
    Hostile("repeated cells", ".odt", lambda n: odt_with(
        f'<table:table><table:table-row><table:table-cell table:number-columns-repeated="{n}"><text:p>x</text:p></table:table-cell></table:table-row></table:table>'
    ), 2 * 10**9),
    Hostile("cells", ".ipynb", lambda n: json.dumps({"cells": [{"cell_type": "code", "source": "x"}] * n}).encode(), 4_000),
    Hostile("outputs", ".ipynb", lambda n: json.dumps({"cells": [{"source": "x", "outputs": [{"text": "y"}] * n}]}).encode(), 4_000),
    Hostile("colours", ".ipynb", lambda n: json.dumps({"cells": [{"source": "x", "outputs": [{"text": "\x1b[" * n}]}]}).encode()),
    Hostile("arrays in arrays", ".ipynb", lambda n: b'{"cells": ' + b"[" * n, 100_000, "."),
    Hostile("a packed file that grows", ".zip", _bomb, 50_000_000, "times its size"),
    Hostile("a large file", ".zip", _bomb, 68_000_000, "unpacks to more"),
    Hostile("many files", ".zip", lambda n: archive_of({f"{k}.txt": b"x" for k in range(n)}), 500),
    Hostile("more files than are read", ".zip", lambda n: archive_of({f"{k}": b"" for k in range(n)}), 10_001, "files"),
    Hostile("an archive in an archive", ".zip", lambda n: archive_of({"a/b.ZIP": _bomb(n)}), refused="holds another archive"),
    Hostile("a path out of the folder", ".zip", lambda n: archive_of({"../" * 50 + "etc/passwd.txt": b"x" * n})),
    Hostile("a long list of files", ".zip", lambda n: _forged_list(n), 5_000_000, "list of files"),
]  # fmt: skip

CODE_LINES = {
    "functions": "def a():\n    pass\n", "functions in functions": "def a(): def b(): ", "modifiers": "public static ",
    "types": "a<b>& * ", "commas": "a(b, c,", "quotation marks": '\"\"\"', "comments": "# x\n", "decorators": "@a\n",
    "brackets": "int a(b) (", "indents": " ", "stars": "int * ",
}  # fmt: skip
PROGRAMS = [
    *(Hostile(f"{name} ({suffix})", suffix, repeated(pattern), 4_000) for name, pattern in CODE_LINES.items() for suffix in (".py", ".cpp", ".ts")),
    Hostile("depth", ".py", lambda n: "\n".join(" " * min(k, 250) + f"def f{k}():" for k in range(n)).encode(), 1_000),
]  # fmt: skip

# --- e-books ----------------------------------------------------------------------------------------------------------

CHAPTER = "<html xmlns='http://www.w3.org/1999/xhtml'><body><p>Words.</p></body></html>"


def epub_with(spine: str, chapters: dict[str, str], items: str = "") -> bytes:
    """An e-book of the given chapters, whose names are also their ids."""
    manifest = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in chapters)
    package = f"<package><manifest>{manifest}{items}</manifest><spine>{spine}</spine></package>"
    members = {f"EPUB/{name}": text for name, text in chapters.items()}
    return archive_of({"META-INF/container.xml": CONTAINER, "EPUB/content.opf": package, **members})


def _spine(names: Iterator[str] | list[str]) -> str:
    return "".join(f'<itemref idref="{name}"/>' for name in names)


def _other_names(n: int) -> bytes:
    """One chapter, under `n` ids and as many spellings of its path."""
    items = "".join(f'<item id="i{k}" href="{"./" * (k % 50)}c" media-type="text/html"/>' for k in range(n))
    return epub_with(_spine(f"i{k}" for k in range(n)), {"c": CHAPTER.replace("Words.", "word " * n)}, items)


def _chapter(pattern: str) -> Callable[[int], bytes]:
    return lambda n: epub_with(_spine(["c"]), {"c": f"<html><body>{pattern * n}x"})


BOOKS = [
    Hostile("a chapter named again and again", ".epub", lambda n: epub_with(
        _spine(["c"] * n), {"c": CHAPTER.replace("Words.", "word " * n)})),
    Hostile("a chapter of many names", ".epub", _other_names, 5_000),
    Hostile("many chapters", ".epub", lambda n: epub_with(_spine(f"{k}" for k in range(n)), {f"{k}": CHAPTER for k in range(n)}), 300),
    Hostile("more chapters than are read", ".epub", lambda n: epub_with(
        _spine(f"i{k}" for k in range(n)), {}, "".join(f'<item id="i{k}" href="{k}"/>' for k in range(n))), 10_001, "chapters"),
    Hostile("entries that name nothing", ".epub", lambda n: epub_with(_spine(["d"] * n + ["c"]), {"c": CHAPTER})),
    Hostile("entities that grow", ".epub", lambda n: archive_of({"META-INF/container.xml": _entities(n, "&e9;")}), 100, "damaged"),
    Hostile("a path out of the book", ".epub", lambda n: epub_with(_spine(["c"]), {}, '<item id="c" href="../../../etc/passwd"/>'),
            refused="damaged"),
    Hostile("a package of great depth", ".epub", lambda n: epub_with("<a>" * n, {}), refused="damaged"),
    Hostile("a large package", ".epub", lambda n: epub_with(" " * n, {"c": CHAPTER}), 9_000_000, "bytes in EPUB/content.opf"),
    Hostile("a large chapter", ".epub", lambda n: epub_with(_spine(["c"]), {"c": CHAPTER + " " * n}), 34_000_000, "bytes in EPUB/c"),
    *(Hostile(name, ".epub", _chapter(MARKUP[name])) for name in (
        "comments that do not end", "CDATA that does not end", "scripts", "titles", "attributes that do not end")),
]  # fmt: skip


# --- PDFs -------------------------------------------------------------------------------------------------------------


def pdf_with(objects: list[bytes]) -> bytes:
    """A PDF of numbered objects, the first of which is its catalogue."""
    content, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(content))
    return content + head + table + tail


def _stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), entries, data)


FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
CATALOGUE = b"<< /Type /Catalog /Pages 2 0 R >>"


def page_with(drawing: bytes) -> bytes:
    """A PDF of one page."""
    page = b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>"
    pages = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return pdf_with([CATALOGUE, pages, page, _stream(drawing), FONT])


def _forms(n: int) -> bytes:
    """A form that draws another `n` times, which draws another `n` times ... six deep."""
    objects = [CATALOGUE, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"]
    resources = b"/Resources << /Font << /F 5 0 R >> /XObject << /X %d 0 R >> >>"
    objects += [b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R %b >>" % (resources % 6), _stream(b"/X Do " * n), FONT]
    for number in range(6, 12):
        form = b"/Type /XObject /Subtype /Form /BBox [0 0 1 1] " + resources % (number + 1)
        objects.append(_stream(b"BT /F 1 Tf (word) Tj ET " + (b"/X Do " * n if number < 11 else b""), form))
    return pdf_with(objects)


def _pages(n: int) -> bytes:
    kids = b"3 0 R " * n
    page = b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>"
    pages = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, n)
    return pdf_with([CATALOGUE, pages, page, _stream(b"BT /F 1 Tf (word) Tj ET"), FONT])


def bookmarks_of(objects: list[bytes], catalogue: bytes = b"") -> bytes:
    """A PDF of one page and an outline, whose entries are the objects from number 7 on."""
    page = b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>"
    pages = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    root = b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R %b >>" % catalogue
    text = _stream(b"BT /F 1 Tf (word) Tj ET")
    return pdf_with([root, pages, page, text, FONT, b"<< /First 7 0 R >>", *objects])


def _bookmarks(follow: bytes) -> Callable[[int], bytes]:
    """Bookmarks of which each names two others, `%d` for the number of the next object and of that after it."""
    entry = b"<< /Title (word) /Dest [3 0 R /Fit] " + follow + b" >>"
    return lambda n: bookmarks_of([entry % (number + 1, number + 2) for number in range(7, 7 + n)])


def _named_places(n: int) -> bytes:
    """Bookmarks of names, in a tree of names whose parts hold each other."""
    kids = b"<< /Kids [%b] >>" % (b"7 0 R 8 0 R " * n)
    entry = b"<< /Title (word) /Dest (none%d) /Next %d 0 R >>"
    tree = b"/Names << /Dests << /Kids [8 0 R] >> >>"
    return bookmarks_of([entry % (0, 9), kids, *(entry % (k, k + 1) for k in range(9, 9 + n))], tree)


PAPERS = [
    Hostile("bookmarks", ".pdf", _bookmarks(b"/Next %d 0 R /Parent %d 0 R"), 2_000),
    Hostile("bookmarks below one another", ".pdf", _bookmarks(b"/First %d 0 R /Next %d 0 R"), 2_000),
    Hostile("bookmarks that hold themselves", ".pdf", lambda n: bookmarks_of(
        [b"<< /Title (word) /First 7 0 R /Next 8 0 R /Dest [3 0 R /Fit] >>" for _ in range(n)])),
    Hostile("bookmarks of no object", ".pdf", lambda n: bookmarks_of(
        [b"<< /Title (word) /Dest %d 0 R /Next %d 0 R >>" % (10**6 + k, k + 1) for k in range(7, 7 + n)]), 1_000),
    Hostile("bookmarks of names", ".pdf", _named_places, 1_000),
    Hostile("names of no object", ".pdf", lambda n: bookmarks_of(
        [b"<< /Title (word) /Dest (none) >>"],
        b"/Names << /Dests << /Names [%b] >> >>" % b" ".join(b"%d 0 R 1" % (10**6 + k) for k in range(n))), 1_000),
    Hostile("parts of names of no object", ".pdf", lambda n: bookmarks_of(
        [b"<< /Title (word) /Dest (none) >>"],
        b"/Names << /Dests << /Kids [%b] >> >>" % b" ".join(b"%d 0 R" % (10**6 + k) for k in range(n))), 1_000),
    Hostile("a long bookmark", ".pdf", lambda n: bookmarks_of([b"<< /Title (%b) /Dest [3 0 R] >>" % (b"word " * n)])),
    Hostile("operations", ".pdf", lambda n: page_with(b"q Q " * n + b"BT /F 1 Tf (x) Tj ET"), 2_000),
    Hostile("texts", ".pdf", lambda n: page_with(b"BT /F 1 Tf " + b"(word) Tj " * n + b"ET"), 1_000),
    Hostile("an array of texts", ".pdf", lambda n: page_with(b"BT /F 1 Tf [" + b"(a) 1 " * n + b"] TJ ET"), 2_000),
    Hostile("brackets", ".pdf", lambda n: page_with(b"BT /F 1 Tf " + b"(" * n + b")" * n + b" Tj ET"), 5_000),
    Hostile("arrays in arrays", ".pdf", lambda n: page_with(b"[" * n), 2_000, " "),
    Hostile("forms in forms", ".pdf", _forms, 2),
    Hostile("a page many times", ".pdf", _pages, 50),
    Hostile("pages that hold themselves", ".pdf", lambda n: pdf_with([CATALOGUE, b"<< /Kids [%b] >>" % (b"2 0 R " * n)]), 100, " "),
    Hostile("a forged number of pages", ".pdf", lambda n: _pages(1).replace(b"/Count 1", b"/Count %d" % n), 10**9),
    Hostile("end marks", ".pdf", lambda n: b"%PDF-1.7\n" + b"startxref\n" * n, 2_000, " "),
    Hostile("objects that do not end", ".pdf", lambda n: b"%PDF-1.7\n" + b"1 0 obj <<" * n, 2_000, " "),
]  # fmt: skip


# --- chats ------------------------------------------------------------------------------------------------------------


def _line(value: object) -> bytes:
    return json.dumps(value).encode()


CHATS = [
    Hostile("arrays in arrays", ".jsonl", lambda n: b"[" * n, 100_000, "bad line 1"),
    Hostile("objects in objects", ".jsonl", lambda n: b'{"text":' * n, 100_000, "bad line 1"),
    Hostile("values", ".jsonl", lambda n: b'{"text": "x", "a": [' + b"0," * n + b"0]}"),
    Hostile("more values than are read", ".jsonl", lambda n: b'{"a": [' + b"{}," * n + b"0]}", 1_000_001, "values in line 1"),
    Hostile("keys", ".jsonl", lambda n: b'{"text": "x", ' + b",".join(b'"%d":0' % k for k in range(n)) + b"}"),
    Hostile("a number of many digits", ".jsonl", lambda n: b'{"text": "x", "a": ' + b"9" * n + b"}", refused="bad line 1"),
    Hostile("escapes", ".jsonl", lambda n: b'{"text": "' + b"\\ud83d" * n + b'"}'),
    Hostile("a text that does not end", ".jsonl", lambda n: b'{"text": "' + b"\\" * (2 * n), refused="bad line 1"),
    Hostile("empty lines", ".jsonl", lambda n: b"\n" * n + b'{"text": "x"}'),
    Hostile("messages without text", ".jsonl", lambda n: _line({"messages": [{"role": "a", "content": None}] * n + [{"role": "b", "content": "x"}]})),
    Hostile("roles", ".jsonl", lambda n: _line({"role": "a\n" * n, "content": "x"})),
    Hostile("parts", ".jsonl", lambda n: _line({"role": "a", "content": [{"text": "x"}] * n})),
]  # fmt: skip

_SAYING = b'{"role": "a", "content": "x"}'
_DATED = "[12/05/23, 10:15:32] "

EXPORTS = [
    Hostile("arrays in arrays", ".json", lambda n: b"[" * n + b"x", 100_000),
    Hostile("objects in objects", ".json", lambda n: b'{"messages":' * n, 100_000),
    Hostile("values on every level", ".json", lambda n: b'{"messages": ' * n + b"[]" + b',"a": 1}' * n, 4_000),
    Hostile("messages in messages", ".json", lambda n: b'[{"messages":' * n, 100_000),
    Hostile("quotes", ".json", lambda n: b'["' + b'"' * n),
    Hostile("backslashes", ".json", lambda n: b'["' + b"\\" * n),
    Hostile("commas", ".json", lambda n: b"[" + b"," * n),
    Hostile("messages", ".json", lambda n: b"[" + b",".join([_SAYING] * n) + b"]"),
    Hostile("messages and a depth", ".json", lambda n: b"[" + _SAYING + b"," + b"[" * n + b"]" * n + b"]", 100_000),
    Hostile("messages and values", ".json", lambda n: b"[" + _SAYING + b", [" + b"0," * n + b"0]]", 1_000_001, "values in an item"),
    Hostile("keys", ".json", lambda n: b'{"messages": [' + _SAYING + b"], " + b",".join(b'"%d":0' % k for k in range(n)) + b"}"),
    Hostile("a long tree", ".json", lambda n: json.dumps([{"mapping": {str(k): {"parent": str(k - 1), "message": {
        "author": {"role": "user"}, "content": {"parts": ["x"]}}} for k in range(n)}}]).encode(), 2_000),
    Hostile("dates", ".json", lambda n: json.dumps([{"role": "a", "content": "x", "date": "9" * n}] * 50).encode()),
    Hostile("heads of messages", ".txt", repeated(_DATED + "Ann: x\n"), 2_000),
    Hostile("heads without names", ".txt", repeated((_DATED + "Ann: x\n") * 2 + _DATED), 1_000),
    Hostile("dates in WhatsApp", ".txt", repeated("12/05/23, ")),
    Hostile("a message that does not end", ".txt", lambda n: (_DATED + "Ann: x\n" + _DATED + "Bo: " + "y\n" * n).encode()),
]  # fmt: skip

ENCODED = [
    Hostile("marks of an encoding", ".txt", lambda n: b"\xef\xbb\xbf" * n + b"x"),
    Hostile("half characters", ".txt", lambda n: b"\xff\xfe" + b"\x00\xd8" * n, refused="valid UTF-16"),
    Hostile("broken bytes", ".txt", lambda n: b"x" + b"\xff" * n, refused="is not valid"),
    Hostile("a long line", ".txt", lambda n: b"x" * n, 1_000_000),
    Hostile("NUL", ".txt", lambda n: b"x" * n + b"\0" * n, refused="NUL"),
]

HOSTILE: list[Hostile] = [
    *(Hostile(name, ".txt", repeated(pattern)) for name, pattern in TEXT.items()),
    *(Hostile(name, ".md", repeated(TEXT[name])) for name in ("headings", "brackets", "backticks")),
    *(Hostile(name, ".html", repeated(pattern), _size(pattern)) for name, pattern in MARKUP.items()),
    *PAGES, *WORD, *OFFICE, *PROGRAMS, *BOOKS, *PAPERS, *CHATS, *EXPORTS, *ENCODED,
    *(Hostile(*case) for case in CASES),
]  # fmt: skip
