"""Routes of memories: what they hold, questions with all that can be checked about the answer, reading and forgetting.

The page is built on them. OpenAI's API has nothing of the kind, so the names are ours.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from memspan.assistant.confidence import MIN_CONFIDENCE
from memspan.memory import Filter, Memory
from memspan.models.generate import Sampling
from memspan.serve.engine import PAUSE
from memspan.serve.quota import require_room
from memspan.serve.service import LibraryOf, Owner, ServiceOf
from memspan.serve.sessions import is_session
from memspan.serve.streams import EVENTS, LINES, as_event, as_line, streamed
from memspan.serve.texts import add_text, record_of, text_between
from memspan.serve.uploads import file_name, read_upload, stored_upload

router = APIRouter(prefix="/v1/memories", tags=["memories"])
MOST_AROUND = 20_000  # characters before and after a passage that are shown, at most
_LONGEST_QUESTION = 4_000  # characters
_CHUNK = 1024**2


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewMemory(_Body):
    """A memory to make."""

    name: str


class NewText(_Body):
    """A text to read; `happened_at` is a date or a time, such as 2026-11-28."""

    source: str = Field(min_length=1, max_length=200)
    text: str
    happened_at: str | None = None
    metadata: dict[str, str | int | float | list[str]] = Field(default_factory=dict)


class Conditions(_Body):
    """Which passages a question is about: `since` and `before` are dates or times."""

    sources: list[str] = Field(default_factory=list, max_length=100)
    since: str | None = None
    before: str | None = None

    def filter(self) -> Filter:
        return Filter(sources=self.sources, since=self.since, until=self.before)


class Ask(Conditions):
    """A question."""

    question: str = Field(min_length=1, max_length=_LONGEST_QUESTION)
    min_confidence: float = Field(default=MIN_CONFIDENCE, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)


class Forget(_Body):
    """The sources to forget; without `dry_run` they are forgotten for good."""

    pattern: str = Field(min_length=1, max_length=1000)
    dry_run: bool = True


def _described(memory: Memory, name: str) -> dict[str, Any]:
    snapshot = memory.snapshot
    return {
        "name": name,
        "is_session": is_session(name),
        "sources": len(snapshot.sources),
        "tokens": snapshot.tokens,
        "bytes": memory.nbytes,
    }


@router.get("")
async def list_memories(owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """The memories of the owner, and the bytes that all of them take together."""

    def described() -> dict[str, Any]:
        memories = [_described(library.open(owner, name), name) for name in library.names(owner)]
        return {"object": "list", "data": memories, "bytes": library.nbytes(owner)}

    return await run_in_threadpool(described)


@router.post("")
async def create_memory(body: NewMemory, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """An empty memory."""

    def created() -> dict[str, Any]:
        library.create(owner, body.name)
        return _described(library.open(owner, body.name), body.name)

    return await run_in_threadpool(created)


@router.delete("/{name}")
async def delete_memory(name: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Delete a memory for good."""
    await run_in_threadpool(library.delete, owner, name)
    return {"name": name, "deleted": True}


@router.get("/{name}/sources")
async def list_sources(name: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """What was read, in the order of reading; times are unix seconds."""

    def listed() -> list[dict[str, Any]]:
        records = library.open(owner, name).sources.values()
        return [
            {"name": record.name, "kind": record.kind, "characters": record.characters, "added": record.added}
            for record in records
        ]

    return {"object": "list", "data": await run_in_threadpool(listed)}


@router.get("/{name}/text")
async def show_text(
    name: str,
    owner: Owner,
    library: LibraryOf,
    source: str,
    start: Annotated[int, Query(ge=0)],
    end: Annotated[int, Query(ge=0)],
    around: Annotated[int, Query(ge=0, le=MOST_AROUND)] = 0,
) -> dict[str, Any]:
    """Characters of a source, and `around` characters before and after them."""

    def shown() -> dict[str, Any]:
        view = library.open(owner, name).view()
        first, last = max(0, start - around), min(end + around, record_of(view, source).characters)
        parts = {"before": (first, start), "text": (start, end), "after": (end, last)}
        return {"source": source, "start": start, "end": end} | {
            part: text_between(view, source, *span) if span[0] < span[1] else "" for part, span in parts.items()
        }

    return await run_in_threadpool(shown)


@router.post("/{name}/texts")
async def read_text(name: str, body: NewText, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """Read a text as a new source."""
    await require_room(service, owner)

    def read() -> dict[str, Any]:
        with service.library.lease(owner, name) as memory:
            before = memory.snapshot.tokens
            when, tags = body.happened_at, body.metadata
            record = add_text(service.lm, memory, body.text, body.source, happened_at=when, metadata=tags)
            tokens = memory.snapshot.tokens - before
            return {"source": record.name, "characters": record.characters, "tokens": tokens}

    return await service.engine.call(owner, read)


@router.post("/{name}/files", response_class=StreamingResponse, responses=LINES)
async def read_file(
    name: str, file: Annotated[UploadFile, File()], request: Request, owner: Owner, service: ServiceOf
) -> StreamingResponse:
    """Read a file of any kind that memspan reads; the reply is JSON Lines: how far it is, then the names of the sources."""
    shown = file_name(file.filename)
    await require_room(service, owner)

    async def turns() -> AsyncGenerator[dict[str, Any], None]:
        with stored_upload(shown) as path:
            with path.open("wb") as stored:
                while part := await file.read(_CHUNK):
                    stored.write(part)
            lease = partial(service.library.lease, owner, name)
            async with aclosing(read_upload(service, owner, lease, path, shown)) as reading:
                async for turn in reading:
                    yield vars(turn)

    return await streamed(request, service, turns(), as_line)


@router.post("/{name}/ask", response_class=StreamingResponse, responses=EVENTS)
async def ask(name: str, body: Ask, request: Request, owner: Owner, service: ServiceOf) -> StreamingResponse:
    """An answer as server-sent events: `text` as it is written, then `answer` with passages, citations and confidence."""
    service.rates.require_tokens(owner)
    sampling = Sampling(max_new_tokens=service.limits.new_tokens if body.max_tokens is None else body.max_tokens)

    def work() -> Iterator[dict[str, Any]]:
        stream = service.lm.stream(
            service.library.open(owner, name),
            body.question,
            answerer=service.answerer,
            filter=body.filter() or None,
            sampling=sampling,
            min_confidence=body.min_confidence,
        )
        with closing(stream):
            for part in stream:
                yield {"text": part} if part else PAUSE
            service.rates.charge(owner, stream.answer.prompt_tokens + stream.answer.answer_tokens)
            yield {"answer": stream.answer.to_dict()}

    return await streamed(request, service, service.engine.stream(owner, work), as_event)


@router.post("/{name}/forget")
async def forget(name: str, body: Forget, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """The sources that a pattern names; they are forgotten unless it is a dry run."""

    def forgotten() -> list[str]:
        if body.dry_run:
            return library.open(owner, name).matching(body.pattern)
        with library.lease(owner, name) as memory:
            return memory.forget(body.pattern)

    return {"sources": await run_in_threadpool(forgotten), "dry_run": body.dry_run}
