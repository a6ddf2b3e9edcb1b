"""What is kept of a response beside the texts of its exchange, among the values of the exchange's source."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

KEPT: Final = "response"  # the name of a response among these values
SEARCH: Final = (
    "search"  # in a response: the call of `file_search` without its results, whose texts may be forgotten elsewhere
)


def without_message(values: Mapping[str, Any], *, is_reply: bool) -> dict[str, Any]:
    """The values of an exchange of which one message is forgotten: nothing of the reply, or nothing that repeats the message.

    A response whose reply is forgotten is none any more. The queries of a search are the user's message.
    """
    kept = values.get(KEPT)
    if not isinstance(kept, dict):
        return dict(values)
    if is_reply:
        return {name: value for name, value in values.items() if name != KEPT}
    search = kept.get(SEARCH)
    if not isinstance(search, dict):
        return dict(values)
    return {**values, KEPT: {**kept, SEARCH: {**search, "queries": []}}}


def citations(values: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """The annotations of the reply of an exchange with these values; none where nothing was searched for."""
    kept = values.get(KEPT)
    search = kept.get(SEARCH) if isinstance(kept, dict) else None
    cited = search.get("annotations") if isinstance(search, dict) else None
    return cited if isinstance(cited, list) else ()
