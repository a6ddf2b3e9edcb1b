"""Where a reply ends: before a stop text, and without white space around it."""

from collections.abc import Generator, Iterator, Sequence


def stopped(parts: Generator[str, None, object], stops: Sequence[str]) -> Generator[str, None, object]:
    """The text in `parts` up to the first of the stop texts; returns what `parts` returns, None where it was cut.

    White space before the text is dropped, and that behind it. What may be the beginning of a stop text is held back until
    it is known not to be. Empty parts are passed on.
    """
    text, shown, returned = "", 0, None
    while True:
        try:
            part = next(parts)
        except StopIteration as end:
            returned = end.value
            break
        if not part:
            yield part
            continue
        text += part
        if shown == 0:
            text = text.lstrip()
        found = [start for stop in stops if (start := text.find(stop)) >= 0]
        if found:
            parts.close()
            text = text[: min(found)]
            break
        certain = len(text[: len(text) - _begun(text, stops)].rstrip())
        if certain > shown:
            yield text[shown:certain]
            shown = certain
    if rest := text.rstrip()[shown:]:
        yield rest
    return returned


def _begun(text: str, stops: Sequence[str]) -> int:
    """The characters at the end of a text that may be the beginning of a stop text."""
    lengths: Iterator[int] = (
        length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])
    )
    return max(lengths, default=0)
