"""Tokens as readers see them: a character that several tokens make up is one piece."""

from collections.abc import Callable, Sequence

CONTEXT = 4  # tokens before a piece that are decoded with it: some decoders drop the space of a first token
UNFINISHED = "\ufffd"  # what decoders put for the bytes of a character that is not complete
LONGEST = 4  # bytes of a character in UTF-8: after so many, the character is really unknown


def pieces(ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[tuple[str, list[int]]]:
    """The text of `ids` in pieces, each with the places of the tokens that make it up."""
    found: list[tuple[str, list[int]]] = []
    open_places: list[int] = []
    for place in range(len(ids)):
        open_places.append(place)
        begin = open_places[0]
        before = list(ids[max(0, begin - CONTEXT) : begin])
        text = decode([*before, *ids[begin : place + 1]])[len(decode(before)) :]
        if text.endswith(UNFINISHED) and len(open_places) < LONGEST and place + 1 < len(ids):
            continue
        found.append((text, open_places))
        open_places = []
    return found
