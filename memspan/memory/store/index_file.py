"""The stored word index of a memory folder: a cache that may be missing, stale or foreign, and is never wrong.

The index is a database, so a forged one could rank as its author likes, or keep SQLite busy for ever, and a checksum in
the same folder would be forged along with it. An index therefore counts only if this user's memspan signed that it was
built from the passages that the memory now holds. That of anybody else is not even opened: it is built anew, which takes
about half a second for a million words and happens once.
"""

import json
import sqlite3
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice

from memspan.errors import MemspanError
from memspan.memory.index.bm25 import WordIndex, chained
from memspan.memory.store import files
from memspan.memory.store.manifest import Manifest
from memspan.memory.store.signature import is_own, sign
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
    texts: str  # the digest of these passages and of what is known of them, see `WordIndex.digest`
    bytes: int
    sha256: str


_FIELDS = {"lineage": str, "generation": int, "passages": int, "texts": str, "bytes": int, "sha256": str}


def _signed(stamp: _Stamp) -> bytes:
    """What the signature covers."""
    return b"memspan word index\n" + json.dumps(asdict(stamp), sort_keys=True).encode()


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
        digest = chained(b"", islice(snapshot.rows(0), stamp.passages))
        if digest.hex() != stamp.texts:
            return None
        try:
            content = self._folder.verified_chunks(_INDEX, stamp.bytes, stamp.sha256)
            return WordIndex.restore(content, stamp.passages, digest)
        except (OSError, MemspanError, sqlite3.Error):
            return None

    def write(self, index: WordIndex, manifest: Manifest) -> bool:
        """Store an index of the contents of `manifest`; False if it cannot be signed. Raises MemspanError or sqlite3.Error."""
        if sign(b"") is None:
            return False
        passages, texts = index.passages, index.digest.hex()
        size, sha256 = self._folder.write(_INDEX, index.dump())
        self._write_stamp(_Stamp(manifest.lineage, manifest.generation, passages, texts, size, sha256))
        return True

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
        self._folder.remove(*INDEX_FILES)

    def delete_foreign(self, lineage: str) -> None:
        """Delete the index, durably, unless it says that it covers passages of `lineage`."""
        stamp = self._read_stamp()
        is_current = stamp is not None and stamp.lineage == lineage
        if not is_current and any(self._folder.status(name) is not None for name in INDEX_FILES):
            self.delete()

    def _read_stamp(self) -> _Stamp | None:
        """What this user signed; None if there is nothing of that kind."""
        try:
            fields = json.loads(self._folder.read(_STAMP, _LARGEST_STAMP))
            stamp = _Stamp(**{name: type_(fields[name]) for name, type_ in _FIELDS.items()})
            return stamp if is_own(_signed(stamp), fields["signature"]) else None
        except (OSError, MemspanError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _write_stamp(self, stamp: _Stamp) -> None:
        self._folder.write(_STAMP, [json.dumps({**asdict(stamp), "signature": sign(_signed(stamp))}).encode()])
