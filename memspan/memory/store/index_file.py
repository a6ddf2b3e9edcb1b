"""The stored word index of a memory folder: a cache that may be missing or stale, never wrong."""

import json
import sqlite3
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from memspan.errors import MemspanError
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store import files
from memspan.memory.store.manifest import Manifest
from memspan.memory.store.snapshot import Snapshot

_INDEX, _STAMP = "search.sqlite", "search.json"
INDEX_FILES = (_INDEX, _STAMP)

_LARGEST_STAMP = 4096  # bytes


@dataclass(frozen=True)
class _Stamp:
    """What search.sqlite covers: passages 0 to `passages` of a lineage, as of a generation."""

    lineage: str
    generation: int
    passages: int
    bytes: int
    sha256: str


_STAMP_FIELDS = {"lineage": str, "generation": int, "passages": int, "bytes": int, "sha256": str}


class IndexFile:
    """The files search.sqlite and search.json in the folder of a memory. A writer holds the folder's lock."""

    def __init__(self, folder: files.Directory) -> None:
        self._folder = folder

    def load(self, snapshot: Snapshot) -> WordIndex | None:
        """The stored index if it covers nothing but the first passages of these contents; None otherwise."""
        stamp = self._read_stamp()
        if (
            stamp is None
            or stamp.lineage != snapshot.lineage
            or stamp.generation > snapshot.generation
            or stamp.passages > snapshot.passages
        ):
            return None
        try:
            content = self._folder.read_verified(_INDEX, stamp.bytes, stamp.sha256)
            return WordIndex.restore(bytes(content), stamp.passages)
        except (OSError, MemspanError, sqlite3.Error):
            return None

    def write(self, index: WordIndex, manifest: Manifest) -> None:
        """Store an index of the contents of `manifest`. Raises MemspanError or sqlite3.Error."""
        size, sha256 = self._folder.write(_INDEX, [index.dump()])
        self._write_stamp(_Stamp(manifest.lineage, manifest.generation, index.passages, size, sha256))

    def link(self, other: "IndexFile", lineage: str, manifest: Manifest) -> None:
        """Take over another folder's index, if it covers passages of `lineage`, which were copied here as `manifest`."""
        stamp = other._read_stamp()
        passages = sum(entry.passages for entry in manifest.shards)
        if stamp is None or stamp.lineage != lineage or stamp.passages > passages:
            return
        with suppress(MemspanError):
            if self._folder.link(_INDEX, other._folder, _INDEX):
                self._write_stamp(replace(stamp, lineage=manifest.lineage, generation=manifest.generation))

    def delete(self) -> None:
        """Delete the index, durably."""
        for name in INDEX_FILES:
            self._folder.remove(name)
        self._folder.flush()

    def delete_foreign(self, lineage: str) -> None:
        """Delete the index, durably, unless it says that it covers passages of `lineage`."""
        if any(self._folder.status(name) is not None for name in INDEX_FILES):
            stamp = self._read_stamp()
            if stamp is None or stamp.lineage != lineage:
                self.delete()

    def _read_stamp(self) -> _Stamp | None:
        try:
            fields = json.loads(self._folder.read(_STAMP, _LARGEST_STAMP))
            return _Stamp(**{name: type_(fields[name]) for name, type_ in _STAMP_FIELDS.items()})
        except (OSError, MemspanError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _write_stamp(self, stamp: _Stamp) -> None:
        self._folder.write(_STAMP, [json.dumps(asdict(stamp)).encode()])
