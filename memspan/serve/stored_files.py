"""The files that an owner has uploaded: bytes and a record each, in a folder beside the owner's memories.

ROOT/OWNER/.files/file-<id>.json    name, purpose, size and time
ROOT/OWNER/.files/file-<id>.SUFFIX  the bytes, under an id of the server's: a name that a client gives never becomes a path
"""

import json
import re
import secrets
import time
import unicodedata
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from memspan.errors import DamagedMemory, MemspanError
from memspan.memory.store.files import Directory, unfinished
from memspan.serve.library import Library
from memspan.serve.names import is_owner, require_owner
from memspan.serve.replies import ApiError, missing

_ID = re.compile(r"file-[0-9a-f]{24}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_FOLDER = ".files"  # no memory can have such a name
_LARGEST_RECORD = 64 * 1024
LONGEST_NAME = 200
UNFINISHED_SECONDS = 3600.0  # since its last byte, after which an upload without a record is given up


def keep_file(library: Library, owner: str, name: str, purpose: str, parts: Iterable[bytes]) -> dict[str, Any]:
    """Store the bytes of a file for good; returns its record. Raises ApiError for a name that is none."""
    name = _shown_name(name)
    if library.is_single:
        raise ApiError(400, "This server has one memory, and no files: start it with a library to upload any.")
    folder, file_id = _directory(library, owner), f"file-{secrets.token_hex(12)}"
    folder.make()
    suffix = PurePosixPath(name).suffix.lower()
    stored = file_id + (suffix if _SUFFIX.fullmatch(suffix) and suffix != ".json" else ".txt")
    try:
        size, _ = folder.write(stored, parts)
        record = {
            "id": file_id,
            "object": "file",
            "bytes": size,
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "stored": stored,
        }
        folder.write(f"{file_id}.json", [json.dumps(record).encode()])  # the file is there from now on
    except MemspanError:
        with suppress(MemspanError):
            folder.remove(f"{file_id}.json", stored)
        raise
    return record


def drop_unfinished(library: Library) -> None:
    """Delete what uploads left that were interrupted long ago: bytes without a record, and files half written."""
    if library.is_single:
        return
    for owner in filter(is_owner, Directory(library.root).names()):
        if (library.root / owner).is_symlink():
            continue
        folder = _directory(library, owner)
        names = folder.names()
        ids = {name.removesuffix(".json") for name in names if name.endswith(".json")}
        left = [name for name in names if _is_unfinished(name, ids)]
        statuses = {name: folder.status(name) for name in left}
        old = time.time() - UNFINISHED_SECONDS  # another server may be at work in this folder
        folder.remove(*(name for name, status in statuses.items() if status is not None and status.st_mtime < old))


def _is_unfinished(name: str, ids: Collection[str]) -> bool:
    """Whether this is a name of an upload that has no record."""
    whole = unfinished(name) or name
    match = _ID.match(whole)
    return match is not None and (whole != name or match[0] not in ids)


def file_record(library: Library, owner: str, file_id: str) -> dict[str, Any]:
    """The record of a file. Raises ApiError 404."""
    if _ID.fullmatch(file_id) is None:
        raise missing("file", file_id, "file_id")
    folder = _directory(library, owner)
    try:
        record = json.loads(folder.read(f"{file_id}.json", _LARGEST_RECORD))
    except FileNotFoundError:
        raise missing("file", file_id, "file_id") from None
    except (ValueError, RecursionError) as error:
        raise DamagedMemory(f"{folder.path / file_id}.json is not what was written.") from error
    if not isinstance(record, dict) or record.get("id") != file_id:
        raise DamagedMemory(f"{folder.path / file_id}.json is not what was written.")
    return record


def file_records(library: Library, owner: str) -> list[dict[str, Any]]:
    """The records of all files of an owner, the oldest first."""
    names = _directory(library, owner).names()
    ids = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    records = [file_record(library, owner, each) for each in ids if _ID.fullmatch(each)]
    return sorted(records, key=lambda record: (record["created_at"], record["id"]))


def file_path(library: Library, owner: str, record: dict[str, Any]) -> Path:
    """Where the bytes of a file are."""
    return _directory(library, owner).path / str(record["stored"])


def drop_file(library: Library, owner: str, record: dict[str, Any]) -> None:
    """Delete a file for good."""
    _directory(library, owner).remove(f"{record['id']}.json", str(record["stored"]))


def file_object(record: dict[str, Any]) -> dict[str, Any]:
    """A file as the API has it."""
    return {key: value for key, value in record.items() if key != "stored"}


def _directory(library: Library, owner: str) -> Directory:
    require_owner(owner)
    return Directory(library.root / owner / _FOLDER)


def _shown_name(name: str) -> str:
    """The last part of a name that a client gives, without characters that steer a terminal."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(each for each in last if unicodedata.category(each)[0] != "C").strip()
    if not shown or len(shown) > LONGEST_NAME:
        raise ApiError(400, f"The file must have a name of 1 to {LONGEST_NAME} characters.", param="file")
    return shown
