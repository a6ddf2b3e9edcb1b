"""The Memory: everything a model has read, as one object in RAM or in a folder on disk."""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspan.errors import MemspanError, UsageError
from memspan.memory.index.word_search import WordSearch
from memspan.memory.source_names import free_names, matching
from memspan.memory.store.compaction import settle
from memspan.memory.store.encoded_text import EncodedText, continue_sources
from memspan.memory.store.folder import Folder
from memspan.memory.store.manifest import (
    FORMAT_VERSION,
    Fingerprint,
    Manifest,
    manifest_of,
    new_lineage,
    refuse_foreign,
)
from memspan.memory.store.shard import Ids, Shard, SourceRecord, join, select
from memspan.memory.store.snapshot import Block, Passage, Snapshot

HASHERS = 16  # unfinished sources whose checksum is carried on in RAM; that of any other is computed anew


class Memory:
    """Text with its provenance, token ids, and the keys of the model's retrieval heads.

    A new memory lives in RAM. `save` binds it to a folder; from then on every change is on disk when the call that
    makes it returns. Several processes may use one folder: their changes follow one another, and an object sees those
    of other processes when it makes one itself, or on `refresh`. The methods may be called from several threads.

    Every method that changes the memory either succeeds as a whole, or raises and leaves the memory as it was.
    """

    def __init__(self, fingerprint: Fingerprint) -> None:
        """Make an empty memory in RAM."""
        self.fingerprint = fingerprint
        self._snapshot = Snapshot(0, new_lineage(), ())
        self._folder: Folder | None = None
        self._manifest: Manifest | None = None  # of the folder with these contents
        self._disowned: Manifest | None = None  # of a commit that failed, but may have reached the disk
        self._words = WordSearch()
        self._hashers: dict[str, hashlib._Hash] = {}  # of the text of sources that were continued
        self._mutex = threading.RLock()

    # ---- from and to disk

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, expect: Fingerprint | None = None) -> "Memory":
        """Open the memory in a folder after checking every byte of it. Takes no lock.

        Args:
            path: its folder.
            expect: the fingerprint it must have; `None` for any.

        Raises:
            UsageError: there is no memory.
            ForeignMemory: it has another fingerprint, or another format version.
            DamagedMemory: a file is not what was written.
        """
        folder = Folder(path)
        if expect is not None:
            refuse_foreign(str(folder.path), folder.manifest().fingerprint, expect)
        manifest, shards = folder.load()
        memory = cls(manifest.fingerprint)
        memory._folder = folder
        memory._take(manifest, shards)
        return memory

    @classmethod
    def open(cls, path: str | os.PathLike[str], fingerprint: Fingerprint) -> "Memory":
        """Load the memory in a folder for writing, or make an empty one there.

        Raises:
            UsageError: the folder holds something else.
            ForeignMemory, DamagedMemory: as `load` does.
            MemoryLocked: another process held the lock too long.
        """
        folder = Folder(path)
        if folder.is_vacant():
            with folder.claimed() as vacant:  # another process may have been faster
                if vacant:
                    folder.make(fingerprint, 0, ())
        memory = cls.load(path, expect=fingerprint)
        with suppress(MemspanError), folder.lock(0):  # leftovers only cost space: the next writer deletes them
            folder.clean()
        return memory

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this memory to a new folder and bind this object to it.

        Raises:
            UsageError: there is something already.
            MemspanError: the system refused; nothing was saved, and saving again works.
        """
        with self._mutex:
            folder, manifest, shards = self._copy_to(path)
            words = self._words.moved()  # the numbers of the passages stay, so the index does too
            self._folder, self._disowned = folder, None
            self._take(manifest, shards)
            self._words = words

    def fork(self, path: str | os.PathLike[str] | None = None) -> "Memory":
        """An independent memory with the same contents, in RAM or, with a path, in a new folder.

        Nothing is copied: shards are immutable, so that both share them, in a folder as hard links where possible.

        Raises:
            UsageError: there is something at `path` already.
        """
        with self._mutex:
            twin = Memory(self.fingerprint)
            if path is None:
                twin._snapshot = self._snapshot
                twin._words = self._words.fork()
            else:
                twin._folder, manifest, shards = self._copy_to(path)
                twin._take(manifest, shards)
            return twin

    def refresh(self) -> bool:
        """Take in the commits of other processes to the folder; whether there were any.

        Raises:
            DamagedMemory: a file is not what was written.
            ForeignMemory: another memory has taken the folder's path.
        """
        with self._mutex:
            if self._folder is None or self._folder.manifest() in (self._manifest, self._disowned):
                return False
            manifest, shards = self._folder.load(self._snapshot.shards)
            refuse_foreign(str(self._folder.path), manifest.fingerprint, self.fingerprint)
            self._take(manifest, shards)
            return True

    def _copy_to(self, path: str | os.PathLike[str]) -> tuple[Folder, Manifest, tuple[Shard, ...]]:
        folder = Folder(path)
        taken = UsageError(f"{folder.path} is not empty. Choose another path, or delete what is there first.")
        if not folder.is_vacant():
            raise taken
        with folder.claimed() as vacant:
            if not vacant:
                raise taken
            manifest, shards = folder.make(self.fingerprint, self._snapshot.generation, self._snapshot.shards)
            if self._folder is not None:
                folder.index.link(self._folder.index, self._snapshot.lineage, manifest)
            return folder, manifest, shards

    # ---- changing

    def append(self, texts: Sequence[EncodedText]) -> None:
        """Add texts in one commit: all or none. When this returns for a memory on disk, they are durable.

        Raises:
            UsageError: a text contradicts itself, or does not begin where its source ends in the memory.
            MemspanError: keys that are not finite; or the system refused.
            MemoryLocked: another process held the lock too long.
        """
        for text in texts:
            text.check(len(self.fingerprint.heads), self.fingerprint.head_size)
        if len(texts) == 0:
            return
        with self._turn():
            views, hashers = continue_sources(texts, self._snapshot, self._hashers)
            self._commit([*([shard] for shard in self._snapshot.shards), views])
            unfinished = [name for name in hashers if not self.sources[name].complete]
            self._hashers = {name: hashers[name] for name in unfinished[-HASHERS:]}

    def forget(self, pattern: str) -> list[str]:
        """Remove sources from the contents, the files and the word index for good.

        Forks and copies made before keep theirs.

        Args:
            pattern: the name of a source, or a pattern with * ? [seq] for several.

        Returns:
            The names of the forgotten sources.

        Raises:
            UsageError: no source matches; the message lists similar names.
        """
        with self._turn():
            forgotten = matching(pattern, self.sources)
            remaining = {name: name for name in self.sources}
            for name in forgotten:
                del remaining[name]
            groups = [
                [shard] if shard.sources.keys() <= remaining.keys() else select(shard, remaining)
                for shard in self._snapshot.shards
            ]
            self._commit([group for group in groups if group], new_lineage())
            return forgotten

    def merge(self, other: "Memory") -> list[str]:
        """Add the sources of another memory, in their order, in one commit.

        A source that is here under the same name with the same text is skipped; one with other text gets the name
        "name (2)".

        Returns:
            The names of the added sources.

        Raises:
            ForeignMemory: the other memory has another fingerprint.
        """
        refuse_foreign("the other memory", other.fingerprint, self.fingerprint)
        theirs = other._snapshot
        with self._turn():
            names = free_names(theirs.sources, self.sources)
            groups = [select(shard, names) for shard in theirs.shards]
            if names:
                self._commit([*([shard] for shard in self._snapshot.shards), *(group for group in groups if group)])
            return list(names.values())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other writers out, after taking in their commits."""
        with self._mutex:
            if self._folder is None:
                yield
                return
            with self._folder.lock():
                self.refresh()
                yield

    def _commit(self, groups: Sequence[Sequence[Shard]], lineage: str | None = None) -> None:
        """Make the shards of these groups the contents, one shard per group or for several; `None` keeps the lineage."""
        runs = settle([sum(shard.nbytes for shard in group) for group in groups])
        joined = [[shard for group in groups[run] for shard in group] for run in runs]
        generation = self._snapshot.generation + 1
        if self._folder is None or self._manifest is None:
            shards = tuple([join(group) for group in joined])
            numbering = self._snapshot.lineage if lineage is None else lineage
            self._snapshot = self._snapshot.followed_by(generation, numbering, shards)
        else:
            self._commit_to(self._folder, self._manifest, joined, generation, lineage)
        if lineage is not None:
            self._words, self._hashers = WordSearch(), {}

    def _commit_to(
        self,
        folder: Folder,
        previous: Manifest,
        joined: Sequence[Sequence[Shard]],
        generation: int,
        lineage: str | None,
    ) -> None:
        """Commit to the locked folder, which holds `previous` or what a failed commit of this object left."""
        if self._disowned is not None and lineage is None:
            lineage = new_lineage()  # a reader may have numbered passages by the disowned manifest
        renumbered = lineage is not None
        try:
            shards = tuple([folder.store(group) for group in joined])
            manifest = manifest_of(
                self.fingerprint, generation, previous.lineage if lineage is None else lineage, shards
            )
            self._disowned = manifest
            folder.publish(manifest, previous)
            if renumbered:  # what is forgotten must be gone from the disk when this returns
                folder.index.delete()
                folder.clean()
        except MemspanError:
            with suppress(MemspanError):
                folder.clean()
            raise
        self._take(manifest, shards)
        with suppress(MemspanError):  # leftovers only cost space: the next writer deletes them
            folder.clean()

    def _take(self, manifest: Manifest, shards: tuple[Shard, ...]) -> None:
        """Make the contents of the folder those of this object."""
        if manifest.lineage != self._snapshot.lineage:
            self._words = WordSearch()
        self._snapshot = self._snapshot.followed_by(manifest.generation, manifest.lineage, shards)
        self._manifest, self._disowned = manifest, None

    # ---- looking

    def check_fingerprint(self, expected: Fingerprint) -> None:
        """Raises ForeignMemory if this memory has another fingerprint than `expected`."""
        refuse_foreign("this memory" if self.path is None else str(self.path), self.fingerprint, expected)

    def __len__(self) -> int:
        return self._snapshot.passages

    def __repr__(self) -> str:
        where = "in RAM" if self.path is None else f"at {self.path}"
        return f"<Memory of {self.fingerprint.name} {where}: {len(self.sources)} sources, {self.tokens} tokens>"

    @property
    def path(self) -> Path | None:
        """The folder, or `None` in RAM."""
        return None if self._folder is None else self._folder.path

    @property
    def snapshot(self) -> Snapshot:
        """The contents at this moment, as a value that later changes leave as it is."""
        return self._snapshot

    @property
    def generation(self) -> int:
        """The number of commits so far."""
        return self._snapshot.generation

    @property
    def sources(self) -> Mapping[str, SourceRecord]:
        """Every source by name, in order of first appearance. To be read only."""
        return self._snapshot.sources

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return self._snapshot.tokens

    @property
    def nbytes(self) -> int:
        """Its size in bytes: of all its files, or, in RAM, of its shards and its word index."""
        if self._folder is not None:
            return self._folder.nbytes()
        return self._words.nbytes + sum(shard.nbytes for shard in self._snapshot.shards)

    def passage(self, number: int) -> Passage:
        """One passage with its text and provenance. Raises IndexError."""
        return self._snapshot.passage(number)

    def ids(self, number: int) -> Ids:
        """The token ids of one passage, int32 (T,), read-only. Raises IndexError."""
        return self._snapshot.ids(number)

    def passages_of(self, source: str) -> list[int]:
        """The numbers of a source's passages, in the order of its text; none if there is no such source."""
        numbers: list[int] = self._snapshot.numbers_of(source).tolist()
        return numbers

    def neighbours(self, number: int, before: int, after: int) -> list[int]:
        """The numbers of a passage, of `before` passages ahead of it and `after` behind it, in the order of its source.

        Fewer where the source begins or ends. Raises IndexError.
        """
        return self._snapshot.neighbours(number, before, after)

    def blocks(self) -> Iterator[Block]:
        """All passages in order, in blocks for scoring; on disk their arrays are mapped, never loaded as a whole."""
        return self._snapshot.blocks()

    def word_scores(self, text: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any of the words of `text`; 0 without a match."""
        with self._mutex:
            return self._words.scores(text, self._snapshot, self._folder, self._manifest)

    def inspect(self) -> dict[str, Any]:
        """A description of the memory and its sources, as JSON values."""
        snapshot = self._snapshot
        sources = list(snapshot.sources.values())
        return {
            "path": None if self.path is None else str(self.path),
            "format": FORMAT_VERSION,
            "generation": snapshot.generation,
            "fingerprint": asdict(self.fingerprint),
            "bytes": self.nbytes,
            "parts": len(snapshot.shards),
            "passages": snapshot.passages,
            "tokens": snapshot.tokens,
            "characters": sum(source.characters for source in sources),
            "sources": [asdict(source) for source in sources],
        }


load_memory = Memory.load
