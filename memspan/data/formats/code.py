"""Programs: their text as it stands, with marks where functions and classes begin.

A definition is found by the form of its line and its indentation, in all languages alike, without parsing: files may be
broken, of an unknown dialect, or made to exhaust a parser. A function belongs to the definitions around it that are
indented less; it ends before the next line that is not indented more, closing brackets and words such as "end" aside.
Comments and decorators right above a definition belong to it. What formatters write is read so; code on lines that are
not indented by its structure is not.
"""

import re
from collections.abc import Iterable, Iterator

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded, lines_of
from memspan.data.marks import Mark

LONGEST = 300  # characters of a line that may begin a definition
MOST_ABOVE = 200  # lines of comments and decorators above a definition
_TAB = 8  # columns

_WORDS = (
    "abstract|async|const|def|default|export|extern|fileprivate|final|func|inline|internal|local|open|override|partial|private"
    "|protected|pub|public|sealed|static|suspend|unsafe|data|case|virtual|friend|mutating"
)
_KEYWORDS = (
    "class|def|enum|fn|func|fun|function|impl|interface|mod|module|namespace|object|protocol|record|struct|trait|type"
    "|union|extension|sub|contract"
)
# "class Name", "export async function name", "func (r *Receiver) Name", "impl<T> Name", "def self.name"
_KEYWORD = re.compile(
    rf"(?P<indent>[ \t]*)(?:(?:{_WORDS})(?:\([a-z ]{{1,20}}\))?[ \t]+){{0,6}}(?:{_KEYWORDS})(?![\w-])[ \t*]*"
    r"(?:<[^<>\n]{0,60}>[ \t]*)?(?:\([^()\n]{0,80}\)[ \t]*)?(?P<name>[A-Za-z_$\u0080-\uffff][\w$.:]{0,100}+)"
    r"(?=[ \t]*(?:[(\[{:<;,&]|=>|(?:extends|implements|where|for|with|is|struct|interface)\b|$))"
)
# "const name = (a) => ...", "name = function ..."
_ASSIGNED = re.compile(
    r"(?P<indent>[ \t]*)(?:export[ \t]+)?(?:const|let|var)[ \t]+(?P<name>[\w$]{1,100})[ \t]*(?::[^=\n]{1,80})?=[ \t]*(?:async[ \t]*)?"
    r"(?:function\b|\([^()\n]{0,200}\)[^=\n]{0,60}=>|[\w$]{1,60}[ \t]*=>)"
)
# "static int name(...) {", "public List<String> name(...)", "Type Class::name(": no word that begins a statement
_TYPED = re.compile(
    r"(?P<indent>[ \t]*)(?!(?:return|else|if|for|while|switch|do|case|new|throw|delete|goto|using|await|yield|in|not|and|or|assert"
    r"|package|import|from|print|echo)\b)(?:[A-Za-z_][\w:<>,\[\]?.]{0,60}+[ \t&*]++){1,6}(?P<name>~?[A-Za-z_][\w:~]{0,100})[ \t]*"
    r"\([^;\"'=]{0,200}(?:\)[ \t]*(?:const|override|noexcept|final|throws[ \t][\w., ]{1,80}|[ \t]){0,4}\{?[ \t]*|,[ \t]*)$"
)
# A method of JavaScript: "name(...) {"
_METHOD = re.compile(
    r"(?P<indent>[ \t]+)(?:(?:async|static|get|set|public|private|protected)[ \t]+){0,3}"
    r"(?!(?:if|for|while|switch|catch|with|return|function)\b)(?P<name>[#\w$]{1,100})\([^()\n]{0,200}\)[^;\n(){}]{0,80}\{[ \t]*$"
)
_BRACED = frozenset({".c", ".h", ".cc", ".cpp", ".cxx", ".hpp", ".hh", ".java", ".cs", ".dart", ".m", ".mm"})
_SCRIPTS = frozenset({".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".vue"})
_OTHERS = frozenset(
    {
        ".py",
        ".pyi",
        ".go",
        ".rs",
        ".rb",
        ".php",
        ".swift",
        ".kt",
        ".kts",
        ".scala",
        ".lua",
        ".jl",
        ".pl",
        ".pm",
        ".sol",
        ".ex",
    }
)
_ABOVE = re.compile(r"[ \t]*(?:#(?!include|define|if|endif|else|pragma)|//|/\*|\*|@|\[[A-Z]|--)")
_CLOSES = re.compile(
    r"[ \t]*(?:[)\]}{]|end\b|else\b|elif\b|except\b|finally\b|catch\b|#|//|/\*|\*|(?:public|private|protected)[ \t]*:)"
)
_QUOTES = re.compile("\"\"\"|'''")


def read_code(source: FileSource) -> Iterator[str | Mark]:
    """A program as it stands; marks "heading" with the qualified name of each function and class, and "line".

    Raises UnreadableSource for binary data, a wrong encoding, and a line that is too long.
    """
    suffix = source.path.suffix.lower()
    patterns = [_KEYWORD]
    patterns += [_TYPED] if suffix in _BRACED else [_ASSIGNED, _METHOD] if suffix in _SCRIPTS else []
    lines = lines_of(decoded(source, cure="it is no program that a person wrote"))
    return _marked(lines, patterns, has_docstrings=suffix in (".py", ".pyi"))


def _marked(lines: Iterable[str], patterns: list[re.Pattern[str]], has_docstrings: bool) -> Iterator[str | Mark]:
    """The lines, with marks where definitions begin and where the text around them goes on."""
    open_: list[tuple[int, str]] = []  # the column and the name of each definition around the current line
    above: list[str] = []  # comments and decorators that may belong to a definition below them
    quotes = ""  # those of the string that is open
    for number, line in enumerate(lines, start=1):
        inside, quotes = quotes, _quotes_after(line, quotes) if has_docstrings else ""
        blank = not line.strip()
        found = None if inside or blank or len(line) > LONGEST else _definition(line, patterns)
        if found is not None:
            column, name = found
            while open_ and open_[-1][0] >= column:
                open_.pop()
            open_.append((column, name))
            yield Mark("line", number - len(above))
            yield Mark("heading", ".".join(part for _, part in open_))
        elif not inside and not blank and len(above) < MOST_ABOVE and _ABOVE.match(line) and not quotes:
            above.append(line)
            continue
        elif not inside and not blank and open_ and _column(line) <= open_[-1][0] and not _CLOSES.match(line):
            while open_ and open_[-1][0] >= _column(line):
                open_.pop()
            yield Mark("line", number - len(above))
            yield Mark("heading", ".".join(part for _, part in open_) or None)
        yield from above
        above = []
        yield line
    yield from above


def _definition(line: str, patterns: list[re.Pattern[str]]) -> tuple[int, str] | None:
    """The column and the name of the definition that a line begins; None for any other line."""
    for pattern in patterns:
        match = pattern.match(line)
        if match is not None:
            return _column(line), match["name"].rstrip(".:")
    return None


def _column(line: str) -> int:
    """The column of the first character of a line that is not blank."""
    indent = line[: len(line) - len(line.lstrip())]
    return len(indent.expandtabs(_TAB))


def _quotes_after(line: str, quotes: str) -> str:
    """The triple quotation marks that are open behind a line, given those that are open before it."""
    position = 0
    while True:
        if quotes:
            end = line.find(quotes, position)
            if end < 0:
                return quotes
            position, quotes = end + 3, ""
        start = _QUOTES.search(line, position)
        if start is None or "#" in line[position : start.start()]:
            return ""
        position, quotes = start.end(), start[0]


CODE = Format("code", tuple(sorted(_OTHERS | _BRACED | _SCRIPTS)), read_code, verbatim=True)
