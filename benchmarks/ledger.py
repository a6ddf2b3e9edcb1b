"""What the clients of a server have been told, and whether it is so."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

BROKEN = (openai.APIConnectionError, httpx2.HTTPError)


@dataclass(frozen=True)
class Request:
    """One request: what for, from when to when by `time.monotonic`, and the status; 0 where no reply came."""

    kind: str
    begun: float
    ended: float
    status: int


@dataclass
class Ledger:
    """What all clients have seen.

    Attributes:
        lost: what was acknowledged and is not there; `doubled`: what is there more often than it was sent.
        wrong: replies that contradict what was acknowledged before, and errors of another form than the API's.
    """

    requests: list[Request] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    mutex: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def request(self, kind: str) -> Iterator[None]:
        """Notes the request that is made within, and raises `Failed` in place of what the client raises."""
        begun, status = time.monotonic(), 200
        try:
            yield
        except openai.APIStatusError as error:
            status = error.status_code
            self.check_error(kind, error.body, status)
            raise Failed(status) from error
        except BROKEN as error:
            status = 0
            raise Failed(0) from error
        except (openai.APIError, StreamError) as error:  # the last event of a stream
            status = 507 if getattr(error, "code", None) == "storage_failed" else 500
            raise Failed(status) from error
        finally:
            self.requests.append(Request(kind, begun, time.monotonic(), status))

    def check_error(self, kind: str, body: object, status: int) -> None:
        """Notes an error that has not the form of the API; the client has taken the object `error` out of its body."""
        if not isinstance(body, dict) or not body.keys() >= {"message", "type", "param", "code"}:
            self.wrong.append(f"{kind}: status {status} with {str(body)[:200]!r}")

    def count(self, what: str, number: int = 1) -> None:
        with self.mutex:
            self.checked[what] = self.checked.get(what, 0) + number


class StreamError(Exception):
    """The last event of a stream of /v1/responses, which the client does not raise, is an error."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"the stream ended with the error {code}")
        self.code = code


class Failed(Exception):
    """A request was not carried out, or nobody knows; `status` is 0 then."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def compare_turns(ledger: Ledger, where: str, sent: list[tuple[str, str | None]], found: list[tuple[str, str]]) -> None:
    """Compares the turns of a conversation with what was sent: (message, reply), None for a reply that did not come."""
    acknowledged = [(message, reply) for message, reply in sent if reply is not None]
    unknown = {message for message, reply in sent if reply is None}
    messages = [message for message, _ in found]
    for message in set(messages):
        if messages.count(message) > 1:
            ledger.doubled.append(f"{where}: {message!r} {messages.count(message)} times")
        if message not in unknown and message not in dict(acknowledged):
            ledger.wrong.append(f"{where}: {message!r} was never sent")
    kept = [turn for turn in found if turn[0] not in unknown]
    if kept != acknowledged:
        missing = [turn for turn in acknowledged if turn not in kept]
        if missing:
            ledger.lost.extend(f"{where}: {turn!r}" for turn in missing)
        else:
            ledger.wrong.append(f"{where}: the turns are in another order")
    ledger.count("turns", len(acknowledged))


def turns_of(items: list[Any]) -> list[tuple[str, str]]:
    """The turns of a conversation by its items; a reply may be empty, and is no item then."""
    turns: list[tuple[str, str]] = []
    for item in items:
        text = item.content[0].text
        if item.role == "user":
            turns.append((text, ""))
        else:
            turns[-1] = (turns[-1][0], text.strip())
    return turns


def check_gone(ledger: Ledger, name: str, look: Callable[[], object]) -> None:
    """Notes what was deleted and is there again."""
    try:
        look()
    except openai.NotFoundError:
        ledger.count("deleted")
        return
    ledger.wrong.append(f"{name} was deleted, and is there")
