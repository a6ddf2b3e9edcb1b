"""A memory's folder: what lies where, and the one moment at which a change becomes true.

manifest.json             which parts, in order, with their sizes and checksums; its rename is the commit
parts/<name>.safetensors  immutable; one that the manifest does not name does not exist
search.sqlite             the word index, a cache that may be missing or stale
search.json               what it covers and its checksum
lock                      held by whoever writes; readers take no lock
unfinished                there while the folder is being made; such a folder holds nothing yet
"""

import hashlib
import json
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memspan.errors import DamagedMemory, ForeignMemory, MemspanError, UsageError
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store import files
from memspan.memory.store.files import WAY_OUT
from memspan.memory.store.shard import Shard, Stored, decode, encode

FORMAT_VERSION = 1
LOCK_SECONDS = 10.0  # how long a writer waits for another

_LARGEST_MANIFEST = 64 * 1024 * 1024  # bytes; a part takes about 200 of them
_LARGEST_STAMP = 4096  # bytes
_PART_NAME = re.compile(r"[0-9a-f]{1,64}")
_SUFFIX = ".safetensors"
_UNFINISHED = b"The memory was not saved to its end and holds nothing. Save it here again, or delete the folder.\n"


@dataclass(frozen=True)
class Fingerprint:
    """What the contents of a memory depend on: with another model, tokenizer or type they mean nothing."""

    model: str  # hash of the identity of the weights
    tokenizer: str  # hash
    dtype: str  # "bfloat16", "float32" or "float16"
    heads: tuple[tuple[int, int], ...]  # (layer, key-value head), G of them
    head_size: int  # K
    name: str  # of the model, for people; never compared


@dataclass(frozen=True)
class Entry:
    """One part as the manifest lists it."""

    name: str
    bytes: int
    sha256: str
    passages: int
    tokens: int


@dataclass(frozen=True)
class Manifest:
    """The list that makes parts a memory."""

    fingerprint: Fingerprint
    generation: int
    lineage: str
    parts: tuple[Entry, ...]


def new_lineage() -> str:
    """A name for a numbering of passages that no other memory shares."""
    return secrets.token_hex(16)


def refuse_foreign(where: str, found: Fingerprint, expected: Fingerprint) -> None:
    """Compare two fingerprints; the name for people does not count.

    Raises:
        ForeignMemory: names the first field that differs, both values, and the way out.
    """
    ways_out = {
        "model": f"Load the model it was made with ({found.name}), or read the documents again with this model.",
        "tokenizer": f"Load {found.name} with its own tokenizer, or read the documents again with this one.",
        "dtype": f"Load the model with dtype {found.dtype}, or read the documents again with this model.",
        "heads": "Read the documents again with this choice of retrieval heads.",
        "head_size": "Read the documents again with this model.",
    }
    for name, way_out in ways_out.items():
        theirs, ours = getattr(found, name), getattr(expected, name)
        if theirs != ours:
            raise ForeignMemory(f"{where} was made with {name} {theirs}, but here it is {ours}. {way_out}")


class Folder:
    """The files of one memory. Whoever calls a method that writes holds `lock`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self._parts = self.path / "parts"
        self._manifest = self.path / "manifest.json"
        self._index = self.path / "search.sqlite"
        self._stamp = self.path / "search.json"
        self._unfinished = self.path / "unfinished"

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
            if files.names(self._parts):
                raise DamagedMemory(f"{self._manifest} is missing. {WAY_OUT}") from None
            raise self._nothing_here() from None
        return parse(raw, self._manifest)

    def _exists(self) -> bool:
        """Whether there is a folder. Raises UsageError if there is something else."""
        here = files.status(self.path)
        if here is not None and not stat.S_ISDIR(here.st_mode):
            raise UsageError(f"{self.path} is a file; a memory is a folder. Choose another path.")
        return here is not None

    def _nothing_here(self) -> UsageError:
        return UsageError(f"there is no memory at {self.path}; check the path, or save one there.")

    def load(self, known: Iterable[Shard] = ()) -> tuple[Manifest, tuple[Shard, ...]]:
        """The manifest and its parts, verified; parts in `known` that it still names are not read again.

        Raises:
            UsageError, DamagedMemory, ForeignMemory: as `manifest` does; DamagedMemory also for a part.
        """
        opened = {part.stored: part for part in known if part.stored is not None}
        manifest = self.manifest()
        while True:
            try:
                for entry in manifest.parts:
                    if self._place(entry) not in opened:
                        opened[self._place(entry)] = self._open(entry, manifest)
                return manifest, tuple([opened[self._place(entry)] for entry in manifest.parts])
            except FileNotFoundError as error:
                # A writer may have joined the part with others; then there is a newer manifest by now.
                newer = self.manifest()
                if newer == manifest:
                    raise DamagedMemory(f"{error.filename} is missing. {WAY_OUT}") from error
                manifest = newer

    def _place(self, entry: Entry) -> Stored:
        return Stored(self._parts / (entry.name + _SUFFIX), entry.sha256)

    def _open(self, entry: Entry, manifest: Manifest) -> Shard:
        stored = self._place(entry)
        part = decode(files.read_verified(stored.path, entry.bytes, entry.sha256), stored)
        shape = (len(manifest.fingerprint.heads), manifest.fingerprint.head_size)
        if (len(part.passages), len(part.ids), part.keys.shape[1:]) != (entry.passages, entry.tokens, shape):
            raise DamagedMemory(f"{stored.path} does not hold what the manifest says. {WAY_OUT}")
        return part

    def is_vacant(self) -> bool:
        """Whether a memory can be made here: no folder, an empty one, or one whose making was interrupted.

        Raises:
            UsageError: there is something else than a folder.
        """
        names = files.names(self.path) if self._exists() else []
        return self._unfinished.name in names or all(name == "lock" or files.is_temporary(name) for name in names)

    def nbytes(self) -> int:
        """The bytes of all its files."""
        return sum(sum(files.sizes(folder).values()) for folder in (self.path, self._parts))

    # ---- writing

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the lock of a folder that may not exist yet; yields whether it is vacant."""
        files.make_folder(self.path)
        with self.lock():
            yield self.is_vacant()

    def make(
        self, fingerprint: Fingerprint, generation: int, parts: Sequence[Shard]
    ) -> tuple[Manifest, tuple[Shard, ...]]:
        """Fill a claimed, vacant folder with these parts, by hard links where the file system can. All or nothing."""
        files.write(self._unfinished, [_UNFINISHED])
        try:
            self._clear()
            files.make_folder(self._parts)
            stored = tuple([self.store([part]) for part in parts])
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
        unfinished = [path for path in files.sizes(self.path) if files.is_temporary(path.name)]
        for path in [*files.sizes(self._parts), self._manifest, self._index, self._stamp, *unfinished]:
            files.remove(path)

    def store(self, group: Sequence[Shard]) -> Shard:
        """The part that holds what a group of parts holds, as a file here; one that is here already is kept."""
        first = group[0]
        if len(group) > 1 or first.raw is None:
            return self._write_part(encode(group))
        if first.stored is None:
            return self._write_part([first.raw])
        if first.stored.path.parent == self._parts and files.status(first.stored.path) is not None:
            return first
        path = self._new_path()
        if files.link(first.stored.path, path):
            return replace(first, stored=replace(first.stored, path=path))
        return self._write_part([first.raw])

    def _write_part(self, chunks: Iterable[files.Bytes]) -> Shard:
        path = self._new_path()
        size, sha256 = files.write(path, chunks)
        return decode(files.read_verified(path, size, sha256), Stored(path, sha256))

    def _new_path(self) -> Path:
        return self._parts / (secrets.token_hex(16) + _SUFFIX)

    def publish(self, manifest: Manifest, previous: Manifest) -> None:
        """Commit: from here on the folder holds what `manifest` says instead of what `previous` said.

        Raises:
            MemspanError: the system refused. The folder says what it said before, unless the system refused that too;
                then it says one or the other.
        """
        try:
            files.write(self._manifest, [render(manifest)])
        except MemspanError:
            with suppress(MemspanError):
                if self.manifest() == manifest:
                    # Somebody may have read it by now: what was numbered by it must not be taken for what will follow.
                    files.write(self._manifest, [render(replace(previous, lineage=new_lineage()))])
            raise

    def clean(self) -> None:
        """Delete the files of dead writers, and the parts that the manifest does not name (joined, or forgotten)."""
        named = {entry.name + _SUFFIX for entry in self.manifest().parts}
        for folder in (self.path, self._parts):
            stale = [
                path for path in files.sizes(folder) if files.is_temporary(path.name) or _is_other_part(path, named)
            ]
            for path in stale:
                files.remove(path)
            if stale:
                files.flush_folder(folder)

    # ---- the word index, a cache

    def load_index(self, lineage: str, generation: int, passages: int) -> WordIndex | None:
        """The stored word index if it covers nothing but the first passages of these contents; `None` otherwise."""
        stamp = self._read_stamp()
        if stamp is None or stamp.lineage != lineage or stamp.generation > generation or stamp.passages > passages:
            return None
        try:
            content = files.read_verified(self._index, stamp.bytes, stamp.sha256)
            return WordIndex.restore(bytes(content), stamp.passages)
        except (OSError, MemspanError, sqlite3.Error):
            return None

    def store_index(self, index: WordIndex, manifest: Manifest) -> bool:
        """Keep an index of these contents for the next process; False where that is not possible."""
        try:
            with self.lock(0):
                if self.manifest() != manifest:
                    return False
                size, sha256 = files.write(self._index, [index.dump()])
                self._write_stamp(_Stamp(manifest.lineage, manifest.generation, index.passages, size, sha256))
        except (MemspanError, sqlite3.Error):  # a read-only folder, a full disk, a writer at work: it is only a cache
            return False
        return True

    def link_index(self, other: "Folder", lineage: str, manifest: Manifest) -> None:
        """Take over the index of another folder, whose contents of this lineage were copied here."""
        stamp = other._read_stamp()
        if stamp is None or stamp.lineage != lineage or stamp.passages > sum(part.passages for part in manifest.parts):
            return
        with suppress(MemspanError):
            if files.link(other._index, self._index):
                self._write_stamp(replace(stamp, lineage=manifest.lineage, generation=manifest.generation))

    def drop_index(self) -> None:
        """Delete the index and what was in it."""
        files.remove(self._index)
        files.remove(self._stamp)
        files.flush_folder(self.path)

    def _read_stamp(self) -> "_Stamp | None":
        try:
            fields = json.loads(files.read(self._stamp, _LARGEST_STAMP))
            return _Stamp(**{name: type_(fields[name]) for name, type_ in _STAMP_FIELDS.items()})
        except (OSError, MemspanError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _write_stamp(self, stamp: "_Stamp") -> None:
        files.write(self._stamp, [json.dumps(asdict(stamp)).encode()])


@dataclass(frozen=True)
class _Stamp:
    """What search.sqlite covers: passages 0 to `passages` of a lineage, as of a generation."""

    lineage: str
    generation: int
    passages: int
    bytes: int
    sha256: str


_STAMP_FIELDS = {"lineage": str, "generation": int, "passages": int, "bytes": int, "sha256": str}


def _is_other_part(path: Path, named: set[str]) -> bool:
    return path.suffix == _SUFFIX and path.name not in named


def manifest_of(fingerprint: Fingerprint, generation: int, lineage: str, parts: Iterable[Shard]) -> Manifest:
    """The manifest of parts that are stored in one folder."""
    entries = []
    for part in parts:
        if part.stored is None or part.raw is None:
            raise ValueError("only a stored part can be listed")
        entries.append(
            Entry(part.stored.path.stem, len(part.raw), part.stored.sha256, len(part.passages), len(part.ids))
        )
    return Manifest(fingerprint, generation, lineage, tuple(entries))


def render(manifest: Manifest) -> bytes:
    """The manifest as the bytes of its file: JSON in one canonical form, with its own checksum."""
    body = {"format": FORMAT_VERSION, **asdict(manifest)}
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})


def _canonical(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def parse(raw: bytes, path: Path) -> Manifest:
    """Read what `render` wrote. The form of the checksum is the same for all versions of the format.

    Raises:
        DamagedMemory: these are not the bytes that were written.
        ForeignMemory: they are, by a version of memspan with another format.
    """
    try:
        body = json.loads(raw)
        sha256 = body.pop("sha256")
        intact = sha256 == hashlib.sha256(_canonical(body)).hexdigest() and raw == _canonical(
            {**body, "sha256": sha256}
        )
        if not intact:
            raise ValueError("its checksum does not match")
        version = body.pop("format")
        if version == FORMAT_VERSION:
            return _manifest_from(**body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedMemory(f"{path} is not the manifest of a memory: {error}. {WAY_OUT}") from error
    raise ForeignMemory(
        f"{path.parent} was written in format version {version}, but this memspan reads version {FORMAT_VERSION}. "
        "Install the memspan that wrote it, or read the documents again."
    )


def _manifest_from(fingerprint: dict[str, Any], generation: int, lineage: str, parts: list[dict[str, Any]]) -> Manifest:
    """Build a manifest from its JSON. Raises KeyError, TypeError or ValueError."""
    heads = tuple((int(layer), int(head)) for layer, head in fingerprint.pop("heads"))
    entries = tuple(Entry(**part) for part in parts)
    if not all(_PART_NAME.fullmatch(entry.name) for entry in entries):
        raise ValueError("a part has a name that memspan does not give")
    return Manifest(Fingerprint(heads=heads, **fingerprint), generation, lineage, entries)
