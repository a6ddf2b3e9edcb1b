"""A memory's folder: which file is where, and the one moment at which a change takes effect.

manifest.json             which shards, in order, with their sizes and checksums; its rename is the commit
parts/<name>.safetensors  the shards, immutable; one that the manifest does not name does not exist
search.sqlite             the word index, a cache that may be missing or stale
search.json               what the word index covers, and its checksum
lock                      held by the writer; readers take no lock
unfinished                there while the folder is being made; such a folder holds nothing yet
"""

import os
import secrets
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from memspan.errors import DamagedMemory, MemspanError, UsageError
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store import files
from memspan.memory.store.files import WAY_OUT
from memspan.memory.store.index_file import IndexFile
from memspan.memory.store.manifest import (
    Fingerprint,
    Manifest,
    ShardEntry,
    manifest_of,
    new_lineage,
    parse,
    render,
)
from memspan.memory.store.shard import Shard, ShardFile, decode, encode

LOCK_SECONDS = 10.0  # how long a writer waits for another

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 64 * 1024 * 1024  # bytes; a shard takes about 200 of them
_SUFFIX = ".safetensors"
_UNFINISHED = b"The memory was not saved to its end and holds nothing. Save it here again, or delete the folder.\n"


class Folder:
    """The files of one memory. The caller of a method that writes holds `lock`.

    Attributes:
        path: the folder.
        index: its stored word index.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.index = IndexFile(self.path)
        self._shards = self.path / "parts"
        self._manifest = self.path / _MANIFEST
        self._unfinished = self.path / "unfinished"

    @staticmethod
    def is_memory(path: str | os.PathLike[str]) -> bool:
        """Whether there is the folder of a memory at `path`, by its manifest, which is not read."""
        return Path(path, _MANIFEST).is_file()

    def lock(self, seconds: float | None = None) -> AbstractContextManager[None]:
        """Keep other writers out, waiting `seconds` for them, `LOCK_SECONDS` if `None`.

        Raises:
            UsageError: there is no such folder.
            MemoryLocked: another writer did not finish in time.
        """
        if not self._exists():  # the lock would make it
            raise self._nothing_here()
        return files.locked(self.path / "lock", LOCK_SECONDS if seconds is None else seconds)

    # ---- reading

    def manifest(self) -> Manifest:
        """The manifest as it is on disk now.

        Raises:
            UsageError: there is no memory here.
            DamagedMemory: it is not what was written.
            ForeignMemory: another version of memspan wrote it.
        """
        if not self._exists():
            raise self._nothing_here()
        if files.status(self._unfinished) is not None:
            raise UsageError(f"the saving of a memory to {self.path} was interrupted; save it there again.")
        try:
            raw = files.read(self._manifest, _LARGEST_MANIFEST)
        except FileNotFoundError:
            if files.names(self._shards):
                raise DamagedMemory(f"{self._manifest} is missing. {WAY_OUT}") from None
            raise self._nothing_here() from None
        return parse(raw, self._manifest)

    def load(self, opened: Iterable[Shard] = ()) -> tuple[Manifest, tuple[Shard, ...]]:
        """The manifest and its shards, verified; those in `opened` that it still names are not read again.

        Raises:
            UsageError, DamagedMemory, ForeignMemory: as `manifest` does; DamagedMemory also for a shard.
        """
        by_file = {shard.file: shard for shard in opened if shard.file is not None}
        manifest = self.manifest()
        while True:
            try:
                for entry in manifest.shards:
                    if self._file(entry) not in by_file:
                        by_file[self._file(entry)] = self._open(entry, manifest.fingerprint)
                return manifest, tuple([by_file[self._file(entry)] for entry in manifest.shards])
            except FileNotFoundError as error:
                # A writer may have joined the shard with others; then there is a newer manifest by now.
                newer = self.manifest()
                if newer == manifest:
                    raise DamagedMemory(f"{error.filename} is missing. {WAY_OUT}") from error
                manifest = newer

    def is_vacant(self) -> bool:
        """Whether a memory can be made here: no folder, an empty one, or one whose making was interrupted.

        Raises:
            UsageError: there is something other than a folder.
        """
        names = files.names(self.path) if self._exists() else []
        return self._unfinished.name in names or all(name == "lock" or files.is_temporary(name) for name in names)

    def nbytes(self) -> int:
        """The bytes of all its files."""
        return sum(sum(files.sizes(folder).values()) for folder in (self.path, self._shards))

    def _exists(self) -> bool:
        """Whether there is a folder. Raises UsageError if there is something else."""
        status = files.status(self.path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{self.path} is a file; a memory is a folder. Choose another path.")
        return status is not None

    def _nothing_here(self) -> UsageError:
        return UsageError(f"there is no memory at {self.path}; check the path, or save one there.")

    def _file(self, entry: ShardEntry) -> ShardFile:
        return ShardFile(self._shards / (entry.name + _SUFFIX), entry.sha256)

    def _open(self, entry: ShardEntry, fingerprint: Fingerprint) -> Shard:
        file = self._file(entry)
        shard = decode(files.read_verified(file.path, entry.bytes, entry.sha256), file)
        key_shape = (len(fingerprint.heads), fingerprint.head_size)
        if (len(shard.passages), len(shard.ids), shard.keys.shape[1:]) != (entry.passages, entry.tokens, key_shape):
            raise DamagedMemory(f"{file.path} does not match its entry in the manifest. {WAY_OUT}")
        return shard

    # ---- writing

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the lock of a folder that may not exist yet; yields whether it is vacant."""
        files.make_folder(self.path)
        with self.lock():
            yield self.is_vacant()

    def make(
        self, fingerprint: Fingerprint, generation: int, shards: Sequence[Shard]
    ) -> tuple[Manifest, tuple[Shard, ...]]:
        """Fill a claimed, vacant folder with these shards, by hard links where the file system can. All or nothing."""
        files.write(self._unfinished, [_UNFINISHED])
        try:
            self._clear()
            files.make_folder(self._shards)
            stored = tuple([self.store([shard]) for shard in shards])
            manifest = manifest_of(fingerprint, generation, new_lineage(), stored)
            files.write(self._manifest, [render(manifest)])
            files.remove(self._unfinished)
            files.flush_folder(self.path)
        except MemspanError:
            with suppress(MemspanError):  # the mark stays: whatever could not be cleared does not count
                files.write(self._unfinished, [_UNFINISHED])
                self._clear()
            raise
        return manifest, stored

    def _clear(self) -> None:
        temporary = [path for path in files.sizes(self.path) if files.is_temporary(path.name)]
        for path in [*files.sizes(self._shards), self._manifest, *self.index.paths, *temporary]:
            files.remove(path)

    def store(self, group: Sequence[Shard]) -> Shard:
        """The contents of a group of shards as one shard with a file here; one that is here already stays."""
        first = group[0]
        if len(group) > 1 or first.raw is None:
            return self._write_shard(encode(group))
        if first.file is None:
            return self._write_shard([first.raw])
        if first.file.path.parent == self._shards and files.status(first.file.path) is not None:
            return first
        path = self._new_path()
        if files.link(first.file.path, path):
            return replace(first, file=replace(first.file, path=path))
        return self._write_shard([first.raw])

    def _write_shard(self, chunks: Iterable[files.Bytes]) -> Shard:
        path = self._new_path()
        size, sha256 = files.write(path, chunks)
        return decode(files.read_verified(path, size, sha256), ShardFile(path, sha256))

    def _new_path(self) -> Path:
        return self._shards / (secrets.token_hex(16) + _SUFFIX)

    def publish(self, manifest: Manifest, previous: Manifest) -> None:
        """Commit: from here on the folder holds the contents of `manifest` instead of those of `previous`.

        Raises:
            MemspanError: the system refused. The folder holds what it held before, unless the system refused that too;
                then it holds either.
        """
        try:
            files.write(self._manifest, [render(manifest)])
        except MemspanError:
            with suppress(MemspanError):
                if self.manifest() == manifest:
                    # A reader may have seen it by now: its numbering must not be taken for that of the next commit.
                    files.write(self._manifest, [render(replace(previous, lineage=new_lineage()))])
            raise

    def clean(self) -> None:
        """Delete the files of dead writers, and the shards that the manifest does not name (joined, or forgotten)."""
        named = {entry.name + _SUFFIX for entry in self.manifest().shards}
        for folder in (self.path, self._shards):
            stale = [
                path
                for path in files.sizes(folder)
                if files.is_temporary(path.name) or (path.suffix == _SUFFIX and path.name not in named)
            ]
            for path in stale:
                files.remove(path)
            if stale:
                files.flush_folder(folder)

    def store_index(self, index: WordIndex, manifest: Manifest) -> bool:
        """Keep an index of these contents for the next process; False where that is not possible."""
        try:
            with self.lock(0):
                if self.manifest() != manifest:
                    return False
                self.index.write(index, manifest)
        except (MemspanError, sqlite3.Error):  # a read-only folder, a full disk, a writer at work: it is only a cache
            return False
        return True
