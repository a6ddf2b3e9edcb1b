"""Replies that are sent while they are made: JSON values as server-sent events, or as JSON Lines."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from fastapi import Request
from starlette.responses import StreamingResponse

from memspan.serve.disconnects import unless_left
from memspan.serve.replies import as_api_error
from memspan.serve.service import Service

UNCACHED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


# Of routes, for the contract: what they reply with beside JSON, or instead of it.
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
LINES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}}

DONE = "data: [DONE]\n\n"  # the last event of a completion


def as_event(value: Any) -> str:
    """A server-sent event. Raises ValueError for a number that JSON does not have."""
    return f"data: {json.dumps(value, ensure_ascii=False, allow_nan=False)}\n\n"


def as_line(value: Any) -> str:
    """A line of JSON Lines."""
    return f"{json.dumps(value, ensure_ascii=False)}\n"


TYPES: dict[Callable[[Any], str], str] = {as_event: "text/event-stream", as_line: "application/jsonl"}


async def streamed(
    request: Request, service: Service, values: AsyncGenerator[Any, None], form: Callable[[Any], str]
) -> StreamingResponse:
    """The reply that sends each value, in this form, as it comes.

    What is wrong before the first value is an error with its own status; what is wrong later is sent as the last value.
    """
    first = await unless_left(request, anext(values))

    async def texts() -> AsyncIterator[str]:
        try:
            async with aclosing(values):
                yield form(first)
                async for value in values:
                    yield form(value)
        except Exception as error:
            yield form(as_api_error(error, str(service.library.root)).body())

    return StreamingResponse(texts(), media_type=TYPES[form], headers=UNCACHED)
