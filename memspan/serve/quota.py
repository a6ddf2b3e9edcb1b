"""The bytes that an owner has stored, against the limit."""

from starlette.concurrency import run_in_threadpool

from memspan.serve.replies import ApiError
from memspan.serve.service import Service


async def require_room(service: Service, owner: str) -> None:
    """Raises ApiError 429 where the memories of an owner have reached the bytes that they may take."""
    if not await run_in_threadpool(has_room, service, owner):
        raise ApiError(
            429,
            f"Your memories have reached their {service.limits.stored_bytes:,} bytes: delete some of them.",
            code="insufficient_quota",
        )


def has_room(service: Service, owner: str) -> bool:
    """Whether the memories of an owner may take more bytes."""
    limit = service.limits.stored_bytes
    return limit is None or service.library.nbytes(owner) < limit
