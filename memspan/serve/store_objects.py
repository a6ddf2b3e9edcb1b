"""A memory as a vector store: its object, its files, and its record beside the files of the memory."""

import json
from typing import Any

from memspan.errors import DamagedMemory
from memspan.memory import Contents, Memory, SourceRecord
from memspan.memory.filter import TAGS
from memspan.memory.store.files import Directory

FILE_ID, ATTRIBUTES = "file_id", "attributes"  # in the meta of a source that was read from a file
_RECORD = "vector_store.json"  # beside the files of the memory
_LARGEST_RECORD = 64 * 1024


def file_id_of(record: SourceRecord) -> str:
    """The id of the file that a source was read from; of a source that came otherwise, its name."""
    return str(record.meta.get(FILE_ID, record.name))


def attributes_of(record: SourceRecord) -> dict[str, Any]:
    """The attributes of a file; of a source that came otherwise, its tags as far as they are single values."""
    found = record.meta.get(ATTRIBUTES, record.meta.get(TAGS, {}))
    return {key: value for key, value in dict(found).items() if isinstance(value, str | int | float)}


def sources_of_file(contents: Contents, file_id: str) -> list[str]:
    """The names of the sources with the id of a file; there is at most one, if nobody else has changed the memory."""
    return [name for name, record in contents.sources.items() if file_id_of(record) == file_id]


def store_object(name: str, memory: Memory) -> dict[str, Any]:
    """A memory as the API has a vector store."""
    record, count = store_record(name, memory), len(memory.sources)
    counts = {"cancelled": 0, "completed": count, "failed": 0, "in_progress": 0, "total": count}
    return {
        "id": name,
        "object": "vector_store",
        "created_at": record["created_at"],
        "name": record["name"],
        "metadata": record["metadata"],
        "description": record["description"],
        "usage_bytes": memory.nbytes,
        "file_counts": counts,
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": record["created_at"],
    }


def store_file_object(store: str, record: SourceRecord) -> dict[str, Any]:
    """A source as the API has a file of a vector store."""
    return {
        "id": file_id_of(record),
        "object": "vector_store.file",
        "created_at": int(record.added),
        "vector_store_id": store,
        "status": "completed" if record.complete else "in_progress",
        "last_error": None,
        "usage_bytes": record.characters,
        "attributes": attributes_of(record),
        "chunking_strategy": {"type": "other"},
    }


def store_record(name: str, memory: Memory) -> dict[str, Any]:
    """The name, metadata and age of a vector store; a memory that was made otherwise has only its own name."""
    path = memory.path
    assert path is not None
    try:
        record = json.loads(Directory(path).read(_RECORD, _LARGEST_RECORD))
        return {
            "name": str(record["name"]),
            "description": record["description"],
            "metadata": dict(record["metadata"]),
            "created_at": int(record["created_at"]),
        }
    except FileNotFoundError:
        return {"name": name, "description": None, "metadata": {}, "created_at": int(path.stat().st_mtime)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedMemory(f"{path / _RECORD} is not what was written: delete it to do without.") from error


def write_store_record(memory: Memory, record: dict[str, Any]) -> None:
    """Store the record; the caller holds a lease of the memory."""
    assert memory.path is not None
    Directory(memory.path).write(_RECORD, [json.dumps(record).encode()])
