"""`memspan history`: what a memory says about a question, in the order of time."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.auditing import audited, sources_of
from memspan.cli.commands import command
from memspan.cli.evidence import PREVIEW, reference
from memspan.cli.filters import ALSO, Filters, takes_filters
from memspan.cli.options import (
    AS_JSON,
    MEMORY,
    MIN_CONFIDENCE,
    MODEL,
    Loading,
    load_language_model,
    loads_model,
    open_memories,
    require_text,
)
from memspan.cli.output import print_info, print_json, print_line, printable

if TYPE_CHECKING:
    from memspan.assistant.history import Entry


# The parameters are the options.
@command()
@loads_model
@takes_filters
def history(
    folder: MEMORY,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What the passages are about.")],
    loading: Loading,
    filters: Filters,
    also: ALSO = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Number of passages.")] = 8,
    min_confidence: MIN_CONFIDENCE = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show what a memory says about a question in the order of time, the latest last.

    The time of a passage is that of what it is about, where a date is known; else it is when the text was read. A star
    marks a sentence that states what is asked for, as far as the sentence encoder can tell; all of these are shown.

    Example: memspan history diary.mem "Where does Ann live?"
    """
    require_text("question", question)
    filter = filters.filter()
    lm = load_language_model(model, loading, folder, opened=True)
    memory = open_memories(lm, [folder, *(also or ())])
    from memspan.assistant.confidence import MIN_CONFIDENCE as LEAST
    from memspan.assistant.confidence import SILENCE
    from memspan.assistant.excerpts import excerpts
    from memspan.assistant.history import history as entries_of
    from memspan.assistant.locations import locate

    least = LEAST if min_confidence is None else min_confidence
    with audited("history", folder, *(also or ()), question=question) as event:
        entries = entries_of(lm, memory, question, top=top, filter=filter, min_confidence=least)
        event.sources = sources_of(entry.passage for entry in entries)
    if as_json:
        records = [
            {"time": entry.time, "is_event": entry.is_event, "statement": entry.statement, **asdict(entry.passage)}
            for entry in entries
        ]
        print_json({"question": question, "history": records})
        return
    view = memory.view()
    shown = excerpts(view, question, [entry.passage.text for entry in entries], PREVIEW)
    for entry, excerpt in zip(entries, shown, strict=True):
        passage = entry.passage
        location = locate(view, passage.number, passage.start, passage.marks)
        print_line(f"{_day(entry)}  {reference(passage.source, location)}", style="bold")
        stated = entry.statement
        text = excerpt if stated is None else f"* {stated}"
        print_line(f"    {shorten(printable(text), PREVIEW, placeholder=' ...')}")
    if not entries:
        print_info(SILENCE)


def _day(entry: "Entry") -> str:
    """The day of an event, as its text has it; the day of a reading, in local time."""
    if entry.is_event:
        return datetime.fromtimestamp(entry.time, UTC).strftime("%Y-%m-%d")
    return f"{time.strftime('%Y-%m-%d', time.localtime(entry.time))} (read)"
