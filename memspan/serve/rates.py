"""How much each owner may ask for in a minute: requests, and tokens that the model reads in prompts and writes.

Requests are counted over the last minute. Tokens are a bucket that fills evenly: how many a request takes is known only when it has
been answered, so that one is taken in as long as there is any token left, and what it takes beyond that is a debt which must be
filled first. Over time nobody gets more than the limit, whatever they ask for at once.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from memspan.serve.replies import ApiError

MINUTE = 60.0  # seconds


@dataclass
class _Account:
    """What an owner has asked for: the times of requests in the last minute, and the tokens that are left at a time."""

    level: float
    at: float
    requests: deque[float] = field(default_factory=deque)


class Rates:
    """The accounts of all owners. Its methods may be called from several threads."""

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            requests_per_minute: of one owner; None for any number.
            tokens_per_minute: the same.
            clock: seconds that never go back.
        """
        self._requests, self._tokens, self._clock = requests_per_minute, tokens_per_minute, clock
        self._accounts: dict[str, _Account] = {}
        self._mutex = threading.Lock()

    def count_request(self, owner: str) -> None:
        """Takes a request in. Raises ApiError 429 for one too many in a minute."""
        if self._requests is None:
            return
        with self._mutex:
            account = self._account(owner)
            if len(account.requests) >= self._requests:
                wait = account.requests[0] + MINUTE - account.at
                raise _refusal(f"At most {self._requests:,} requests a minute are allowed.", wait)
            account.requests.append(account.at)

    def require_tokens(self, owner: str) -> None:
        """Raises ApiError 429 for an owner who has no tokens left."""
        if self._tokens is None:
            return
        with self._mutex:
            account = self._account(owner)
            if account.level < 1:
                wait = (1 - account.level) * MINUTE / self._tokens
                raise _refusal(f"At most {self._tokens:,} tokens a minute are allowed.", wait)

    def charge(self, owner: str, tokens: int) -> None:
        """Takes tokens that a request has used from those that are left."""
        if self._tokens is not None:
            with self._mutex:
                self._account(owner).level -= tokens

    def headers(self, owner: str) -> dict[str, str]:
        """What is left to an owner, as OpenAI's API says it in headers; empty without limits."""
        with self._mutex:
            account, fields = self._account(owner), {}
            if self._requests is not None:
                last = account.requests[-1] + MINUTE - account.at if account.requests else 0.0
                fields["requests"] = (self._requests, self._requests - len(account.requests), last)
            if self._tokens is not None:
                missing = self._tokens - account.level
                fields["tokens"] = (self._tokens, max(0, math.floor(account.level)), missing * MINUTE / self._tokens)
        return {
            f"x-ratelimit-{what}-{kind}": value
            for kind, (limit, left, seconds) in fields.items()
            for what, value in (("limit", str(limit)), ("remaining", str(left)), ("reset", duration(seconds)))
        }

    def _account(self, owner: str) -> _Account:
        """The account of an owner as it is now; the caller holds the mutex."""
        now, full = self._clock(), float(self._tokens or 0)
        account = self._accounts.setdefault(owner, _Account(full, now))
        account.level = min(full, account.level + (now - account.at) * full / MINUTE)
        account.at = now
        while account.requests and account.requests[0] <= now - MINUTE:
            account.requests.popleft()
        return account


def duration(seconds: float) -> str:
    """Seconds as OpenAI's API writes them: "120ms", "6.5s", "1m30s"."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 10) / 10, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def _refusal(sentence: str, seconds: float) -> ApiError:
    """The reply for what is allowed again after some seconds."""
    headers = {"Retry-After": str(max(1, math.ceil(seconds))), "Retry-After-Ms": str(max(1, math.ceil(seconds * 1000)))}
    return ApiError(429, sentence, code="rate_limit_exceeded", headers=headers)
