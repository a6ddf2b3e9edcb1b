"""Plain text, and Markdown, which is read as it stands."""

from collections.abc import Iterator

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded


def read_text(source: FileSource) -> Iterator[str]:
    """Text as it stands; line ends become "\\n" and a byte order mark is dropped.

    Raises UnreadableSource for binary data, a wrong encoding, and a line that is too long to be prose.
    """
    return decoded(source, cure="break its lines first, for instance with `fold -s`")


TEXT = Format("txt", (".txt",), read_text, verbatim=True)
MARKDOWN = Format("md", (".md", ".markdown"), read_text, verbatim=True)
