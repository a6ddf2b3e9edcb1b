"""Clients that leave before they have their reply."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from fastapi import Request

from memspan.serve.replies import ApiError

Result = TypeVar("Result")
_SECONDS = 0.2  # between two looks at the connection


async def unless_left(request: Request, awaitable: Awaitable[Result]) -> Result:
    """The result of `awaitable`, which is cancelled when the client of `request` has gone. Raises ApiError 499 then."""
    task = asyncio.ensure_future(awaitable)
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=_SECONDS)
            if done:
                return task.result()
            if await request.is_disconnected():
                raise ApiError(499, "The client has left.", code="client_closed_request")
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
