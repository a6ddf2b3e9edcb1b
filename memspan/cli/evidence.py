"""Printing what an answer rests on: the quoted sentence, the passages, and where they stand."""

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

from memspan.cli.output import print_line, printable

if TYPE_CHECKING:
    from memspan.assistant.carried import Carried
    from memspan.assistant.locations import Location
    from memspan.assistant.newest import Statement
    from memspan.assistant.quotes import Quote
    from memspan.assistant.retrieved import RetrievedPassage
    from memspan.memory import Contents

PREVIEW = 160  # characters of a passage in a list
EARLIER = 3  # statements that a newer one has replaced, at most


def print_quote(quote: "Quote") -> None:
    """Print the sentence on one line, and where it stands."""
    print_line(f"> {' '.join(printable(quote.text).split())}")
    print_line(f"  {reference(quote.source, quote.location)}", style="dim")


def print_statements(statements: "Sequence[Statement]") -> None:
    """Print since when the last of the statements holds, and what was stated before; nothing where it replaces none."""
    if len(statements) < 2:
        return
    *earlier, latest = statements
    print_line(f"Since {_day(latest)}: {_shortened(latest.text)} ({latest.source})")
    for statement in reversed(earlier[-EARLIER:]):
        print_line(f"  before, {_day(statement)}: {_shortened(statement.text)} ({statement.source})", style="dim")
    print_line("")


def print_passages(
    passages: "Sequence[RetrievedPassage]", memory: "Contents", numbers: Sequence[int] | None = None, question: str = ""
) -> None:
    """Print where each passage stands, its score and confidence, and a stretch of its text, behind its number.

    Args:
        numbers: as an answer cites the passages; None counts them from 1.
        question: the stretch is around what it asks for; the beginning of the text without a question.
    """
    from memspan.assistant.excerpts import excerpts
    from memspan.assistant.locations import locate

    view = memory.view()
    shown = excerpts(view, question, [passage.text for passage in passages], PREVIEW)
    for number, passage, text in zip(numbers or range(1, len(passages) + 1), passages, shown, strict=True):
        location = locate(view, passage.number, passage.start, passage.marks)
        sure = "" if passage.confidence is None else f", confidence {passage.confidence:.2f}"
        print_line(f"[{number}] {reference(passage.source, location)}, score {passage.score:.2f}{sure}", style="bold")
        print_line(f"    {' '.join(printable(text).split())}")


def print_condensed(passages: "Sequence[RetrievedPassage]", memory: "Contents") -> None:
    """Print where the passages stand that were read in condensed form; nothing without any."""
    from memspan.assistant.locations import locate

    view = memory.view()
    where = (
        reference(passage.source, locate(view, passage.number, passage.start, passage.marks)) for passage in passages
    )
    if listed := "; ".join(where):
        print_line(f"read condensed: {listed}", style="dim")


def print_carried(texts: "Sequence[Carried]") -> None:
    """Print how much likelier the answer is with each text than without it, the most first; nothing without texts."""
    if texts:
        gains = ", ".join(f"[{text.number}] {text.gain:+.2f}" for text in texts)
        print_line(f"carried by {gains} (nats per token of the answer)", style="dim")


def _day(statement: "Statement") -> str:
    """The day of a statement in words; empty for a time that no calendar has."""
    from memspan.data.dates import day_of, in_words

    day = day_of(statement.time)
    return "" if day is None else in_words(day)


def _shortened(text: str) -> str:
    return shorten(printable(text), PREVIEW, placeholder=" ...")


def reference(source: str, location: "Location") -> str:
    """The name of a source, and the chapter, page and line in it as far as they are known."""
    return f"{source}, {location}" if str(location) else source
