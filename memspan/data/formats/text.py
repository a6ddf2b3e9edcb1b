"""Plain text, and Markdown, which is read as it stands."""

from collections.abc import Iterator
from itertools import chain

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded
from memspan.data.formats.whatsapp import chat_portions, day_comes_first, is_whatsapp
from memspan.data.headings import with_headings
from memspan.data.marks import Mark

# Of texts for people. In others, such as programs and tables, "# " or a date at the start of a line is no heading.
_PROSE = frozenset({"", ".txt", ".text", ".md", ".markdown", ".rst", ".log"})


def read_text(source: FileSource) -> Iterator[str | Mark]:
    """Text as it stands; line ends become "\\n" and a byte order mark is dropped. Marks say what its lines show.

    A chat that WhatsApp exported becomes turns, whose dates are marks. Raises UnreadableSource for binary data, a wrong
    encoding, and a line that is too long to be prose.
    """
    suffix = source.path.suffix.lower()
    portions = _portions(source)
    if suffix == ".txt":
        beginning = next(portions, "")
        if is_whatsapp(beginning):
            return chat_portions(chain([beginning], portions), day_comes_first(_portions(source)))
        portions = chain([beginning], portions)
    return with_headings(portions) if suffix in _PROSE else portions


def _portions(source: FileSource) -> Iterator[str]:
    return decoded(source, cure="break its lines first, for instance with `fold -s`")


TEXT = Format("txt", (".txt",), read_text, verbatim=True)
MARKDOWN = Format("md", (".md", ".markdown"), read_text, verbatim=True)
