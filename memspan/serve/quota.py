"""The bytes that an owner has stored, against the limit."""

from starlette.concurrency import run_in_threadpool

from memspan.serve.replies import ApiError
from memspan.serve.service import Service


async def require_room(service: Service, owner: str) -> None:
    """Raises ApiError 429 where the memories of an owner have reached the bytes that they may take."""
    limit = service.limits.stored_bytes
    if limit is not None and await run_in_threadpool(service.library.nbytes, owner) >= limit:
        raise ApiError(
            429,
            f"Your memories have reached their {limit:,} bytes: delete some of them.",
            code="insufficient_quota",
        )
