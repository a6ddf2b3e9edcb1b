"""Items: the messages of an exchange as the APIs of responses and conversations have them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from memspan.assistant.chat import Exchange


def item_id(source: str, role: str) -> str:
    """The id of the user's or the assistant's message of an exchange."""
    return f"msg_{hashlib.sha256(f'{source} {role}'.encode()).hexdigest()[:32]}"


def user_item(exchange: Exchange) -> dict[str, Any]:
    content = [{"type": "input_text", "text": exchange.user}]
    name = item_id(exchange.source, "user")
    return {"id": name, "type": "message", "role": "user", "status": "completed", "content": content}


def assistant_item(
    name: str, text: str, status: str = "completed", annotations: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    content = [text_part(text, annotations)]
    return {"id": name, "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str, annotations: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}


def search_item(
    name: str, queries: Sequence[str], status: str = "completed", results: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """A call of the tool `file_search`; without results where they were not asked for."""
    call = {"id": name, "type": "file_search_call", "status": status}
    return {**call, "queries": list(queries), "results": results}


def items_of(
    exchanges: Sequence[Exchange], citations: Callable[[Exchange], Sequence[dict[str, Any]]] = lambda exchange: ()
) -> list[dict[str, Any]]:
    """The messages of exchanges, in their order; what was not said is none.

    Args:
        citations: the annotations of the reply of an exchange.
    """
    items = []
    for exchange in exchanges:
        if exchange.user:
            items.append(user_item(exchange))
        if exchange.assistant:
            name = item_id(exchange.source, "assistant")
            items.append(assistant_item(name, exchange.assistant, annotations=citations(exchange)))
    return items


def page(items: Sequence[dict[str, Any]], limit: int, after: str | None, order: str) -> dict[str, Any]:
    """A page of a list: at most `limit` items behind the one with the id `after`."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    names = [item["id"] for item in ordered]
    start = names.index(after) + 1 if after in names else 0
    shown = ordered[start : start + limit]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else ("", "")
    has_more = start + limit < len(ordered)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": has_more}
