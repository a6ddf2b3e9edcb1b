"""Customer service over HTTP: messages of customers, the queue for persons and their answers, and a page for the persons.

The guard, the keys, the limits and the engine are those of `memspan serve`; replies, queue and answers are those of `memspan
support`. A request says which customer a message is from: the caller is a program that knows its customers, not their browser.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from memspan.apps.support.folder import KNOWLEDGE, Folder
from memspan.apps.support.reply import Desk
from memspan.apps.support.store import FILE, Store
from memspan.serve import status, ui
from memspan.serve.app import make_app
from memspan.serve.engine import Engine
from memspan.serve.guard import Rules
from memspan.serve.library import Library
from memspan.serve.replies import ApiError
from memspan.serve.service import EngineOf, Limits, Owner, Service

PAGE = Path(__file__).with_name("page")
SHARED = ("page.css", "elements.js", "server.js")  # of the page of `memspan serve`
FILES = {name: ui.FILES[name] for name in SHARED} | {
    file.name: file for file in sorted(PAGE.iterdir()) if file.suffix in ui.TYPES
}
router = APIRouter(prefix="/v1/support", tags=["support"])


@dataclass(frozen=True)
class Counter:
    """Where customers are answered.

    Attributes:
        desk: whose settings and model reply.
        channels: owners of keys that may send messages and nothing else, such as that of a web site.
    """

    desk: Desk
    channels: frozenset[str] = frozenset()
    _own: threading.local = field(default_factory=threading.local, repr=False)

    def own_desk(self) -> Desk:
        """The desk of this thread: a file of SQLite is used in the thread that opened it."""
        desk: Desk | None = getattr(self._own, "desk", None)
        if desk is None:
            desk = self._own.desk = replace(self.desk, folder=Folder.open(self.desk.folder.path))
        return desk

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Within, the file of customers, opened for this thread."""
        store = Store.open(self.desk.folder.path / FILE)
        try:
            yield store
        finally:
            store.close()


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(_Body):
    """What a customer writes."""

    customer: str = Field(min_length=1, max_length=256)
    message: str = Field(min_length=1, max_length=20_000)


class Answer(_Body):
    """What a person answers."""

    text: str = Field(min_length=1, max_length=20_000, pattern=r"\S")
    intent: str | None = Field(default=None, max_length=256)


def _counter(request: Request) -> Counter:
    counter: Counter = request.app.state.counter
    return counter


CounterOf = Annotated[Counter, Depends(_counter)]


def _for_persons(owner: Owner, counter: CounterOf) -> None:
    """Raises ApiError for a key that may only send messages."""
    if owner in counter.channels:
        raise ApiError(403, "This key may send messages of customers and nothing else.", code="channel_key")


@router.post("/messages")
async def message(body: Message, owner: Owner, counter: CounterOf, engine: EngineOf) -> dict[str, Any]:
    """The reply to a message of a customer, which is kept with it, as `memspan support reply --json` has it."""

    def reply() -> dict[str, Any]:
        return counter.own_desk().reply(body.message, body.customer).to_dict()

    return await engine.call(owner, reply)


@router.get("/queue", dependencies=[Depends(_for_persons)])
async def queue(counter: CounterOf, answered: bool = False) -> dict[str, Any]:
    """The questions that wait for a person, the oldest first; with `answered` also the others."""

    def listed() -> list[dict[str, Any]]:
        with counter.store() as store:
            return [asdict(hand_over) for hand_over in store.queue(answered)]

    return {"queue": await run_in_threadpool(listed)}


@router.post("/queue/{number}/answer", dependencies=[Depends(_for_persons)])
async def answer(number: int, body: Answer, counter: CounterOf) -> dict[str, Any]:
    """Keep a person's answer: the customer sees it with the next reply, and it becomes a past answer."""

    def kept() -> dict[str, Any]:
        with counter.store() as store:
            hand_over, is_past_answer = store.answer(number, body.text, body.intent or None)
            return {**asdict(hand_over), "is_past_answer": is_past_answer}

    return await run_in_threadpool(kept)


@router.delete("/customers/{customer:path}", dependencies=[Depends(_for_persons)])
async def forget(customer: str, owner: Owner, counter: CounterOf, engine: EngineOf) -> dict[str, Any]:
    """Delete everything that is kept of a customer; counts of what it was."""

    def forgotten() -> dict[str, Any]:
        return {"customer": customer, **counter.own_desk().folder.forget(customer)}

    return await engine.call(owner, forgotten)


# What a server consists of.
def make_support_app(
    desk: Desk, rules: Rules, *, engine: Engine, limits: Limits, channels: frozenset[str] = frozenset()
) -> FastAPI:
    """The app of a support folder; the engine ends with it.

    Args:
        channels: owners of keys that may send messages and nothing else.
    """
    path = desk.folder.path
    service = Service(Library.of_memory(path / KNOWLEDGE, desk.lm), engine, "support", limits=limits)
    app = make_app(service, rules, (router, ui.page_router(FILES), status.router))
    app.state.counter = Counter(desk, channels)
    return app
