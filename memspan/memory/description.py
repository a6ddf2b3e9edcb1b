"""The description of a memory that `memspan inspect` shows."""

from dataclasses import asdict
from typing import Any

from memspan.memory.store.manifest import format_version
from memspan.memory.view import Contents


def describe(memory: Contents, nbytes: int) -> dict[str, Any]:
    """The fields of a memory and of its sources, as JSON values; `nbytes` is its size."""
    snapshot = memory.snapshot
    sources = list(snapshot.sources.values())
    return {
        "path": None if memory.path is None else str(memory.path),
        "format": format_version(memory.fingerprint, snapshot.shards),
        "generation": snapshot.generation,
        "fingerprint": memory.fingerprint.to_dict(),
        "bytes": nbytes,
        "parts": len(snapshot.shards),
        "passages": snapshot.passages,
        "tokens": snapshot.tokens,
        "characters": sum(source.characters for source in sources),
        "sources": [asdict(source) for source in sources],
    }
