"""Token spans: tokens grouped so that no character is cut, for showing them to readers."""

from collections.abc import Callable, Sequence

CONTEXT = 4  # tokens before a span that are decoded with it: some decoders drop the space of a first token
UNFINISHED = "\ufffd"  # decoders return it for the bytes of an incomplete character
LONGEST = 4  # bytes of a character in UTF-8: after so many the character is really unknown


def token_spans(ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[tuple[str, list[int]]]:
    """The text of `ids` in spans, each with the indices of its tokens: one token, or those that share a character."""
    spans: list[tuple[str, list[int]]] = []
    tokens: list[int] = []
    for index in range(len(ids)):
        tokens.append(index)
        start = tokens[0]
        before = list(ids[max(0, start - CONTEXT) : start])
        text = decode([*before, *ids[start : index + 1]])[len(decode(before)) :]
        if text.endswith(UNFINISHED) and len(tokens) < LONGEST and index + 1 < len(ids):
            continue
        spans.append((text, tokens))
        tokens = []
    return spans
