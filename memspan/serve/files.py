"""The routes /v1/files: what clients upload, to be read into vector stores."""

import glob
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse, Response

from memspan.serve.items import page
from memspan.serve.library import Library
from memspan.serve.replies import ApiError
from memspan.serve.requests import served_names
from memspan.serve.service import LibraryOf, Owner, ServiceOf
from memspan.serve.store_objects import sources_of_file
from memspan.serve.stored_files import drop_file, file_object, file_path, file_record, file_records, keep_file

router = APIRouter()
BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
MOST_LISTED = 10_000
_PART = 1024 * 1024  # bytes

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data"]


@router.post("/v1/files")
def create_file(
    file: Annotated[UploadFile, File()], purpose: Annotated[Purpose, Form()], owner: Owner, service: ServiceOf
) -> dict[str, Any]:
    """Stores a file."""
    library, limit = service.library, service.limits.stored_bytes
    if limit is not None:
        stored = library.nbytes(owner) + sum(record["bytes"] for record in file_records(library, owner))
        if stored + (file.size or 0) > limit:
            raise ApiError(
                429, f"Your files and memories would exceed {limit:,} bytes: delete some.", code="insufficient_quota"
            )

    def parts() -> Iterator[bytes]:
        while part := file.file.read(_PART):
            yield part

    if not file.size:
        raise ApiError(400, "The file is empty: there is nothing to read.", param="file")
    return file_object(keep_file(library, owner, file.filename or "", purpose, parts()))


@router.get("/v1/files")
def list_files(
    owner: Owner,
    library: LibraryOf,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """The files, the newest first."""
    records = [each for each in file_records(library, owner) if purpose in (None, each["purpose"])]
    return page([file_object(record) for record in records], limit, after, order)


@router.get("/v1/files/{file_id}")
def retrieve_file(file_id: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """A file."""
    return file_object(file_record(library, owner, file_id))


@router.get("/v1/files/{file_id}/content", response_class=Response, responses=BYTES)
def file_content(file_id: str, owner: Owner, library: LibraryOf) -> Response:
    """The bytes of a file, as they were uploaded."""
    path = file_path(library, owner, file_record(library, owner, file_id))
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


@router.delete("/v1/files/{file_id}")
def delete_file(file_id: str, owner: Owner, library: LibraryOf) -> dict[str, Any]:
    """Deletes a file for good, and forgets it in all vector stores."""
    record = file_record(library, owner, file_id)
    for store in served_names(library, owner):
        _forget(library, owner, store, file_id)
    drop_file(library, owner, record)
    return {"id": file_id, "object": "file", "deleted": True}


def _forget(library: Library, owner: str, store: str, file_id: str) -> None:
    if sources_of_file(library.open(owner, store), file_id):
        with library.lease(owner, store) as memory:
            for source in sources_of_file(memory, file_id):
                memory.forget(glob.escape(source))
