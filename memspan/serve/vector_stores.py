"""The routes /v1/vector_stores: a vector store is a memory of the library, a file in it is a source.

A score is memspan's calibrated confidence, from 0 to 1; results stand in the order of the search, the best first.
"""

import glob
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from memspan.assistant.retrieved import RetrievedPassage
from memspan.data.documents import Document, open_documents
from memspan.errors import MemspanError
from memspan.memory import Contents, Filter, Memory
from memspan.memory.filter import TAGS
from memspan.serve.attribute_filters import AttributeFilter, passes
from memspan.serve.items import page
from memspan.serve.library import Library
from memspan.serve.quota import require_room
from memspan.serve.recall import scored_passages
from memspan.serve.replies import ApiError, missing
from memspan.serve.requests import Strict, refuse, served_names
from memspan.serve.service import LibraryOf, Owner, Service, ServiceOf
from memspan.serve.sessions import is_session
from memspan.serve.store_objects import (
    ATTRIBUTES,
    FILE_ID,
    attributes_of,
    file_id_of,
    sources_of_file,
    store_file_object,
    store_object,
    store_record,
    write_store_record,
)
from memspan.serve.stored_files import file_path, file_record
from memspan.serve.texts import text_between
from memspan.serve.uploads import read_for_a_while

router = APIRouter()
MOST_FILES = 100  # of one request
MOST_RESULTS = 50

Key = Annotated[str, Field(max_length=64)]
Metadata = Annotated[dict[Key, Annotated[str, Field(max_length=512)]], Field(max_length=16)]
Attributes = Annotated[dict[Key, Annotated[str, Field(max_length=512)] | int | float | bool], Field(max_length=16)]
Name = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


class StoreRequest(Strict):
    name: Name | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    metadata: Metadata | None = None
    file_ids: Annotated[list[str], Field(max_length=MOST_FILES)] | None = None


class StoreFileRequest(Strict):
    file_id: str
    attributes: Attributes | None = None


class Ranking(Strict):
    ranker: Literal["none", "auto", "default-2024-11-15", "default-2024-08-21"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class SearchRequest(Strict):
    query: Text | Annotated[list[Text], Field(min_length=1, max_length=8)]
    filters: AttributeFilter | None = None
    max_num_results: Annotated[int, Field(ge=1, le=MOST_RESULTS)] = 10
    ranking_options: Ranking = Field(default_factory=Ranking)
    rewrite_query: bool = False


@router.post("/v1/vector_stores")
async def create_store(body: StoreRequest, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """A new vector store; with files, once they have been read."""
    refuse(body, expires_after=())
    library, name = service.library, f"vs_{secrets.token_hex(12)}"
    for file_id in body.file_ids or ():
        await run_in_threadpool(file_record, library, owner, file_id)
    await require_room(service, owner)
    await run_in_threadpool(library.create, owner, name)
    record = {
        "name": body.name or "",
        "description": body.description,
        "metadata": body.metadata or {},
        "created_at": int(time.time()),
    }

    def write() -> None:
        with library.lease(owner, name) as memory:
            write_store_record(memory, record)

    try:
        await run_in_threadpool(write)
        for file_id in body.file_ids or ():
            await _attach(service, owner, name, file_id, {})
    except (ApiError, MemspanError):
        await run_in_threadpool(library.delete, owner, name)
        raise
    return await run_in_threadpool(lambda: store_object(name, library.open(owner, name)))


@router.get("/v1/vector_stores")
def list_stores(
    owner: Owner, library: LibraryOf, limit: Limit = 20, after: str | None = None, order: Order = "desc"
) -> dict[str, Any]:
    """The vector stores: all memories but those of sessions."""
    stores = [store_object(name, library.open(owner, name)) for name in served_names(library, owner)]
    return page(sorted(stores, key=lambda store: (store["created_at"], store["id"])), limit, after, order)


@router.get("/v1/vector_stores/{store}")
def retrieve_store(store: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """A vector store."""
    return store_object(store, _opened(library, owner, store))


@router.post("/v1/vector_stores/{store}")
def update_store(store: str, body: StoreRequest, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """A vector store with another name or other metadata."""
    refuse(body, expires_after=(), file_ids=())
    _opened(library, owner, store)
    with library.lease(owner, store) as memory:
        given = body.model_dump(include=body.model_fields_set & {"name", "description", "metadata"})
        record = {**store_record(store, memory), **given}
        write_store_record(memory, {**record, "name": record["name"] or "", "metadata": record["metadata"] or {}})
        return store_object(store, memory)


@router.delete("/v1/vector_stores/{store}")
def delete_store(store: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Deletes a vector store with what was read into it, for good; files that were uploaded stay."""
    _opened(library, owner, store)
    library.delete(owner, store)
    return {"id": store, "object": "vector_store.deleted", "deleted": True}


@router.post("/v1/vector_stores/{store}/files")
async def create_store_file(store: str, body: StoreFileRequest, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """Reads a file into a vector store; the reply comes when it has been read."""
    await run_in_threadpool(_opened, service.library, owner, store)
    await require_room(service, owner)
    return await _attach(service, owner, store, body.file_id, body.attributes or {})


@router.get("/v1/vector_stores/{store}/files")
def list_store_files(
    store: str, owner: Owner, library: LibraryOf, limit: Limit = 20, after: str | None = None, order: Order = "desc"
) -> dict[str, Any]:
    """The files of a vector store, the newest first."""
    sources = _opened(library, owner, store).sources.values()
    return page([store_file_object(store, record) for record in sources], limit, after, order)


@router.get("/v1/vector_stores/{store}/files/{file_id}/content")
def store_file_content(store: str, file_id: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """The text of a file as it was read."""
    memory = _opened(library, owner, store)
    source = _source(memory, file_id)
    text = text_between(memory, source, 0, memory.sources[source].characters)
    data = [{"type": "text", "text": text}]
    return {"object": "vector_store.file_content.page", "data": data, "has_more": False, "next_page": None}


@router.get("/v1/vector_stores/{store}/files/{file_id}")
def retrieve_store_file(store: str, file_id: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """A file of a vector store."""
    memory = _opened(library, owner, store)
    return store_file_object(store, memory.sources[_source(memory, file_id)])


@router.delete("/v1/vector_stores/{store}/files/{file_id}")
def delete_store_file(store: str, file_id: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Forgets a file in a vector store for good; the file that was uploaded stays."""
    _opened(library, owner, store)
    with library.lease(owner, store) as memory:
        memory.forget(glob.escape(_source(memory, file_id)))
    return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


@router.post("/v1/vector_stores/{store}/search")
async def search_store(store: str, body: SearchRequest, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """The passages that bear most on a query, or on several."""
    refuse(body, rewrite_query=(False,))
    queries = [body.query] if isinstance(body.query, str) else body.query
    if not all(query.strip() for query in queries):
        raise ApiError(400, "query must have at least one word.", param="query")
    await run_in_threadpool(_opened, service.library, owner, store)

    def search() -> list[dict[str, Any]]:
        view = service.library.open(owner, store).view()
        found = _found(service, view, queries, body)
        return [_result(view, passage) for passage in found]

    data = await service.engine.call(owner, search)
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": data,
        "has_more": False,
        "next_page": None,
    }


def _found(service: Service, view: Contents, queries: list[str], body: SearchRequest) -> list[RetrievedPassage]:
    """The passages of a search; of several queries, taken in turns from each, a passage once."""
    filter = None
    if body.filters is not None:
        names = [name for name, record in view.sources.items() if passes(body.filters, attributes_of(record))]
        if not names:
            return []
        filter = Filter([glob.escape(name) for name in names])
    least, top = body.ranking_options.score_threshold, body.max_num_results
    lists = [scored_passages(service.lm, view, query, top=top, filter=filter, min_score=least) for query in queries]
    best: dict[int, RetrievedPassage] = {}
    for rank in range(top):
        for found in lists:
            if rank < len(found):
                passage = found[rank]
                other = best.setdefault(passage.number, passage)
                if (passage.confidence or 0.0) > (other.confidence or 0.0):
                    best[passage.number] = passage
    return list(best.values())[:top]


def _result(view: Contents, passage: RetrievedPassage) -> dict[str, Any]:
    record = view.sources[passage.source]
    return {
        "file_id": file_id_of(record),
        "filename": record.name,
        "score": passage.confidence,
        "attributes": attributes_of(record),
        "content": [{"type": "text", "text": passage.text}],
    }


async def _attach(service: Service, owner: str, store: str, file_id: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Read a file into a store, in turns with other requests.

    Raises ApiError 404 for a file that is not there, 400 for what cannot be read as text.
    """
    record = await run_in_threadpool(file_record, service.library, owner, file_id)
    path = file_path(service.library, owner, record)
    tags = {key: value for key, value in attributes.items() if not isinstance(value, bool)}
    meta = {FILE_ID: file_id, ATTRIBUTES: attributes, **({TAGS: tags} if tags else {})}

    lease, document = partial(service.library.lease, owner, store), None

    def read() -> dict[str, Any] | None:
        """The file in the store when it has been read to its end; None where others have a turn before that."""
        nonlocal document
        try:
            if document is None:
                document = replace(_document(lease, path, str(record["filename"]), file_id), meta=meta)
            is_read, _ = read_for_a_while(service, lease, document)
        except MemspanError as error:
            with lease() as memory:
                for source in sources_of_file(memory, file_id):
                    memory.forget(glob.escape(source))
            error.args = (str(error).replace(str(path), str(record["filename"])),)
            raise
        return (
            store_file_object(store, service.library.open(owner, store).sources[document.source]) if is_read else None
        )

    while (found := await service.engine.call(owner, read)) is None:
        pass
    return found


def _document(lease: Callable[[], AbstractContextManager[Memory]], path: Path, name: str, file_id: str) -> Document:
    """The document of a file, under the name of the source that it becomes, or that an interrupted request began.

    Raises ApiError 409 for a file that was read to its end, UnreadableSource for one that is no document.
    """
    with lease() as memory:
        begun = sources_of_file(memory, file_id)
        if begun and memory.sources[begun[0]].complete:
            raise ApiError(409, f"The file {file_id!r} is in this vector store already.", param="file_id")
        source = begun[0] if begun else f"{file_id} {name}" if name in memory.sources else name
    (document,) = open_documents([path])
    return replace(document, source=source, state=lambda: None)


def _opened(library: Library, owner: str, store: str) -> Memory:
    """The memory that is a vector store. Raises ApiError 404."""
    require_store(library, owner, store)
    return library.open(owner, store)


def require_store(library: Library, owner: str, store: str) -> None:
    """Raises ApiError 404 for what is no vector store of the owner."""
    if is_session(store) or not library.holds(owner, store):
        raise missing("vector store", store, "vector_store_id")


def _source(memory: Contents, file_id: str) -> str:
    """The source of a file. Raises ApiError 404."""
    sources = sources_of_file(memory, file_id)
    if not sources:
        raise missing("file", file_id, "file_id")
    return sources[0]
