"""Where stored alerts go: a file of JSON lines, a web address. What has not arrived stays due, also for the next run."""

import json
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpx2

from memspan.apps.monitor.store import Store
from memspan.errors import UsageError

TIMEOUT = 10.0  # seconds without a sign of life
ATTEMPTS, PAUSE = 3, 1.0  # per alert and run; seconds after the first, twice as many after the next
AGAIN = 60.0  # seconds after which a run that goes on tries once more


class Target(Protocol):
    """Something that alerts are delivered to.

    Attributes:
        name: by which the store knows what is still due.
    """

    name: str

    def send(self, content: dict[str, Any]) -> None:
        """Deliver an alert. Raises OSError or httpx2.HTTPError where it has not arrived."""


class LinesFile:
    """A file to which each alert is appended as a line of JSON, once."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError for a path that cannot be written."""
        if path.is_dir() or not path.resolve().parent.is_dir():
            raise UsageError(f"--alerts must be a file in a folder that exists, got {path}.")
        self.path, self.name = path, str(path.resolve())
        self._written: set[int] | None = None

    def send(self, content: dict[str, Any]) -> None:
        with self.path.open("a+b") as file:
            if self._written is None:  # after a crash an alert may be in the file but not be noted as delivered
                file.seek(0)
                self._written = {number for line in file if (number := _number(line)) is not None}
            if content["alert"] in self._written:
                return
            line = json.dumps(content, ensure_ascii=False).encode() + b"\n"
            end = file.seek(0, 2)
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
        self._written.add(content["alert"])


class Webhook:
    """An address to which each alert is sent by POST as JSON; its number is the header `Idempotency-Key`.

    After a crash between the arrival and the note of it an alert is sent twice, with the same number.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT, pause: float = PAUSE) -> None:
        """Raises UsageError for anything but an http or https address."""
        try:
            address = httpx2.URL(url)
        except (httpx2.InvalidURL, TypeError, ValueError):
            address = httpx2.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise UsageError(f"--webhook must be an address that begins with https:// or http://, got '{url}'.")
        self.name, self._url, self._timeout, self._pause = url, address, timeout, pause

    def send(self, content: dict[str, Any]) -> None:
        headers = {"User-Agent": "memspan", "Idempotency-Key": str(content["alert"])}
        with httpx2.Client(timeout=self._timeout, headers=headers, follow_redirects=False) as client:
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(self._pause * 2 ** (attempt - 1))
                try:
                    response = client.post(self._url, json=content)
                except httpx2.TransportError:
                    if attempt == ATTEMPTS - 1:
                        raise
                    continue
                if response.status_code not in (408, 425, 429) and response.status_code < 500:
                    break
            if not 200 <= response.status_code < 300:
                raise OSError(f"it answered {response.status_code}")


class Delivery:
    """Sends what is due, in a thread of its own, so that the stream does not wait; the outcome is noted in the caller's."""

    def __init__(self, store: Store, targets: list[Target]) -> None:
        self._store, self._targets = store, targets
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._under_way: dict[tuple[int, str], Future[None]] = {}
        self._failed: dict[
            str, float
        ] = {}  # when a target was last not reached; until it is tried again, nothing is sent
        self.problems: dict[str, str] = {}  # why a target was not reached

    def step(self) -> None:
        """Note what has arrived, and send what is due."""
        self._note()
        for target in self._targets:
            if time.monotonic() - self._failed.get(target.name, -math.inf) < AGAIN:
                continue
            self._failed.pop(target.name, None)
            for alert in self._store.undelivered(target.name):
                key = alert.number, target.name
                if key not in self._under_way:
                    self._under_way[key] = self._pool.submit(self._send, target, alert.content)

    def finish(self) -> dict[str, int]:
        """Send what is due and wait for the outcome; how many alerts are still due at each target."""
        self.step()
        for future in self._under_way.values():
            future.exception()
        self._note()
        self._pool.shutdown()
        due = {target.name: len(self._store.undelivered(target.name)) for target in self._targets}
        return {name: number for name, number in due.items() if number}

    def _send(self, target: Target, content: dict[str, Any]) -> None:
        if target.name in self._failed:  # an alert before this one did not arrive
            raise OSError(self.problems.get(target.name, ""))
        try:
            target.send(content)
        except (OSError, httpx2.HTTPError) as error:
            self.problems[target.name] = " ".join(str(error).split()) or type(error).__name__
            self._failed[target.name] = time.monotonic()
            raise

    def _note(self) -> None:
        """Note the outcome of what was sent."""
        for key in [key for key, future in self._under_way.items() if future.done()]:
            number, name = key
            error = self._under_way.pop(key).exception()
            if error is not None and not isinstance(error, OSError | httpx2.HTTPError):
                raise error
            with self._store.transaction():
                if error is None:
                    self._store.delivered(number, name, int(time.time()))
                else:
                    self._store.delivered(number, name, None, self.problems[name])


def _number(line: bytes) -> int | None:
    try:
        number = json.loads(line)["alert"]
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None
