"""A text whose sentences name what they rest on: `[n]` behind a sentence stands for the n-th citation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from memspan.assistant.locations import Location
from memspan.data.scripts import UNSPACED

SHOWN = 160  # characters of a passage below a text


@dataclass(frozen=True)
class Cited:
    """What a sentence rests on.

    Attributes:
        source: the name of the document.
        start, end: characters of its text, whose white space counts as it stands.
        text: these characters, in one line.
        location: the chapter, page and line that it begins with.
    """

    source: str
    start: int
    end: int
    text: str
    location: Location


@dataclass(frozen=True)
class Statement:
    """A sentence with the positions, from 0, of what it rests on.

    Attributes:
        by: who says that it does: "text" for a sentence that is the document's own, "engine" for a mark of the engine that
            wrote it, "words" where the engine set none, and the passage was found by the words of the sentence.
    """

    text: str
    citations: tuple[int, ...]
    by: str = "text"


@dataclass(frozen=True)
class CitedText:
    """Sentences, and what they rest on.

    Attributes:
        left_out: sentences that an engine wrote and that rest on nothing it was given.
        names: names and terms of the document, with what they stand for where the document says so.
    """

    statements: tuple[Statement, ...]
    citations: tuple[Cited, ...]
    left_out: int = 0
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The sentences in one paragraph, each with its marks."""
        shown = ""
        for statement in self.statements:
            marks = ", ".join(str(position + 1) for position in statement.citations)
            gap = "" if not shown or (statement.text[:1] and _is_unspaced(statement.text[0])) else " "
            shown += f"{gap}{statement.text} [{marks}]"
        return shown

    def listed(self) -> str:
        """The citations, a line for each."""
        lines = []
        for number, cited in enumerate(self.citations, start=1):
            where = f", {cited.location}" if str(cited.location) else ""
            excerpt = cited.text if len(cited.text) <= SHOWN else f"{cited.text[: SHOWN - 3].rstrip()}..."
            lines.append(f"[{number}] {cited.source}{where}: {excerpt}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The text and all that belongs to it, for JSON."""
        return {
            "text": self.text,
            "sentences": [asdict(statement) for statement in self.statements],
            "citations": [
                {"number": number, **asdict(cited), "location": str(cited.location), **asdict(cited.location)}
                for number, cited in enumerate(self.citations, start=1)
            ],
            "left_out": self.left_out,
            "names": dict(self.names),
        }


def renumbered(statements: Sequence[Statement], cited: Sequence[Cited], **rest: Any) -> CitedText:
    """The sentences with those citations alone that they name, numbered in the order in which they are named."""
    order = list(dict.fromkeys(position for statement in statements for position in statement.citations))
    positions = {position: number for number, position in enumerate(order)}
    renamed = tuple(
        Statement(statement.text, tuple(positions[position] for position in statement.citations), statement.by)
        for statement in statements
    )
    return CitedText(renamed, tuple(cited[position] for position in order), **rest)


def _is_unspaced(character: str) -> bool:
    """Whether a character is of a script that is written without spaces."""
    return re.match(f"[{UNSPACED}]", character) is not None
