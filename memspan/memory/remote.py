"""A copy of a memory in a remote store: S3, Google Cloud Storage, Azure, SFTP, ..., or another disk, by fsspec.

The store has the files of a memory's folder, without its word index and its lock. Shards never change, so only those that are not
there yet are sent, and the manifest last: until then the store holds the old contents. Stores have no locks. A push is refused where
the store holds what this folder neither sent nor received, and a pull where the folder has changed since; two pushes at the same moment
are not told apart, and the later one counts.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from memspan.errors import DamagedMemory, MemspanError, UsageError
from memspan.memory.store.folder import MANIFEST, PARTS, RETENTION, SUFFIX, Folder, is_shard_file
from memspan.memory.store.manifest import Manifest, parse, render

BLOCK = 8 * 1024**2  # bytes that are sent or received at once
TRIES = 3  # to receive contents that are changed meanwhile


@dataclass(frozen=True)
class Moved:
    """What a push or a pull has done.

    Attributes:
        files, nbytes: shards that were sent or received, and their bytes.
        total: shards of the memory.
    """

    files: int
    nbytes: int
    total: int


class Remote:
    """A place in a store, by its URL, such as s3://bucket/library.mem; credentials come from the store's usual places."""

    def __init__(self, url: str) -> None:
        """Raises UsageError for a URL that fsspec does not know, or whose package is not installed."""
        from fsspec.core import url_to_fs

        self.shown = re.sub(r"//[^/@]*@", "//", url)
        self._key = hashlib.sha256(url.rstrip("/").encode()).hexdigest()
        try:
            self._store, root = url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise UsageError(f"{self.shown} is no place that can be used here: {error}") from error
        self._root = root.rstrip("/")

    def push(self, path: Path, *, replace: bool = False) -> Moved:
        """Make the store hold what the memory in a folder holds now.

        Args:
            replace: whatever the store holds.

        Raises:
            UsageError: there is no memory; or the store holds another one, or another state of it than was last seen here.
            DamagedMemory: the memory is damaged, or what the store holds.
            MemspanError: the store refused. It holds the old contents, or the new ones beside files that were forgotten: push again.
        """
        folder = Folder(path)
        manifest, shards = folder.load()
        with self._reached("write to"):
            before = self._read(MANIFEST)
            if (
                before is not None
                and not replace
                and _digest(before) not in (self._seen(folder), _digest(render(manifest)))
            ):
                raise UsageError(
                    f"{self.shown} holds what was not sent from here: pull it first, or give --replace to overwrite it."
                )
            there = self._sizes()
            self._make_folders()
            missing = [
                shard
                for entry, shard in zip(manifest.shards, shards, strict=True)
                if there.get(entry.name + SUFFIX) != entry.bytes
            ]
            for shard in missing:
                assert shard.raw is not None
                assert shard.file is not None
                self._send(f"{PARTS}/{shard.file.name}", shard.raw)
            retention = folder.read_retention()
            if retention is not None:
                self._send(RETENTION, retention)
            self._send(MANIFEST, render(manifest))
            named = {entry.name + SUFFIX for entry in manifest.shards}
            self._remove([f"{PARTS}/{name}" for name in there if name not in named])
            if retention is None:
                self._remove([RETENTION])
        self._note(folder, render(manifest), manifest)
        return Moved(len(missing), sum(shard.nbytes for shard in missing), len(shards))

    def pull(self, path: Path) -> Moved:
        """Make a folder hold what the store holds: a new one, or one that has not changed since the last push or pull.

        Raises:
            UsageError: there is no memory in the store; the folder holds another memory, or has changed.
            DamagedMemory: the store holds something else than was sent.
            MemspanError: the store or the system refused. The folder holds the old contents.
        """
        folder = Folder(path)
        self._received()  # before there is a folder
        with folder.claimed() as is_vacant:
            record = None if is_vacant else self._record(folder)
            for _ in range(TRIES):
                raw, retention = self._received()
                manifest = parse(raw, f"{self.shown}/{MANIFEST}")
                if record is not None and record["theirs"] == _digest(raw):
                    return Moved(0, 0, len(manifest.shards))
                if not is_vacant and (record is None or record["ours"] != _digest(render(folder.manifest()))):
                    raise UsageError(
                        f"{path} holds what {self.shown} does not have: push it with --replace, or pull into another folder."
                    )
                received = _Receiver(self)
                with suppress(_Gone):  # a push has removed a shard meanwhile: there is another manifest
                    folder.receive(manifest, received.read, retention)
                    self._note(folder, raw, folder.manifest())
                    return Moved(received.files, received.nbytes, len(manifest.shards))
        raise DamagedMemory(f"{self.shown} lacks files that its manifest names: push the memory there again.")

    # ---- what was sent and received

    def _record(self, folder: Folder) -> dict[str, str] | None:
        entry = _records(folder).get(self._key)
        return entry if isinstance(entry, dict) and entry.keys() == {"ours", "theirs"} else None

    def _seen(self, folder: Folder) -> str | None:
        """The digest of the manifest that the store had when it and the folder were last the same."""
        record = self._record(folder)
        return None if record is None else record["theirs"]

    def _note(self, folder: Folder, theirs: bytes, ours: Manifest) -> None:
        """Note that the store and the folder are the same now. Only digests are kept: a URL can hold a password."""
        records = {**_records(folder), self._key: {"theirs": _digest(theirs), "ours": _digest(render(ours))}}
        folder.write_remotes(json.dumps(records, indent=1, sort_keys=True).encode())

    # ---- the store

    @contextmanager
    def _reached(self, what: str) -> Iterator[None]:
        """Errors of the store become one of ours: each store has kinds of its own."""
        try:
            self._store.invalidate_cache()
            yield
        except MemspanError:
            raise
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise MemspanError(f"This machine cannot {what} {self.shown}: {type(error).__name__}: {first}") from error

    def _received(self) -> tuple[bytes, bytes | None]:
        """The manifest that the store has, and the rules of retention. Raises UsageError if there is none."""
        with self._reached("read"):
            raw, retention = self._read(MANIFEST), self._read(RETENTION)
        if raw is None:
            raise UsageError(f"There is no memory at {self.shown}: check the URL, or push one there.")
        return raw, retention

    def _read(self, name: str) -> bytes | None:
        try:
            raw: bytes = self._store.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        return raw

    def blocks_of(self, name: str) -> Iterator[bytes]:
        """The bytes of a shard's file, block by block. Errors of the store are not left to the folder, which takes them for the
        disk's."""
        with self._reached("read"):
            try:
                with self._store.open(f"{self._root}/{PARTS}/{name}", "rb") as file:
                    while block := file.read(BLOCK):
                        yield block
            except FileNotFoundError as error:
                raise _Gone(name) from error

    def _sizes(self) -> dict[str, int]:
        """The files of shards in the store, with their bytes."""
        try:
            found = self._store.ls(f"{self._root}/{PARTS}", detail=True)
        except FileNotFoundError:
            return {}
        names = {PurePosixPath(each["name"]).name: int(each["size"] or 0) for each in found}
        return {name: size for name, size in names.items() if is_shard_file(name)}

    def _make_folders(self) -> None:
        from fsspec.implementations.local import LocalFileSystem

        if isinstance(self._store, LocalFileSystem):  # object stores have none, and might make a bucket of a wrong name
            self._store.makedirs(f"{self._root}/{PARTS}", exist_ok=True)

    def _send(self, name: str, raw: Any) -> None:
        view = memoryview(raw)
        with self._store.open(f"{self._root}/{name}", "wb") as file:
            for first in range(0, len(view), BLOCK):
                file.write(bytes(view[first : first + BLOCK]))

    def _remove(self, names: list[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                self._store.rm_file(f"{self._root}/{name}")


class _Gone(MemspanError):
    """The store has no such file."""


class _Receiver:
    """Reads shards, and counts them."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.files = self.nbytes = 0

    def read(self, name: str) -> Iterator[bytes]:
        for block in self._remote.blocks_of(name):
            self.nbytes += len(block)
            yield block
        self.files += 1


def _records(folder: Folder) -> dict[str, Any]:
    """What was sent and received, by the digest of the URL; of a damaged record nothing."""
    try:
        records = json.loads(folder.read_remotes() or b"{}")
    except (ValueError, RecursionError):
        return {}
    return records if isinstance(records, dict) else {}


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
