"""A memory as HTML for notebooks. The names of its sources may come from strangers, and are escaped."""

from html import escape
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memspan.memory.view import Contents

SHOWN = 50  # sources in the table, at most


def as_html(memory: "Contents") -> str:
    """The numbers of a memory, and a table of its first sources."""
    where = "in RAM" if memory.path is None else str(memory.path)
    count = len(memory.sources)
    summary = f"{count:,} sources, {len(memory):,} passages, {memory.tokens:,} tokens; {where}"
    rows = [
        f'<tr><td style="text-align: left">{escape(source.name)}</td><td>{escape(source.kind)}</td>'
        f"<td>{source.characters:,}</td></tr>"
        for source in islice(memory.sources.values(), SHOWN)
    ]
    more = [f"<p>and {count - SHOWN:,} more</p>"] if count > SHOWN else []
    head = "<tr><th>source</th><th>kind</th><th>characters</th></tr>"
    return "\n".join([f"<p>{escape(summary)}</p>", "<table>", head, *rows, "</table>", *more])
