"""The routes /v1/conversations: sessions with an id of the server's, and their items."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from memspan.assistant.chat import Chat, Exchange, latest_exchanges
from memspan.errors import DamagedMemory, MemspanError
from memspan.memory.store.files import Directory
from memspan.serve.items import item_id, items_of, page
from memspan.serve.kept_responses import citations, without_message
from memspan.serve.library import Library
from memspan.serve.quota import require_room
from memspan.serve.replies import missing
from memspan.serve.requests import ChatMessage, Strict
from memspan.serve.response_ids import conversation_id, new_session, session_of_conversation
from memspan.serve.service import LibraryOf, Owner, Service, ServiceOf
from memspan.serve.sessions import branch_names, continued, first_branch, sources_of, transcript

router = APIRouter()
RECORD = "conversation.json"  # beside the files of the session's memory: when it was made, and its metadata
LARGEST_RECORD = 64 * 1024
MOST_ITEMS = 20  # of a request

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Items = Annotated[list[ChatMessage], Field(max_length=MOST_ITEMS)]


class ConversationRequest(Strict):
    items: Items | None = None
    metadata: Metadata | None = None


class MetadataRequest(Strict):
    metadata: Metadata | None = None


class ItemsRequest(Strict):
    items: Annotated[Items, Field(min_length=1)]


@router.post("/v1/conversations")
async def create_conversation(body: ConversationRequest, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """A new conversation, with messages that were written elsewhere."""
    session = new_session()
    await require_room(service, owner)
    await run_in_threadpool(service.library.create, owner, session)
    record = {"created_at": int(time.time()), "metadata": body.metadata or {}}
    try:
        await run_in_threadpool(_write, service.library, owner, session, record)
    except MemspanError:
        await run_in_threadpool(service.library.delete, owner, session)
        raise
    if body.items:
        await _add(service, owner, session, body.items)
    return _object(session, record)


@router.get("/v1/conversations/{conversation}")
def retrieve_conversation(conversation: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """A conversation."""
    session = _session(library, owner, conversation)
    return _object(session, _record(library, owner, session))


@router.post("/v1/conversations/{conversation}")
def update_conversation(conversation: str, body: MetadataRequest, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """A conversation with other metadata."""
    session = _session(library, owner, conversation)
    record = {**_record(library, owner, session), "metadata": body.metadata or {}}
    _write(library, owner, session, record)
    return _object(session, record)


@router.delete("/v1/conversations/{conversation}")
def delete_conversation(conversation: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Deletes a conversation with all that was said in it, for good."""
    session = _session(library, owner, conversation)
    for name in reversed(branch_names(library, owner, session)):
        library.delete(owner, name)
    return {"id": conversation, "object": "conversation.deleted", "deleted": True}


@router.post("/v1/conversations/{conversation}/items")
async def create_items(conversation: str, body: ItemsRequest, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """Adds messages that were written elsewhere."""
    session = await run_in_threadpool(_session, service.library, owner, conversation)
    await require_room(service, owner)
    added = await _add(service, owner, session, body.items)
    items = items_of(added)
    return page(items, len(items), None, "asc")


@router.get("/v1/conversations/{conversation}/items")
def list_items(
    conversation: str,
    owner: Owner,
    library: LibraryOf,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The messages of a conversation, the latest first."""
    session = _session(library, owner, conversation)
    return page(_items(library, owner, session), limit, after, order)


@router.get("/v1/conversations/{conversation}/items/{item}")
def retrieve_item(conversation: str, item: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """One message."""
    session = _session(library, owner, conversation)
    found = [other for other in _items(library, owner, session) if other["id"] == item]
    if not found:
        raise missing("item", item, "item_id")
    return found[0]


@router.delete("/v1/conversations/{conversation}/items/{item}")
async def delete_item(conversation: str, item: str, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """Forgets one message for good, in all branches of the conversation; returns the conversation."""
    library = service.library
    session = await run_in_threadpool(_session, library, owner, conversation)

    def forget() -> bool:
        return sum(_forget_item(service, owner, branch, item) for branch in branch_names(library, owner, session)) > 0

    if not await service.engine.call(owner, forget, (owner, first_branch(session))):
        raise missing("item", item, "item_id")
    return await run_in_threadpool(lambda: _object(session, _record(library, owner, session)))


def _items(library: Library, owner: str, session: str) -> list[dict[str, Any]]:
    """The messages of a conversation, the oldest first, those of replies with what they cite."""
    sources = sources_of(library, owner, session)

    def cited(exchange: Exchange) -> Sequence[dict[str, Any]]:
        return citations(sources[exchange.source].meta) if exchange.source in sources else ()

    return items_of(transcript(library, owner, session), cited)


def _forget_item(service: Service, owner: str, branch: str, item: str) -> bool:
    """Forget a message of one branch; the other message of its exchange stays in its position. Whether it was there."""
    with service.library.lease(owner, branch) as memory:
        for exchange in latest_exchanges(memory):
            if item not in [other["id"] for other in items_of([exchange])]:
                continue
            meta = dict(memory.sources[exchange.source].meta)
            if item == item_id(exchange.source, "user"):
                left = replace(exchange, user="")
            else:
                left = replace(exchange, assistant="")
            if left.user or left.assistant:
                Chat(service.lm, memory).rewrite(left, **without_message(meta, is_reply=not left.assistant))
            else:
                memory.replace([exchange.source], [])
            return True
    return False


def _session(library: Library, owner: str, conversation: str) -> str:
    """The name of the memory of a conversation. Raises ApiError 404."""
    session = session_of_conversation(conversation)
    if session is None or not library.holds(owner, session):
        raise missing("conversation", conversation, "conversation_id")
    return session


async def _add(service: Service, owner: str, session: str, items: list[ChatMessage]) -> list[Exchange]:
    """Remember messages as exchanges; those that follow a message of the same role, or none, stand alone."""
    exchanges: list[list[str]] = []
    for item in items:
        if item.role == "assistant":
            if not exchanges or exchanges[-1][1]:
                exchanges.append(["", ""])
            exchanges[-1][1] = item.text
        elif item.role == "user":
            exchanges.append([item.text, ""])

    def remember() -> list[Exchange]:
        with continued(service.library, owner, session, (), make=False) as branch:
            chat = Chat(service.lm, branch.memory)
            return [Exchange(chat.remember(user, text), user, text.strip()) for user, text in exchanges]

    return await service.engine.call(owner, remember, (owner, first_branch(session)))


def _object(session: str, record: dict[str, Any]) -> dict[str, Any]:
    return {"id": conversation_id(session), "object": "conversation", **record}


def _record(library: Library, owner: str, session: str) -> dict[str, Any]:
    """When a conversation was made, and its metadata; a session that has no record has no metadata."""
    path = library.open(owner, session).path
    assert path is not None
    try:
        record = json.loads(Directory(path).read(RECORD, LARGEST_RECORD))
        return {"created_at": int(record["created_at"]), "metadata": dict(record["metadata"])}
    except FileNotFoundError:
        return {"created_at": int(path.stat().st_mtime), "metadata": {}}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedMemory(f"{path / RECORD} is not what was written: delete it to do without.") from error


def _write(library: Library, owner: str, session: str, record: dict[str, Any]) -> None:
    with library.lease(owner, session) as memory:
        assert memory.path is not None
        Directory(memory.path).write(RECORD, [json.dumps(record).encode()])
