"""The Memory: everything a model has read, as one object in RAM or in a folder on disk."""

import hashlib
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from memspan.errors import MemspanError, UsageError, require_type
from memspan.memory.description import describe
from memspan.memory.filter import Filter
from memspan.memory.index.word_search import WordSearch
from memspan.memory.selection import Selection
from memspan.memory.source_names import free_names
from memspan.memory.store.compaction import settle
from memspan.memory.store.encoded_text import EncodedText, check_texts, continue_sources
from memspan.memory.store.folder import Folder
from memspan.memory.store.lock import LOCK_SECONDS, OnWait
from memspan.memory.store.manifest import (
    Fingerprint,
    Manifest,
    adopted,
    comparable,
    manifest_of,
    new_lineage,
    refuse_foreign,
)
from memspan.memory.store.replacement import replaced
from memspan.memory.store.shard import Shard, join, select, without
from memspan.memory.store.snapshot import Snapshot
from memspan.memory.view import Contents, View

HASHERS = 16  # unfinished sources whose checksum is carried on in RAM; that of any other is computed anew


@dataclass(frozen=True, eq=False)
class _State:
    """Contents and all that belongs to them, replaced as a whole: a reader needs no lock.

    Attributes:
        words: the word index of the snapshot's lineage.
        folder, manifest: the memory's folder, and its manifest with these contents; None in RAM.
    """

    snapshot: Snapshot
    words: WordSearch
    folder: Folder | None = None
    manifest: Manifest | None = None


class Memory(Contents):
    """Text with its provenance, token ids, and the keys of the model's retrieval heads.

    A new memory lives in RAM. `save` binds it to a folder; from then on every change is on disk when its call returns.
    Several processes may use one folder: an object sees their changes when it makes one itself, or on `refresh`.

    Every method that changes the memory either succeeds as a whole, or raises and leaves the memory as it was.

    The methods may be called from several threads. Those that change the memory, and `refresh`, take turns; the others
    wait for none of them. Two calls may see two states: what belongs together is read from one `view`.

    Attributes:
        lock_seconds: how long a change waits for another process; `None` for as long as it takes.
        on_wait: called when such a wait is long, with the process that is waited for if it is known.
    """

    def __init__(self, fingerprint: Fingerprint) -> None:
        """Make an empty memory in RAM."""
        require_type("fingerprint", fingerprint, Fingerprint, "a Fingerprint; a model's `new_memory` makes a memory")
        self.fingerprint = fingerprint
        self.lock_seconds: float | None = LOCK_SECONDS
        self.on_wait: OnWait | None = None
        self._state = _State(Snapshot(0, new_lineage(), ()), WordSearch())
        self._disowned: Manifest | None = None  # of a commit that failed, but may have reached the disk
        self._hashers: dict[str, hashlib._Hash] = {}  # of the text of sources that were continued
        self._mutex = threading.RLock()  # held by the thread whose turn it is to change the memory

    # ---- from and to disk

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, expect: Fingerprint | None = None) -> "Memory":
        """Open the memory in a folder after checking every byte of it. Takes no lock.

        Args:
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
        memory = cls(adopted(manifest.fingerprint, expect))
        memory._take(folder, manifest, shards)
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
            self._take(*_copied(self._state, self.fingerprint, path), words=self._state.words.fork(self.snapshot))

    def fork(self, path: str | os.PathLike[str] | None = None) -> "Memory":
        """An independent memory with the same contents, in RAM or, with a path, in a new folder.

        Nothing is copied: shards are immutable, so that both share them, in a folder as hard links where possible.

        Raises:
            UsageError: there is something at `path` already.
        """
        twin, state = Memory(self.fingerprint), self._state
        if path is None:
            twin._state = _State(state.snapshot, state.words.fork(state.snapshot))
        else:
            twin._take(*_copied(state, self.fingerprint, path))
        return twin

    def refresh(self) -> bool:
        """Take in the commits of other processes to the folder; whether there were any.

        Raises:
            DamagedMemory: a file is not what was written.
            ForeignMemory: another memory has taken the folder's path.
        """
        with self._mutex:
            state = self._state
            if state.folder is None or state.folder.manifest() in (state.manifest, self._disowned):
                return False
            manifest, shards = state.folder.load(state.snapshot.shards)
            if manifest.lineage != state.snapshot.lineage:  # this memory in a new numbering, or another memory
                refuse_foreign(str(state.folder.path), manifest.fingerprint, self.fingerprint)
            self.fingerprint = adopted(manifest.fingerprint, self.fingerprint)
            self._take(state.folder, manifest, shards)
            return True

    # ---- changing

    def append(self, texts: Sequence[EncodedText]) -> None:
        """Add texts in one commit: all or none. When this returns for a memory on disk, they are durable.

        Raises:
            UsageError: a text contradicts itself, or does not begin where its source ends in the memory.
            MemspanError: keys that are not finite; or the system refused.
            MemoryLocked: another process held the lock too long.
        """
        check_texts(texts, self.fingerprint)
        if len(texts) == 0:
            return
        with self._turn():
            views, hashers = continue_sources(texts, self.snapshot, self._hashers)
            self._commit([*([shard] for shard in self.snapshot.shards), views])
            unfinished = [name for name in hashers if not self.sources[name].complete]
            self._hashers = {name: hashers[name] for name in unfinished[-HASHERS:]}

    def shared_files(self, names: Collection[str]) -> int:
        """The number of files with text of these sources that other folders, which are forks, have as well.

        Forks on another disk, copies, and forks whose files have been joined with others since are not counted.
        """
        state = self._state
        shards = [shard for shard in state.snapshot.shards if not shard.sources.keys().isdisjoint(names)]
        return 0 if state.folder is None else state.folder.shared(shards)

    def forget(
        self,
        pattern: str | None = None,
        *,
        before: datetime | float | None = None,
        after: datetime | float | None = None,
        containing: str | None = None,
        filter: Filter | None = None,
    ) -> list[str]:
        """Remove the sources that meet all conditions from the contents, the files and the word index for good.

        Forks and copies made before keep theirs. Other objects and processes that have the memory open keep what they
        have mapped until they `refresh`; a view keeps what it shows as long as it is referenced.

        Args:
            pattern: the name of a source, or a pattern with * ? [seq] for several.
            before: sources first added earlier than this time, an aware or local `datetime` or unix seconds.
            after: sources first added at this time or later.
            containing: sources whose text contains this text, in upper or lower case.
            filter: sources each passage of which meets these conditions.

        Returns:
            The names of the forgotten sources.

        Raises:
            UsageError: there is no condition, or no source matches; the message lists similar names. What an interrupted
                call left of sources that it forgot is deleted nevertheless.
        """
        selection = Selection(pattern, before, after, containing, filter)
        with self._turn(cleaning=True):
            forgotten = selection.names(self)
            self._commit(without(self.snapshot.shards, forgotten), new_lineage())
            return forgotten

    def replace(self, sources: Collection[str], texts: Sequence[EncodedText], *, in_position: bool = False) -> None:
        """Remove sources and add texts in one commit: all or nothing, such as a document for its earlier version.

        What is removed is gone as after `forget`. The texts are the last ones, or, `in_position`, stand where the first of
        the sources stood.

        Raises:
            UsageError: there is no such source; or a text is not what `append` takes.
            MemspanError, MemoryLocked: as `append` does.
        """
        require_type("sources", sources, (list, tuple, set, frozenset), "a list of names of sources")
        check_texts(texts, self.fingerprint)
        with self._turn(cleaning=True):
            if absent := [name for name in sources if name not in self.sources]:
                raise UsageError(f"no source has the name {absent[0]!r}; nothing was changed.")
            self._commit(replaced(self.snapshot, sources, texts, in_position=in_position), new_lineage())

    def clean(self) -> None:
        """Delete what interrupted writers left in the folder, such as the files of forgotten sources.

        Raises MemoryLocked or MemspanError, as `append` does.
        """
        with self._turn(cleaning=True):
            pass

    def merge(self, other: "Memory") -> list[str]:
        """Add the sources of another memory, in their order, in one commit.

        A source that is here under the same name with the same text is skipped; one with other text gets the name
        "name (2)". The vectors of its passages are added if they are of this memory's sentence encoder, their latents if they
        are of its trained memory.

        Returns the names of the added sources. Raises ForeignMemory if the other memory has another fingerprint.
        """
        require_type("other", other, Memory, "a Memory; memspan.load_memory(path) opens one")
        refuse_foreign("the other memory", other.fingerprint, self.fingerprint)
        theirs = other.snapshot
        with self._turn(cleaning=True):
            names = free_names(theirs.sources, self.sources)
            fingerprints = (other.fingerprint, self.fingerprint)
            groups = [select(comparable(shard, *fingerprints), names) for shard in theirs.shards]
            if names:
                self._commit([*([shard] for shard in self.snapshot.shards), *(group for group in groups if group)])
            return list(names.values())

    @contextmanager
    def _turn(self, *, cleaning: bool = False) -> Iterator[None]:
        """Keep other writers out, after taking in their commits; `cleaning` deletes what dead writers left."""
        with self._mutex:
            folder = self._state.folder
            if folder is None:
                yield
                return
            with folder.lock(self.lock_seconds, self.on_wait):
                self.refresh()
                if cleaning:
                    folder.clean()
                yield

    def _commit(self, groups: Sequence[Sequence[Shard]], lineage: str | None = None) -> None:
        """Make the shards of these groups the contents, one shard per group or for several; `None` keeps the lineage."""
        runs = settle([sum(shard.nbytes for shard in group) for group in groups])
        joined = [[shard for group in groups[run] for shard in group] for run in runs]
        state = self._state
        generation = state.snapshot.generation + 1
        if state.folder is not None and state.manifest is not None:
            self._commit_to(state.folder, state.manifest, joined, generation, lineage)
            return
        shards = tuple([join(group) for group in joined])
        if lineage is None:
            self._state = _State(state.snapshot.followed_by(generation, state.snapshot.lineage, shards), state.words)
        else:
            self._state = _State(state.snapshot.followed_by(generation, lineage, shards), WordSearch())
            self._hashers = {}

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
                folder.clean()
        except MemspanError:
            with suppress(MemspanError):
                folder.clean()
            raise
        self._take(folder, manifest, shards)
        with suppress(MemspanError):  # leftovers only cost space: the next writer deletes them
            folder.clean()

    def _take(
        self, folder: Folder, manifest: Manifest, shards: tuple[Shard, ...], words: WordSearch | None = None
    ) -> None:
        """Make the contents of the folder those of this object; `words` covers them, `None` if that is not known."""
        before = self._state
        if words is None and manifest.lineage == before.snapshot.lineage:
            words = before.words
        if words is None:
            words, self._hashers = WordSearch(), {}  # of text that may have been forgotten
        snapshot = before.snapshot.followed_by(manifest.generation, manifest.lineage, shards)
        self._state, self._disowned = _State(snapshot, words, folder, manifest), None

    # ---- looking

    def __repr__(self) -> str:
        where = "in RAM" if self.path is None else f"at {self.path}"
        sources = "1 source" if len(self.sources) == 1 else f"{len(self.sources)} sources"
        return f"<Memory of {self.fingerprint.name} {where}: {sources}, {self.tokens} tokens>"

    @property
    def path(self) -> Path | None:
        folder = self._state.folder
        return None if folder is None else folder.path

    def view(self) -> View:
        scorer = None
        while scorer is None:  # another thread may be ahead with the index
            state = self._state
            scorer = state.words.scorer(state.snapshot, state.folder, state.manifest)
        return View(self.fingerprint, state.snapshot, scorer, None if state.folder is None else state.folder.path)

    @property
    def snapshot(self) -> Snapshot:
        return self._state.snapshot

    @property
    def nbytes(self) -> int:
        """Its size in bytes: of all its files, or, in RAM, of its shards and its word index."""
        state = self._state
        if state.folder is not None:
            return state.folder.nbytes()
        return state.words.nbytes + sum(shard.nbytes for shard in state.snapshot.shards)

    def inspect(self) -> dict[str, Any]:
        """A description of the memory and its sources, as JSON values."""
        return describe(self, self.nbytes)


def _copied(
    state: _State, fingerprint: Fingerprint, path: str | os.PathLike[str]
) -> tuple[Folder, Manifest, tuple[Shard, ...]]:
    """A new folder at `path` with the contents of `state`, its manifest and its shards. Raises as `Memory.save` does."""
    folder = Folder(path)
    taken = UsageError(f"{folder.path} is not empty. Choose another path, or delete what is there first.")
    if not folder.is_vacant():
        raise taken
    with folder.claimed() as vacant:
        if not vacant:
            raise taken
        rules = None if state.folder is None else state.folder.read_retention()
        manifest, shards = folder.make(fingerprint, state.snapshot.generation, state.snapshot.shards, rules)
        if state.folder is not None:
            folder.index.link(state.folder.index, state.snapshot.lineage, manifest)
        return folder, manifest, shards


load_memory = Memory.load
