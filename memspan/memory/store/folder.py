"""A memory's folder: which file is where, and the one moment at which a change takes effect.

manifest.json             which shards, in order, with their sizes and checksums; its rename is the commit
parts/<name>.safetensors  the shards, immutable; one that the manifest does not name does not exist
search.sqlite             the word index, a cache that may be missing or stale
search.json               what the word index covers, its checksum, and the signature of the user who built it
retention.json            how long sources are kept; missing where there is no rule
remotes.json              what was sent to remote stores and received from them; missing where nothing was
lock                      held by the writer; readers take no lock
unfinished                there while the folder is being made; such a folder holds nothing yet
"""

import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from memspan.errors import DamagedMemory, MemspanError, UsageError, require_type
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store import files
from memspan.memory.store.files import WAY_OUT, Directory
from memspan.memory.store.index_file import INDEX_FILES, IndexFile
from memspan.memory.store.lock import LOCK_SECONDS, OnWait, locked
from memspan.memory.store.manifest import (
    Fingerprint,
    LatentsFingerprint,
    Manifest,
    ShardEntry,
    manifest_of,
    new_lineage,
    parse,
    render,
)
from memspan.memory.store.shard import TOKEN, TOKEN_END, Shard, ShardFile, decode, encode

MANIFEST, PARTS = "manifest.json", "parts"
_LARGEST_MANIFEST = 8 * 1024 * 1024  # bytes; a shard takes about 200 of them, and most have 64 MiB or more
_UNFINISHED_MARK = "unfinished"
_LOCK = "lock"
RETENTION = "retention.json"
_REMOTES = "remotes.json"
_LARGEST_RECORD = 256 * 1024  # bytes
SUFFIX = ".safetensors"
_SHARD_FILE = re.compile(rf"[0-9a-f]{{32}}{re.escape(SUFFIX)}")
_FILES = {MANIFEST, _UNFINISHED_MARK, RETENTION, _REMOTES, *INDEX_FILES}  # that are written beside the shards
_UNFINISHED = b"The memory was not saved to its end and holds nothing. Save it here again, or delete the folder.\n"


class Folder:
    """The files of one memory. The caller of a method that writes holds `lock`.

    Attributes:
        path: the folder.
        index: its stored word index.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        require_type("path", path, (str, os.PathLike), "the path of a folder")
        if "\0" in (text := os.fsdecode(path)) or not text:
            raise UsageError(f"`path` must be the path of a folder, got {text!r}.")
        self.path = Path(os.path.realpath(text))
        self._top = Directory(self.path)
        self._parts = Directory(self.path / PARTS, self._top)
        self.index = IndexFile(self._top)

    @staticmethod
    def is_memory(path: str | os.PathLike[str]) -> bool:
        """Whether there is the folder of a memory at `path`, by its manifest, which is not read."""
        return Path(path, MANIFEST).is_file()

    @staticmethod
    def is_saved(path: str | os.PathLike[str]) -> bool:
        """Whether there is the folder of a memory whose saving was not interrupted; its manifest is not read."""
        return Folder.is_memory(path) and not os.path.lexists(Path(path, _UNFINISHED_MARK))

    def lock(self, seconds: float | None = LOCK_SECONDS, on_wait: OnWait | None = None) -> AbstractContextManager[None]:
        """Keep other writers out, waiting `seconds` for them, or as long as it takes if `None`.

        Args:
            on_wait: called once if the wait is long, with the writer that holds the lock.

        Raises:
            UsageError: there is no such folder.
            MemoryLocked: another writer did not finish in time.
        """
        if not self._top.exists():  # the lock would make it
            raise self._nothing_here()
        return locked(self._top, _LOCK, seconds, on_wait)

    # ---- reading

    def manifest(self) -> Manifest:
        """The manifest as it is on disk now.

        Raises:
            UsageError: there is no memory here.
            DamagedMemory: it is not what was written.
            ForeignMemory: another version of memspan wrote it.
        """
        if not self._top.exists():
            raise self._nothing_here()
        if self._top.status(_UNFINISHED_MARK) is not None:
            raise UsageError(f"the saving of a memory to {self.path} was interrupted; save it there again.")
        try:
            raw = self._top.read(MANIFEST, _LARGEST_MANIFEST)
        except FileNotFoundError:
            if self._parts.names():
                raise DamagedMemory(f"{self.path / MANIFEST} is missing. {WAY_OUT}") from None
            raise self._nothing_here() from None
        return parse(raw, self.path / MANIFEST)

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

    def read_retention(self) -> bytes | None:
        """The rules on how long sources are kept, as they are stored; None where there are none. Raises DamagedMemory."""
        try:
            return self._top.read(RETENTION, _LARGEST_RECORD)
        except FileNotFoundError:
            return None

    def read_remotes(self) -> bytes | None:
        """The record of what was sent and received, as it is stored; None where there is none. Raises DamagedMemory."""
        try:
            return self._top.read(_REMOTES, _LARGEST_RECORD)
        except FileNotFoundError:
            return None

    def shared(self, shards: Iterable[Shard]) -> int:
        """How many of these shards have a file here that another folder has as well, by a hard link."""
        names = [shard.file.name for shard in shards if shard.file is not None]
        statuses = [self._parts.status(name) for name in names]
        return sum(status is not None and status.st_nlink > 1 for status in statuses)

    def is_vacant(self) -> bool:
        """Whether a memory can be made here: no folder, an empty one, or one whose making was interrupted.

        Raises:
            UsageError: there is something other than a folder.
        """
        names = self._top.names() if self._top.exists() else []
        return _UNFINISHED_MARK in names or all(name == _LOCK or _is_unfinished(name) for name in names)

    def nbytes(self) -> int:
        """The bytes of all its files."""
        return sum(sum(directory.sizes().values()) for directory in (self._top, self._parts))

    def _nothing_here(self) -> UsageError:
        return UsageError(f"there is no memory at {self.path}; check the path, or save one there.")

    def _file(self, entry: ShardEntry) -> ShardFile:
        return ShardFile(self._parts, entry.name + SUFFIX, entry.sha256)

    def _open(self, entry: ShardEntry, fingerprint: Fingerprint) -> Shard:
        file = self._file(entry)
        shard = decode(self._parts.read_verified(file.name, entry.bytes, entry.sha256), file)
        key_shape = (len(fingerprint.heads), fingerprint.head_size)
        if (len(shard.passages), len(shard.ids), shard.keys.shape[1:]) != (entry.passages, entry.tokens, key_shape):
            raise DamagedMemory(f"{file.path} does not match its entry in the manifest. {WAY_OUT}")
        if shard.vectors is not None and shard.vectors.shape[1] != fingerprint.vector_size:
            raise DamagedMemory(f"{file.path} holds vectors that are not of the memory's encoder. {WAY_OUT}")
        if shard.latents is not None and not _are_latents_of(shard, fingerprint.latents):
            raise DamagedMemory(f"{file.path} holds latents that are not of the memory's trained memory. {WAY_OUT}")
        return shard

    # ---- writing

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the lock of a folder that may not exist yet; yields whether it is vacant."""
        self._top.make()
        with self.lock():
            yield self.is_vacant()

    def make(
        self, fingerprint: Fingerprint, generation: int, shards: Sequence[Shard], retention: bytes | None = None
    ) -> tuple[Manifest, tuple[Shard, ...]]:
        """Fill a claimed, vacant folder with these shards, by hard links where the file system can, and with rules of
        retention. All or nothing."""
        self._top.write(_UNFINISHED_MARK, [_UNFINISHED])
        try:
            self._clear()
            self._parts.make()
            stored = tuple([self.store([shard]) for shard in shards])
            if retention is not None:
                self._top.write(RETENTION, [retention])
            manifest = manifest_of(fingerprint, generation, new_lineage(), stored)
            self._top.write(MANIFEST, [render(manifest)])
            self._top.remove(_UNFINISHED_MARK)
        except MemspanError:
            with suppress(MemspanError):  # the mark stays: whatever could not be cleared does not count
                self._top.write(_UNFINISHED_MARK, [_UNFINISHED])
                self._clear()
            raise
        return manifest, stored

    def _clear(self) -> None:
        self._parts.remove(*filter(is_shard_file, self._parts.names()))
        self._top.remove(MANIFEST, RETENTION, _REMOTES, *INDEX_FILES, *filter(_is_unfinished, self._top.names()))

    def store(self, group: Sequence[Shard]) -> Shard:
        """The contents of a group of shards as one shard with a file here; one that is here already stays."""
        first = group[0]
        if len(group) > 1 or first.raw is None:
            return self._write_shard(encode(group))
        if first.file is None:
            return self._write_shard([first.raw])
        if first.file.directory == self._parts and self._parts.status(first.file.name) is not None:
            return first
        file = ShardFile(self._parts, _new_name(), first.file.sha256)
        if self._parts.link(file.name, first.file.directory, first.file.name):
            return replace(first, file=file)
        return self._write_shard([first.raw])

    def _write_shard(self, chunks: Iterable[files.Bytes]) -> Shard:
        name = _new_name()
        size, sha256 = self._parts.write(name, chunks)
        return decode(self._parts.read_verified(name, size, sha256), ShardFile(self._parts, name, sha256))

    def receive(
        self, manifest: Manifest, read: Callable[[str], Iterable[files.Bytes]], retention: bytes | None
    ) -> None:
        """Hold the contents of another folder's manifest, under a lineage of its own, and its rules of retention.

        A claimed, vacant folder is filled, any other has the new contents instead of its own. What is there already is not read
        again; after an interruption neither.

        Args:
            read: the bytes of a shard by the name of its file.

        Raises:
            DamagedMemory: what was read is not what the manifest names.
            MemspanError: the system refused. The contents are as they were.
        """
        is_new = self.is_vacant()
        if is_new:
            self._top.write(_UNFINISHED_MARK, [_UNFINISHED])
        self._parts.make()
        for entry in manifest.shards:
            name = entry.name + SUFFIX
            try:
                self._parts.read_verified(name, entry.bytes, entry.sha256)
            except (FileNotFoundError, DamagedMemory):
                self._parts.write(name, read(name))
            self._open(entry, manifest.fingerprint)
        self.write_retention(retention)
        received = replace(manifest, lineage=new_lineage())
        if is_new:
            self._top.write(MANIFEST, [render(received)])
            self._top.remove(_UNFINISHED_MARK)
        else:
            self.publish(received, self.manifest())
        self.clean()

    def publish(self, manifest: Manifest, previous: Manifest) -> None:
        """Commit: from here on the folder holds the contents of `manifest` instead of those of `previous`.

        Raises:
            MemspanError: the system refused. The folder holds what it held before, unless the system refused that too;
                then it holds either.
        """
        try:
            self._top.write(MANIFEST, [render(manifest)])
        except MemspanError:
            with suppress(MemspanError):
                if self.manifest() == manifest:
                    # A reader may have seen it by now: its numbering must not be taken for that of the next commit.
                    self._top.write(MANIFEST, [render(replace(previous, lineage=new_lineage()))])
            raise

    def write_retention(self, rules: bytes | None) -> None:
        """Store the rules on how long sources are kept, or with None no rules."""
        if rules is None:
            self._top.remove(RETENTION)
        else:
            self._top.write(RETENTION, [rules])

    def write_remotes(self, record: bytes) -> None:
        """Store the record of what was sent and received."""
        self._top.write(_REMOTES, [record])

    def clean(self) -> None:
        """Delete what dead writers left: unfinished files, shards that the manifest does not name (joined, or forgotten),
        and the word index of a numbering of passages that is no more."""
        manifest = self.manifest()
        named = {entry.name + SUFFIX for entry in manifest.shards}
        self._top.remove(*filter(_is_unfinished, self._top.names()))
        self._parts.remove(*(name for name in self._parts.names() if is_shard_file(name) and name not in named))
        self.index.delete_foreign(manifest.lineage)

    def store_index(self, index: WordIndex, manifest: Manifest) -> bool:
        """Keep an index of these contents for the next process; False where that is not possible."""
        try:
            with self.lock(0):
                if self.manifest() != manifest:
                    return False
                return self.index.write(index, manifest)
        except (MemspanError, sqlite3.Error):  # a read-only folder, a full disk, a writer at work: it is only a cache
            return False


def _are_latents_of(shard: Shard, made_by: LatentsFingerprint | None) -> bool:
    """Whether the latents of a shard, which has some, are in form those of this trained memory."""
    if shard.latents is None or made_by is None or shard.latents.size != made_by.size:
        return False
    return shard.latents.are_of(shard.passages[:, TOKEN_END] - shard.passages[:, TOKEN], made_by.rate)


def _new_name() -> str:
    """A name for the file of a shard, which no other has."""
    return secrets.token_hex(16) + SUFFIX


def _is_unfinished(name: str) -> bool:
    """Whether memspan gives this name to a file beside the shards while it is written."""
    return files.unfinished(name) in _FILES


def is_shard_file(name: str) -> bool:
    """Whether memspan gives this name to the file of a shard, finished or not; no other file in `parts` is deleted."""
    return _SHARD_FILE.fullmatch(files.unfinished(name) or name) is not None
