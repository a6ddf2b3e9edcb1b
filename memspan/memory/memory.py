"""The Memory: everything a model has read, as one object in RAM or in a folder on disk."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspan.errors import MemspanError, UsageError
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store.compaction import settle
from memspan.memory.store.folder import (
    FORMAT_VERSION,
    Fingerprint,
    Folder,
    Manifest,
    manifest_of,
    new_lineage,
    refuse_foreign,
)
from memspan.memory.store.shard import (
    EncodedText,
    Ids,
    Shard,
    SourceRecord,
    check,
    decode,
    encode,
    hash_text,
    of_piece,
    select,
)
from memspan.memory.store.snapshot import Block, Passage, Snapshot


class Memory:
    """Text with its provenance, token ids, and the keys of the model's retrieval heads.

    A new memory lives in RAM. `save` binds it to a folder; from then on every change is on disk when the call that
    makes it returns. Several processes may use one folder: changes are put one behind the other, and an object sees
    those of others when it makes one itself, or on `refresh`. The methods may be called from several threads.

    Every method that changes the memory either does all it says or raises and leaves it as it was.
    """

    def __init__(self, fingerprint: Fingerprint) -> None:
        """Make an empty memory in RAM."""
        self.fingerprint = fingerprint
        self._contents = Snapshot(0, new_lineage(), ())
        self._folder: Folder | None = None
        self._manifest: Manifest | None = None  # that of the folder with these contents
        self._disowned: Manifest | None = None  # of a commit that failed, but may have come through to the disk
        self._index: WordIndex | None = None
        self._index_is_shared = False  # with a fork: copy before adding to it
        self._index_stored = 0  # passages that the index on disk covers
        self._hashers: dict[str, hashlib._Hash] = {}  # of the text of sources that were continued
        self._mutex = threading.RLock()

    # ---- from and to disk

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, expect: Fingerprint | None = None) -> "Memory":
        """Open the memory in a folder after checking every byte of it. Takes no lock.

        Args:
            path: its folder.
            expect: what it must have been made with; `None` for anything.

        Raises:
            UsageError: there is no memory.
            ForeignMemory: it was made with something else, or has another format version.
            DamagedMemory: a file is not what was written.
        """
        folder = Folder(path)
        if expect is not None:
            refuse_foreign(str(folder.path), folder.manifest().fingerprint, expect)
        manifest, parts = folder.load()
        memory = cls(manifest.fingerprint)
        memory._folder = folder
        memory._take(manifest, parts)
        return memory

    @classmethod
    def open(cls, path: str | os.PathLike[str], fingerprint: Fingerprint) -> "Memory":
        """Load the memory in a folder for writing, or make an empty one there.

        Raises:
            UsageError: the folder holds something else.
            ForeignMemory, DamagedMemory: as `load` does.
            MemoryLocked: another process was writing too long.
        """
        folder = Folder(path)
        if folder.is_vacant():
            with folder.claimed() as vacant:  # another process may have been faster
                if vacant:
                    folder.make(fingerprint, 0, ())
        memory = cls.load(path, expect=fingerprint)
        with suppress(MemspanError), folder.lock(0):  # leftovers only cost space: the next writer will take them away
            folder.clean()
        return memory

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this memory to a new folder and bind this object to it.

        Raises:
            UsageError: there is something already.
            MemspanError: the system refused; nothing was saved, and saving again works.
        """
        with self._mutex:
            folder, manifest, parts = self._copy_to(path)
            # The numbers of the passages stay, so the index does too.
            index, shared = self._index, self._index_is_shared
            self._folder, self._disowned = folder, None
            self._take(manifest, parts)
            self._index, self._index_is_shared = index, shared

    def fork(self, path: str | os.PathLike[str] | None = None) -> "Memory":
        """An independent memory with the same contents, in RAM or, with a path, in a new folder.

        Nothing is copied: parts are immutable, so that both share them, in a folder as hard links where possible.

        Raises:
            UsageError: there is something at `path` already.
        """
        with self._mutex:
            twin = Memory(self.fingerprint)
            if path is None:
                twin._contents = self._contents
                twin._index, twin._index_is_shared = self._index, True
                self._index_is_shared = True
            else:
                twin._folder, manifest, parts = self._copy_to(path)
                twin._take(manifest, parts)
            return twin

    def refresh(self) -> bool:
        """See what other processes have committed to the folder since; whether there was anything.

        Raises:
            DamagedMemory: a file is not what was written.
            ForeignMemory: somebody has put another memory there.
        """
        with self._mutex:
            if self._folder is None or self._folder.manifest() in (self._manifest, self._disowned):
                return False
            manifest, parts = self._folder.load(self._contents.parts)
            refuse_foreign(str(self._folder.path), manifest.fingerprint, self.fingerprint)
            self._take(manifest, parts)
            return True

    def _copy_to(self, path: str | os.PathLike[str]) -> tuple[Folder, Manifest, tuple[Shard, ...]]:
        folder = Folder(path)
        taken = UsageError(f"{folder.path} is not empty. Choose another path, or delete what is there first.")
        if not folder.is_vacant():
            raise taken
        with folder.claimed() as vacant:
            if not vacant:
                raise taken
            manifest, parts = folder.make(self.fingerprint, self._contents.generation, self._contents.parts)
            if self._folder is not None:
                folder.link_index(self._folder, self._contents.lineage, manifest)
            return folder, manifest, parts

    # ---- changing

    def append(self, pieces: Sequence[EncodedText]) -> None:
        """Add pieces in one commit: all or none. When this returns for a memory on disk, they are durable.

        Raises:
            UsageError: a piece contradicts itself, or does not continue its source where the memory stands.
            MemspanError: keys that are not finite; or the system refused.
            MemoryLocked: another process was writing too long.
        """
        for piece in pieces:
            check(piece, len(self.fingerprint.heads), self.fingerprint.head_size)
        if len(pieces) == 0:
            return
        with self._turn():
            views, hashers = self._continue(pieces)
            self._commit([*([part] for part in self._contents.parts), views])
            self._hashers = {name: hashers[name] for name in hashers if not self.sources[name].complete}

    def forget(self, pattern: str) -> list[str]:
        """Remove sources from the contents, the files and the word index for good.

        Forks and copies made before keep theirs.

        Args:
            pattern: the name of a source, or a pattern with * ? [seq] for several.

        Returns:
            The names of the forgotten sources.

        Raises:
            UsageError: no source matches; lists names that are near.
        """
        with self._turn():
            forgotten = [name for name in self.sources if name == pattern or fnmatchcase(name, pattern)]
            if not forgotten:
                raise UsageError(_no_source(pattern, list(self.sources)))
            kept = {name: name for name in self.sources}
            for name in forgotten:
                del kept[name]
            groups = [
                [part] if part.sources.keys() <= kept.keys() else select(part, kept) for part in self._contents.parts
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
            ForeignMemory: the other memory was made with something else.
        """
        refuse_foreign("the other memory", other.fingerprint, self.fingerprint)
        theirs = other._contents
        with self._turn():
            names = _free_names(theirs.sources, self.sources)
            groups = [select(part, names) for part in theirs.parts]
            if names:
                self._commit([*([part] for part in self._contents.parts), *(group for group in groups if group)])
            return list(names.values())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep others out, after seeing all that they have committed."""
        with self._mutex:
            if self._folder is None:
                yield
                return
            with self._folder.lock():
                self.refresh()
                yield

    def _continue(self, pieces: Sequence[EncodedText]) -> tuple[list[Shard], dict[str, "hashlib._Hash"]]:
        """The parts that these pieces make, each with its source's new record, and hashes of the sources' text."""
        now = time.time()
        sources, hashers, views = dict(self.sources), dict(self._hashers), []
        for piece in pieces:
            added = now if piece.added is None else piece.added
            old = sources.get(piece.source)
            if old is None:
                old = SourceRecord(piece.source, piece.kind, 0, hashlib.sha256().hexdigest(), False, added, {})
            _check_continues(piece, old)
            hasher = hashers.get(old.name)
            if hasher is None or hasher.hexdigest() != old.sha256:  # also another process may have continued it
                hasher = hash_text(old.name, self._contents.parts)
            hasher.update(piece.text.encode())
            record = replace(
                old,
                characters=old.characters + len(piece.text),
                sha256=hasher.hexdigest(),
                complete=piece.complete,
                meta={**old.meta, **piece.meta},
            )
            sources[old.name], hashers[old.name] = record, hasher
            views.append(of_piece(piece, record, added))
        return views, hashers

    def _commit(self, groups: Sequence[Sequence[Shard]], lineage: str | None = None) -> None:
        """Make the parts of these groups the contents, a part per group or for several; `None` keeps the lineage."""
        runs = settle([sum(part.nbytes for part in group) for group in groups])
        joined = [[part for group in groups[run] for part in group] for run in runs]
        generation = self._contents.generation + 1
        if self._folder is None or self._manifest is None:
            parts = tuple([_in_ram(group) for group in joined])
            self._contents = Snapshot(generation, self._contents.lineage if lineage is None else lineage, parts)
        else:
            self._commit_to(self._folder, self._manifest, joined, generation, lineage)
        if lineage is not None:
            self._index, self._index_is_shared, self._hashers = None, False, {}

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
            lineage = new_lineage()  # somebody may have numbered passages by what is disowned
        renumbered = lineage is not None
        try:
            parts = tuple([folder.store(group) for group in joined])
            manifest = manifest_of(
                self.fingerprint, generation, previous.lineage if lineage is None else lineage, parts
            )
            self._disowned = manifest
            folder.publish(manifest, previous)
            if renumbered:  # what is forgotten has to be gone before anybody is told so
                folder.drop_index()
                folder.clean()
        except MemspanError:
            with suppress(MemspanError):
                folder.clean()
            raise
        self._take(manifest, parts)
        with suppress(MemspanError):  # leftovers only cost space: the next writer will take them away
            folder.clean()

    def _take(self, manifest: Manifest, parts: tuple[Shard, ...]) -> None:
        """Make what is in the folder the contents of this object."""
        if manifest.lineage != self._contents.lineage:
            self._index, self._index_is_shared, self._index_stored = None, False, 0
        self._contents = Snapshot(manifest.generation, manifest.lineage, parts)
        self._manifest, self._disowned = manifest, None

    # ---- looking

    def check_fingerprint(self, expected: Fingerprint) -> None:
        """Raises ForeignMemory if this memory was made with something else than `expected`."""
        refuse_foreign("this memory" if self.path is None else str(self.path), self.fingerprint, expected)

    def __len__(self) -> int:
        return self._contents.passages

    def __repr__(self) -> str:
        place = "in RAM" if self.path is None else f"at {self.path}"
        return f"<Memory of {self.fingerprint.name} {place}: {len(self.sources)} sources, {self.tokens} tokens>"

    @property
    def path(self) -> Path | None:
        """The folder, or `None` in RAM."""
        return None if self._folder is None else self._folder.path

    @property
    def generation(self) -> int:
        """How many changes this memory has seen."""
        return self._contents.generation

    @property
    def sources(self) -> Mapping[str, SourceRecord]:
        """Every source by name, in order of first appearance. To be read only."""
        return MappingProxyType(self._contents.sources)

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return self._contents.tokens

    @property
    def nbytes(self) -> int:
        """The bytes it takes: of all its files, or, in RAM, of its parts and its word index."""
        if self._folder is not None:
            return self._folder.nbytes()
        index = 0 if self._index is None else self._index.nbytes
        return index + sum(part.nbytes for part in self._contents.parts)

    def passage(self, number: int) -> Passage:
        """One passage with its text and provenance. Raises IndexError."""
        return self._contents.passage(number)

    def ids(self, number: int) -> Ids:
        """The token ids of one passage, int32 (T,), read-only. Raises IndexError."""
        return self._contents.ids(number)

    def passages_of(self, source: str) -> list[int]:
        """The numbers of a source's passages, in the order of its text; none if there is no such source."""
        numbers: list[int] = self._contents.numbers_of(source).tolist()
        return numbers

    def neighbours(self, number: int, before: int, after: int) -> list[int]:
        """The numbers of a passage, of `before` ahead of it and `after` behind it in its source, in order of the text.

        Fewer where the source begins or ends. Raises IndexError.
        """
        return self._contents.neighbours(number, before, after)

    def blocks(self) -> Iterator[Block]:
        """All passages in order, in blocks for scoring; on disk their arrays are mapped, never loaded as a whole."""
        return self._contents.blocks()

    def word_scores(self, text: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, float32 (P,), for any of the words of `text`; 0 without a match."""
        with self._mutex:
            return self._current_index().scores(text)

    def inspect(self) -> dict[str, Any]:
        """What there is to know about it, as JSON values."""
        contents = self._contents
        sources = list(contents.sources.values())
        return {
            "path": None if self.path is None else str(self.path),
            "format": FORMAT_VERSION,
            "generation": contents.generation,
            "fingerprint": asdict(self.fingerprint),
            "bytes": self.nbytes,
            "parts": len(contents.parts),
            "passages": contents.passages,
            "tokens": contents.tokens,
            "characters": sum(source.characters for source in sources),
            "sources": [asdict(source) for source in sources],
        }

    def _current_index(self) -> WordIndex:
        """The word index, brought up to date in RAM, and on disk if that index has fallen behind by an eighth."""
        contents = self._contents
        index = self._index
        if index is None and self._folder is not None:
            index = self._folder.load_index(contents.lineage, contents.generation, contents.passages)
            self._index_stored = 0 if index is None else index.passages
        if index is None:
            index = WordIndex()
        if index.passages < contents.passages:
            if self._index_is_shared:
                index, self._index_is_shared = index.copy(), False
            index.extend(contents.texts(index.passages))
        self._index = index
        if self._is_behind(contents.passages) and self._manifest is not None and self._folder is not None:
            stored = self._folder.store_index(index, self._manifest)
            self._index_stored = contents.passages if stored else self._index_stored
        return index

    def _is_behind(self, passages: int) -> bool:
        """Whether the index on disk lacks so much that writing it anew pays."""
        return passages - self._index_stored > self._index_stored // 8


load_memory = Memory.load


def _in_ram(group: Sequence[Shard]) -> Shard:
    """The part that holds what a group of parts holds."""
    if len(group) == 1 and group[0].raw is not None:
        return group[0]
    return decode(b"".join(encode(group)))


def _check_continues(piece: EncodedText, source: SourceRecord) -> None:
    """Refuse a piece that is not the next one of its source."""
    name = source.name
    if piece.kind != source.kind:
        raise UsageError(f"{name!r} is of kind {source.kind!r}, but this piece of it is of kind {piece.kind!r}.")
    if piece.start != source.characters:
        raise UsageError(
            f"{name!r} has been read up to character {source.characters}, but this piece begins at {piece.start}. "
            "Either another process is reading this source too, or a piece was left out: go on from there."
        )


def _free_names(theirs: Mapping[str, SourceRecord], ours: Mapping[str, SourceRecord]) -> dict[str, str]:
    """What each of their sources is to be called here; those that are here already are left out."""
    taken = dict(ours)
    names = {}
    for name, source in theirs.items():
        free, count = name, 1
        while free in taken and taken[free].sha256 != source.sha256:
            count += 1
            free = f"{name} ({count})"
        if free not in taken:
            names[name], taken[free] = free, source
    return names


def _no_source(pattern: str, names: Sequence[str]) -> str:
    near = get_close_matches(pattern, names, n=3, cutoff=0.4)
    if near:
        return f"no source matches {pattern!r}; did you mean {' or '.join(repr(name) for name in near)}?"
    if names:
        return f"no source matches {pattern!r}; there are {len(names)}, the first is {names[0]!r}."
    return f"no source matches {pattern!r}; the memory is empty."
