"""RSS and Atom: the entries of a feed as texts, by feedparser, which only reads what it is given."""

import calendar
import io
from collections.abc import Iterator
from typing import Any

from memspan.apps.monitor.entries import Entry, Rejected, made


def entries(data: bytes, group: str, now: float) -> Iterator[Entry | Rejected]:
    """The entries of a feed: title and summary as visible text, the time of publication, the id or link.

    Args:
        group: within which ids are unique.
        now: unix seconds.
    """
    import feedparser

    # A stream: feedparser takes a string for an address or a path, but reads from a stream what is in it.
    feed = feedparser.parse(io.BytesIO(data))
    if not feed.entries:
        if feed.get("bozo") or not feed.get("version"):
            yield Rejected(0, "is no feed that can be read")
        return
    for number, entry in enumerate(feed.entries, 1):
        parts = [visible(str(entry.get(name) or "")) for name in ("title", "summary")]
        if parts[0] and parts[1].startswith(parts[0]):
            parts = parts[1:]
        when = _seconds(entry)
        yield made(
            number, "\n".join(filter(None, parts)), when, str(entry.get("id") or entry.get("link") or ""), group, now
        )


def visible(markup: str) -> str:
    """The visible text of a title or summary, in one line; it may hold HTML."""
    from lxml import etree, html

    if "<" not in markup and "&" not in markup:
        return " ".join(markup.split())
    try:
        tree = html.fragment_fromstring(markup, create_parent="div")
    except (etree.ParserError, ValueError):
        return " ".join(markup.split())
    etree.strip_elements(tree, "script", "style", etree.Comment, with_tail=False)
    return " ".join(" ".join(tree.itertext()).split())


def _seconds(entry: Any) -> int | None:
    """The unix seconds of publication; None where the feed says nothing that is a time."""
    parsed = entry.get("published_parsed") or entry.get("updated_parsed")
    return None if parsed is None else calendar.timegm(parsed)
