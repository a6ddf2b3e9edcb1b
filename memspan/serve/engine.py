"""The engine: requests to one model take turns, in a thread of its own, fairly between owners.

The tokens of a request are handed to the event loop as they come. A request whose client has left is closed at its next
token; one that still waits is dropped.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

from memspan.serve.replies import ApiError

Part = TypeVar("Part")
_END: Any = object()
_SECONDS = 5.0  # that a request takes, until some have been measured
_WEIGHT = 0.2  # of the last request in the average


class _Job:
    """A request: what it does, and where its parts go."""

    def __init__(self, owner: str, work: Callable[[], Iterator[Any]], loop: asyncio.AbstractEventLoop) -> None:
        self.owner, self.work, self._loop = owner, work, loop
        self.parts: asyncio.Queue[Any] = asyncio.Queue()
        self.left = threading.Event()

    def send(self, part: Any) -> None:
        """Hand a part, an exception or `_END` to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self.parts.put_nowait, part)
        except RuntimeError:  # the loop has ended: so has the client
            self.left.set()


class Engine:
    """A queue of bounded length, and the thread that works it off: one request at a time.

    Attributes:
        most_waiting: requests in the queue, at most.
        most_of_owner: of them of one owner, at most.
        running: requests that are being worked on, 0 or 1.
    """

    def __init__(self, *, most_waiting: int = 64, most_of_owner: int = 16) -> None:
        self.most_waiting, self.most_of_owner = most_waiting, most_of_owner
        self.running = 0
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()  # the owner who is next stands first
        self._changed = threading.Condition()
        self._current: _Job | None = None
        self._ending = False
        self._seconds = _SECONDS
        self._thread = threading.Thread(target=self._work, name="memspan engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        with self._changed:
            return sum(map(len, self._queues.values()))

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self._thread.is_alive() and not self._ending

    async def stream(self, owner: str, work: Callable[[], Iterator[Part]]) -> AsyncGenerator[Part, None]:
        """The parts that `work` yields in the engine's thread. Closing it closes the work, at its next part.

        Raises ApiError 429 where too many requests wait already, 503 where the server is stopping, and what `work` raises.
        """
        job = self._put(owner, work)
        try:
            while (part := await job.parts.get()) is not _END:
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self._leave(job)

    async def call(self, owner: str, function: Callable[[], Part]) -> Part:
        """The result of a function that uses the model, called in the engine's thread. Raises as `stream` does."""

        def work() -> Generator[Part, None, None]:
            yield function()

        async with aclosing(self.stream(owner, work)) as parts:
            async for part in parts:
                return part
        raise RuntimeError("the work ended without a result")

    def close(self, seconds: float = 5.0) -> None:
        """Take no more requests; refuse those that wait, and end the current one after `seconds` at its next part."""
        with self._changed:
            self._ending = True
            for queue in self._queues.values():
                for job in queue:
                    job.send(_stopping())
            self._queues.clear()
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            if self._current is not None:
                self._current.left.set()
        self._thread.join(seconds)

    def _put(self, owner: str, work: Callable[[], Iterator[Any]]) -> _Job:
        job = _Job(owner, work, asyncio.get_running_loop())
        with self._changed:
            if self._ending:
                raise _stopping()
            waiting = sum(map(len, self._queues.values()))
            if waiting >= self.most_waiting or len(self._queues.get(owner, ())) >= self.most_of_owner:
                seconds = max(1, math.ceil(self._seconds * min(waiting, self.most_of_owner)))
                raise ApiError(
                    429,
                    "Too many requests are waiting: try again later.",
                    code="queue_full",
                    headers={"Retry-After": str(seconds)},
                )
            self._queues.setdefault(owner, deque()).append(job)
            self._changed.notify_all()
        return job

    def _leave(self, job: _Job) -> None:
        """The client of a request has gone, or has all that there is."""
        job.left.set()
        with self._changed:
            queue = self._queues.get(job.owner)
            if queue is not None and job in queue:
                queue.remove(job)
                if not queue:
                    del self._queues[job.owner]

    def _next(self) -> _Job | None:
        """The next request, of the owners in turn; None when the engine ends."""
        with self._changed:
            self.running, self._current = 0, None
            while not self._queues and not self._ending:
                self._changed.wait()
            if self._ending:
                return None
            owner, queue = next(iter(self._queues.items()))
            job = queue.popleft()
            if queue:
                self._queues.move_to_end(owner)
            else:
                del self._queues[owner]
            self.running, self._current = 1, job
            return job

    def _work(self) -> None:
        while (job := self._next()) is not None:
            begun = time.monotonic()
            self._run(job)
            self._seconds += _WEIGHT * (time.monotonic() - begun - self._seconds)

    def _run(self, job: _Job) -> None:
        parts: Iterator[Any] | None = None
        try:
            parts = iter(job.work())
            for part in parts:
                if job.left.is_set():
                    break
                job.send(part)
            job.send(_END)
        except BaseException as error:  # the thread must go on with the next request
            job.send(error)
        finally:
            if isinstance(parts, Generator):
                parts.close()


def _stopping() -> ApiError:
    return ApiError(503, "The server is stopping.", code="stopping", headers={"Retry-After": "5"})
