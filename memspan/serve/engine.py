"""The engine: the requests to a model, in a thread of its own, fairly between owners.

Requests that are worked on take turns, each up to the next part or `PAUSE`: a text pauses where it waits for the model to
read on, which then does so in all texts that wait, see `memspan.pretrained.batched`. A new request begins between two
rounds. The parts are handed to the event loop as they come. A request whose client has left is closed at its next turn; if it
still waits, it is dropped.
"""

import asyncio
import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Generator, Hashable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

from memspan.serve.heap import trim_heap
from memspan.serve.replies import ApiError

Part = TypeVar("Part")
PAUSE: Any = object()  # a part that is sent to nobody: others have a turn
_END: Any = object()
_SECONDS = 5.0  # that a request takes, until some have been measured
_WEIGHT = 0.2  # of the last request in the average
_PARTS = 8  # of a request in a turn, at most
_TRIM = 5.0  # seconds, after which the end of a request gives unused memory back to the system


class _Job:
    """A request: what it does, and where its parts go."""

    def __init__(
        self, owner: str, work: Callable[[], Iterator[Any]], alone: Hashable, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.owner, self.alone, self._loop = owner, alone, loop
        self.parts: asyncio.Queue[Any] = asyncio.Queue()
        self.left = threading.Event()
        self.begun = 0.0
        self._work = work
        self._made: Iterator[Any] | None = None

    def turn(self) -> bool:
        """Send the parts up to the next pause; whether there are more. The first turn ends with the first part."""
        most = _PARTS if self._made is not None else 1
        try:
            if self._made is None:
                self.begun, self._made = time.monotonic(), iter(self._work())
            for _ in range(most):
                if self.left.is_set():
                    break
                part = next(self._made)
                if part is PAUSE:
                    break
                self.send(part)
        except StopIteration:
            self.send(_END)
        except BaseException as error:  # the thread must go on with the other requests
            self.send(error)
        else:
            if not self.left.is_set():
                return True
            self.send(_END)
        self._close()
        return False

    def _close(self) -> None:
        if isinstance(self._made, Generator):
            try:
                self._made.close()
            except BaseException as error:
                self.send(error)

    def send(self, part: Any) -> None:
        """Hand a part, an exception or `_END` to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self.parts.put_nowait, part)
        except RuntimeError:  # the loop has ended: so has the client
            self.left.set()


class Engine:
    """A queue of bounded length, and the thread that works it off.

    An owner who has no request that is worked on does not wait for those of others, as long as there are not twice
    `most_running`.

    Attributes:
        most_waiting: requests in the queue, at most.
        most_of_owner: of them of one owner, at most.
        most_running: requests that are worked on at once.
    """

    def __init__(self, *, most_waiting: int = 64, most_of_owner: int = 16, most_running: int = 8) -> None:
        self.most_waiting, self.most_of_owner, self.most_running = most_waiting, most_of_owner, most_running
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()  # the owner who is next stands first
        self._running: list[_Job] = []
        self._changed = threading.Condition()
        self._ending = False
        self._seconds, self._trimmed = _SECONDS, time.monotonic()
        self._thread = threading.Thread(target=self._work, name="memspan engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Requests that are being worked on."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        with self._changed:
            return sum(map(len, self._queues.values()))

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self._thread.is_alive() and not self._ending

    async def stream(
        self, owner: str, work: Callable[[], Iterator[Part]], alone: Hashable = None
    ) -> AsyncGenerator[Part, None]:
        """The parts that `work` yields in the engine's thread. Closing it closes the work, at its next turn.

        Args:
            alone: what no two requests work on at once, such as a session; None for nothing of the kind.

        Raises ApiError 429 where too many requests wait already, 503 where the server is stopping, and what `work` raises.
        """
        job = self._put(owner, work, alone)
        try:
            while (part := await job.parts.get()) is not _END:
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self._leave(job)

    async def call(self, owner: str, function: Callable[[], Part], alone: Hashable = None) -> Part:
        """The result of a function that uses the model, called in the engine's thread: nothing else is done meanwhile.

        Arguments and errors are those of `stream`.
        """

        def work() -> Generator[Part, None, None]:
            yield function()

        async with aclosing(self.stream(owner, work, alone)) as parts:
            async for part in parts:
                return part
        raise RuntimeError("the work ended without a result")

    def close(self, seconds: float = 5.0) -> None:
        """Take no more requests; refuse those that wait, and end the others after `seconds` at their next turn."""
        with self._changed:
            self._ending = True
            for queue in self._queues.values():
                for job in queue:
                    job.send(_stopping())
            self._queues.clear()
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            for job in self._running:
                job.left.set()
        self._thread.join(seconds)

    def _put(self, owner: str, work: Callable[[], Iterator[Any]], alone: Hashable) -> _Job:
        job = _Job(owner, work, alone, asyncio.get_running_loop())
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
        """The next request that may begin, of the owners in turn. The caller holds the lock."""
        owners, busy = Counter(job.owner for job in self._running), {job.alone for job in self._running} - {None}
        for owner, queue in self._queues.items():
            if len(self._running) >= (self.most_running if owners[owner] else 2 * self.most_running):
                continue
            job = next((job for job in queue if job.alone not in busy), None)
            if job is None:
                continue
            queue.remove(job)
            if queue:
                self._queues.move_to_end(owner)
            else:
                del self._queues[owner]
            return job
        return None

    def _round(self) -> list[_Job]:
        """The requests that have a turn now, with a new one if there is; none when the engine ends."""
        with self._changed:
            while not self._running and not self._queues and not self._ending:
                self._changed.wait()
            if not self._ending and (new := self._next()) is not None:
                self._running.append(new)
            return list(self._running)

    def _work(self) -> None:
        while jobs := self._round():
            for job in jobs:
                if not job.turn():
                    with self._changed:
                        took = (time.monotonic() - job.begun) / len(self._running)
                        self._running.remove(job)
                    self._seconds += _WEIGHT * (took - self._seconds)
                    self._trim()

    def _trim(self) -> None:
        if time.monotonic() - self._trimmed >= _TRIM:
            trim_heap()
            self._trimmed = time.monotonic()


def _stopping() -> ApiError:
    return ApiError(503, "The server is stopping.", code="stopping", headers={"Retry-After": "5"})
