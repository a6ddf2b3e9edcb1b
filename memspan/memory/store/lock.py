"""The lock of a memory's folder: one writer at a time, and none that can keep the others out by being quick.

Where the system has `flock`, a writer first takes a lock on the folder, behind which the others queue, and then waits for
the lock file `lock`; both waits are in the kernel. Whoever lets go of the lock file finds its successor waiting and has to
queue again; which of the queue comes next is up to the kernel. Elsewhere (Windows) writers poll the lock file.

The holder writes who it is into the lock file, for the messages of those who wait. The record is cleared on release, and
counts only while its process lives. The lock itself goes away with its process, however that ends.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock, Timeout

from memspan.errors import MemoryLocked, MemspanError
from memspan.memory.store import files
from memspan.memory.store.files import FILE_MODE, Directory, explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_SECONDS = 10.0  # how long a writer waits for another, unless the caller chooses otherwise
PATIENCE = 1.0  # seconds of waiting that need no explanation

_RECORD_BYTES = 4096
_POLL_SECONDS = 0.01  # where there is no queue


@dataclass(frozen=True)
class Holder:
    """The writer that holds a lock.

    Attributes:
        process: its id.
        host: the machine it runs on.
        command: its program, without arguments, which may be private.
        since: unix seconds at which it took the lock.
    """

    process: int
    host: str
    command: str
    since: float

    def __str__(self) -> str:
        host = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.process}{host} ({self.command}, since {time.strftime('%H:%M:%S', time.localtime(self.since))})"

    @classmethod
    def of_this_process(cls) -> "Holder":
        """This process, as of now."""
        program = Path(sys.argv[0] or "python")
        name = program.parent.name if program.stem == "__main__" else program.stem
        if name == "memspan" and len(sys.argv) > 1 and sys.argv[1].isalpha():
            name = f"memspan {sys.argv[1]}"
        return cls(os.getpid(), socket.gethostname(), name[:80], time.time())


OnWait: TypeAlias = Callable[[Holder | None], None]


@contextmanager
def locked(directory: Directory, name: str, seconds: float | None, on_wait: OnWait | None = None) -> Iterator[None]:
    """Hold the lock file `name` of a folder, waiting at most `seconds` for its holder, or as long as it takes if `None`.

    Args:
        on_wait: called once, after `PATIENCE` seconds of waiting, with the holder as far as it is known.

    Raises:
        MemoryLocked: it was not free in time; the message names the holder.
        DamagedMemory: it is a link, or no regular file.
        MemspanError: the system refused.
    """
    hold = _polled if fcntl is None or not files.BY_DESCRIPTOR else _queued
    with hold(directory, name, seconds, on_wait):
        yield


def _refusal(directory: Directory, name: str, seconds: float) -> MemoryLocked:
    holder = _holder(directory, name)
    return MemoryLocked(
        f"{directory.path} is being written by another process{'' if holder is None else f', {holder}'}, which did not "
        f"finish within {seconds:g} seconds. Try again when it has; the lock goes away with its process."
    )


# ---- the record of the holder


def _holder(directory: Directory, name: str) -> Holder | None:
    """Who holds the lock; `None` if that is not known: no record, or that of a process that is dead."""
    try:
        fields = json.loads(directory.read(name, _RECORD_BYTES))
        holder = Holder(int(fields["process"]), str(fields["host"]), str(fields["command"]), float(fields["since"]))
        time.localtime(holder.since)  # raises what is caught here if it is no time
        return holder if _may_live(holder) else None
    except (OSError, MemspanError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _may_live(holder: Holder) -> bool:
    if holder.host != socket.gethostname() or os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a process of another user
    return True


def _record(descriptor: int) -> None:
    """Note that this process holds the lock."""
    with suppress(OSError):  # a full disk: the lock counts without the record
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder.of_this_process())).encode()[:_RECORD_BYTES], 0)


# ---- waiting in the kernel


class _Claim:
    """The descriptors of the folder and of the lock file, and the locks on both."""

    def __init__(self, directory: Directory, name: str) -> None:
        self.queue, self.lock = directory.open_to_lock(name)
        self._mutex = threading.Lock()
        self._settled = threading.Event()
        self._abandoned = False
        self._error: OSError | None = None

    def take(self, *, wait: bool) -> bool:
        """Join the queue and take the lock, in that order; False if that means waiting and `wait` is not set."""
        mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            try:
                fcntl.flock(self.queue, mode)
            except BlockingIOError:
                return False
            except OSError:
                pass  # a network file system that locks no folders: the lock holds, without an order
            fcntl.flock(self.lock, mode)
        except BlockingIOError:
            return False
        fcntl.flock(self.queue, fcntl.LOCK_UN)
        return True

    def wait(self) -> None:
        """Take the lock in the background, however long that takes."""
        threading.Thread(target=self._take_in_background, name="memspan lock", daemon=True).start()

    def settled_within(self, seconds: float | None) -> bool:
        """Whether the lock was taken in the background within so many seconds. Raises OSError."""
        settled = self._settled.wait(seconds)
        if self._error is not None:
            raise self._error
        return settled

    def _take_in_background(self) -> None:
        try:
            self.take(wait=True)
        except OSError as error:
            self._error = error
        with self._mutex:
            self._settled.set()
            if self._abandoned:
                self._close()

    def close(self, *, is_waiting: bool) -> None:
        """Let go: of the locks, and of the place in the queue when the wait in the background comes to its end."""
        with self._mutex:
            self._abandoned = True
            if not is_waiting or self._settled.is_set():
                self._close()

    def _close(self) -> None:
        os.close(self.queue)
        os.close(self.lock)


@contextmanager
def _queued(directory: Directory, name: str, seconds: float | None, on_wait: OnWait | None) -> Iterator[None]:
    claim = _Claim(directory, name)
    is_waiting = False
    try:
        with explained("lock", directory.path / name):
            if not claim.take(wait=False):
                if seconds is not None and seconds <= 0:
                    raise _refusal(directory, name, 0)
                is_waiting = True
                claim.wait()
                patience = PATIENCE if seconds is None else min(PATIENCE, seconds)
                if not claim.settled_within(patience):
                    if on_wait is not None and seconds != patience:
                        on_wait(_holder(directory, name))
                    if not claim.settled_within(None if seconds is None else seconds - patience):
                        raise _refusal(directory, name, seconds or 0.0)
        _record(claim.lock)
        try:
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(claim.lock, 0)
    finally:
        claim.close(is_waiting=is_waiting)


# ---- polling


@contextmanager
def _polled(directory: Directory, name: str, seconds: float | None, on_wait: OnWait | None) -> Iterator[None]:
    directory.check_regular(name)
    lock = FileLock(directory.path / name, mode=FILE_MODE)
    patience = PATIENCE if seconds is None else min(PATIENCE, seconds)
    with explained("lock", directory.path / name):
        try:
            lock.acquire(timeout=patience, poll_interval=_POLL_SECONDS)
        except Timeout:
            if on_wait is not None and seconds != patience:
                on_wait(None)  # the system lets nobody read a locked file
            try:
                lock.acquire(timeout=-1 if seconds is None else seconds - patience, poll_interval=_POLL_SECONDS)
            except Timeout:
                raise _refusal(directory, name, seconds or 0.0) from None
    try:
        yield
    finally:
        lock.release()
