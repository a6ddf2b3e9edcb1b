"""A library: the memories of several owners under one root folder, open as long as they are used.

ROOT/OWNER/NAME is the folder of a memory, such as `memspan read FILE --into ROOT/local/NAME` makes one. What serves memories
to others is built on it: who asks is one owner, and nothing that an owner names reaches the folders of another.
"""

import os
import secrets
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

from memspan.assistant.language_model import LanguageModel
from memspan.errors import MemoryLocked, MemspanError, UnknownMemory, UsageError, require_whole
from memspan.memory import Memory
from memspan.memory.store.files import FILE_MODE, Directory, explained
from memspan.memory.store.folder import Folder
from memspan.memory.store.lock import LOCK_SECONDS
from memspan.serve.names import LOCAL as LOCAL
from memspan.serve.names import is_name, is_owner, require_name, require_owner

RAM_BYTES = 1024**3
OPEN_BYTES = 160 * 1024  # that an open memory takes beside what is in its files: a connection of SQLite, its objects

LEASE = "lease"  # the file beside those of a memory by which a lease keeps other processes out
OTHERS_SECONDS = 1.0  # that a lease waits for one of another process: meanwhile an engine does nothing else

_DELETED = ".deleted-"  # in front of the name of a folder that is being deleted

Key = tuple[str, str]  # owner and name


class _Turn:
    """The locks of one memory: `writing` of a lease, and `opening`, which is held for as long as files are read.

    `others` is held with the first lease of the thread that writes, and keeps other processes out.
    """

    def __init__(self, path: Path) -> None:
        self.writing, self.opening = threading.RLock(), threading.RLock()
        self.others = FileLock(path / LEASE, timeout=OTHERS_SECONDS, mode=FILE_MODE, thread_local=False)


class Library:
    """Memories by owner and name. Its methods may be called from several threads.

    Memories are opened when they are first used, and stay in RAM under a budget: the least recently used are let go first.
    A memory that somebody still holds stays in RAM as long as they do, and is the same object for everybody. A memory
    counts with the bytes of its files, and `OPEN_BYTES` more: otherwise thousands of short conversations would hardly count.

    Attributes:
        lm: the model that the memories are made with.
        root: the folder of the owners' folders; of a library of one memory, that memory's folder.
        ram_bytes: of the memories that are kept open, at most, beside those that are leased.
        is_shared: whether libraries of other processes have the same root, so that a lease must keep them out too.
        lease_seconds: how long `lease` waits for another writer of this process.
    """

    def __init__(
        self, root: str | os.PathLike[str], lm: LanguageModel, *, ram_bytes: int = RAM_BYTES, is_shared: bool = False
    ) -> None:
        """
        Args:
            root: the folder, which is made if it does not exist; or the folder of one memory, as for `of_memory`.

        Raises:
            UsageError: `root` is a file, or a memory whose name cannot be that of one in a library.
            MemspanError: the system refused to make it.
        """
        require_whole("ram_bytes", ram_bytes, least=0)
        self.lm, self.root, self.ram_bytes, self.is_shared = lm, Path(os.path.realpath(root)), ram_bytes, is_shared
        self.lease_seconds = LOCK_SECONDS
        self._only: str | None = None
        self._mutex = threading.Lock()  # of the tables below; never held while a file is read
        self._kept: OrderedDict[Key, tuple[Memory, int]] = OrderedDict()  # with bytes, the least recently used first
        self._alive: WeakValueDictionary[Key, Memory] = WeakValueDictionary()
        self._turns: WeakValueDictionary[Key, _Turn] = WeakValueDictionary()
        self._leased: Counter[Key] = Counter()
        if Folder.is_memory(self.root):
            require_name(self.root.name)
            self._only = self.root.name
        else:
            Directory(self.root).make()
            self._finish_deleting()

    @classmethod
    def of_memory(cls, path: str | os.PathLike[str], lm: LanguageModel) -> "Library":
        """A library of the one memory in a folder, under the folder's name, of the owner `LOCAL`.

        Memories can be neither created nor deleted in it, and none is forked.

        Raises:
            UsageError: there is no memory, or its name cannot be that of one in a library.
        """
        if not Folder.is_memory(path):
            raise UsageError(f"there is no memory at {path}; check the path.")
        return cls(path, lm)

    # ---- what there is

    @property
    def is_single(self) -> bool:
        """Whether it is a library of one memory, in which no other can be made."""
        return self._only is not None

    def names(self, owner: str, beginning: str = "") -> list[str]:
        """The names of the memories of an owner that begin so, sorted; none for an owner who has none."""
        require_owner(owner)
        if self._only is not None:
            return [self._only] if owner == LOCAL and self._only.startswith(beginning) else []
        names = Directory(self.root / owner).names()
        return [name for name in names if name.startswith(beginning) and self._exists((owner, name))]

    def holds(self, owner: str, name: str) -> bool:
        """Whether the owner has a memory of this name."""
        return is_owner(owner) and is_name(name) and self._exists((owner, name))

    def nbytes(self, owner: str) -> int:
        """The bytes that the memories of an owner take on disk; a file that a fork shares counts once."""
        sizes: dict[tuple[int, int], int] = {}
        for name in self.names(owner):
            for folder, _, files in os.walk(self._path((owner, name))):
                for file in files:
                    with suppress(OSError):  # deleted meanwhile
                        status = os.lstat(os.path.join(folder, file))
                        sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())

    @property
    def open_bytes(self) -> int:
        """The bytes of the memories that are kept open."""
        with self._mutex:
            return sum(nbytes for _, nbytes in self._kept.values())

    def folder_of(self, what: str) -> Path:
        """The folder for what belongs to the library and is no memory, such as "ratings"; it may not exist yet."""
        return self.root / f".{what}" if self._only is None else self.root.with_name(f"{self.root.name}.{what}")

    # ---- using them

    def open(self, owner: str, name: str) -> Memory:
        """The memory, with what other processes have changed until now. To change it, take a `lease`.

        Raises:
            UnknownMemory: the owner has none of this name, whoever else may have one.
            ForeignMemory: it was made with another model.
            DamagedMemory: a file is not what was written.
        """
        return self._opened(self._known(owner, name))

    @contextmanager
    def lease(self, owner: str, name: str) -> Iterator[Memory]:
        """Within, the memory for writing: no other thread has a lease of it. The same thread may take it again.

        Writers of other processes wait for each change, as everywhere; where the library is shared, their leases for this one.

        Raises:
            UnknownMemory, ForeignMemory, DamagedMemory: as `open` does.
            MemoryLocked: another lease did not end within `lease_seconds`, or that of another process within a second.
        """
        key = self._known(owner, name)
        with self._held(key), self._kept_from_others(key):
            with self._mutex:
                self._leased[key] += 1
            try:
                memory = self._opened(key)
                yield memory
                self._count(key, memory)
            finally:
                with self._mutex:
                    self._leased[key] -= 1
                    self._leased += Counter()  # drops what is 0
                    self._let_go()

    # ---- making and deleting them

    def create(self, owner: str, name: str) -> None:
        """Make an empty memory.

        Raises UsageError if the owner has one of this name, or the name cannot be one.
        """
        key = self._new(owner, name)
        with self._held(key):
            self._refuse_taken(key)
            Memory(self.lm.fingerprint).save(self._path(key))

    def fork(self, owner: str, name: str, new: str) -> None:
        """Make a memory with the contents of another one of the owner, in files that both share where possible.

        Raises:
            UnknownMemory: there is none to fork.
            UsageError: as `create` does.
        """
        memory, key = self.open(owner, name), self._new(owner, new)
        with self._held(key):
            self._refuse_taken(key)
            memory.fork(self._path(key))

    def delete(self, owner: str, name: str) -> None:
        """Delete a memory with all its files for good. Forks and copies of it stay.

        Raises:
            UnknownMemory: as `open` does.
            MemoryLocked: somebody is writing to it.
        """
        key = self._known(owner, name)
        self._refuse_only()
        with self._held(key):
            path = self._path(key)
            gone = path.with_name(f"{_DELETED}{secrets.token_hex(8)}")
            if not self._exists(key):  # deleted while we waited
                raise _unknown(name)
            with self._turn(key).opening, Folder(path).lock(self.lease_seconds), explained("delete", path):
                os.rename(path, gone)
                _flush(path.parent)
                self._drop(key)
            shutil.rmtree(gone, ignore_errors=True)  # what is left is deleted by the next library

    # ----

    def _known(self, owner: str, name: str) -> Key:
        """The key of a memory that exists. Raises UnknownMemory."""
        if not self.holds(owner, name):
            raise _unknown(name)
        return owner, name

    def _new(self, owner: str, name: str) -> Key:
        """The key of a memory that can be made. Raises UsageError."""
        self._refuse_only()
        require_owner(owner)
        require_name(name)
        return owner, name

    def _refuse_only(self) -> None:
        if self._only is not None:
            raise UsageError(
                "This library is one memory, in which no other can be made or deleted: open one by the path of the folder "
                "above instead."
            )

    def _refuse_taken(self, key: Key) -> None:
        path = self._path(key)
        is_interrupted = path.is_dir() and not path.is_symlink() and Folder(path).is_vacant()  # it is made again
        if os.path.lexists(path) and not is_interrupted:
            raise UsageError(f"There is something called {key[1]!r} already: choose another name, or delete it first.")

    def _path(self, key: Key) -> Path:
        return self.root if self._only is not None else self.root.joinpath(*key)

    def _exists(self, key: Key) -> bool:
        """Whether there is the memory. Links lead out of a library, so that what is behind one is not in it."""
        if self._only is not None:
            return key == (LOCAL, self._only) and Folder.is_memory(self.root)
        path = self._path(key)
        return is_name(key[1]) and not (path.is_symlink() or path.parent.is_symlink()) and Folder.is_saved(path)

    def _turn(self, key: Key) -> _Turn:
        with self._mutex:
            turn = self._turns.get(key)
            if turn is None:
                self._turns[key] = turn = _Turn(self._path(key))
            return turn

    @contextmanager
    def _held(self, key: Key) -> Iterator[None]:
        turn = self._turn(key)
        if not turn.writing.acquire(timeout=self.lease_seconds):
            raise MemoryLocked(
                f"{key[1]!r} is being changed by another request, which did not finish within {self.lease_seconds:g} "
                "seconds. Try again when it has."
            )
        try:
            yield
        finally:
            turn.writing.release()

    @contextmanager
    def _kept_from_others(self, key: Key) -> Iterator[None]:
        """Within, no other process has a lease of a memory. The caller holds it in this one."""
        if not self.is_shared:
            yield
            return
        others, path = self._turn(key).others, self._path(key)
        Directory(path).check_regular(LEASE)
        with explained("lock", path / LEASE):
            try:
                others.acquire()  # a second one of the same thread is counted
            except Timeout:
                raise MemoryLocked(f"{key[1]!r} is being changed by another process: try again.") from None
        try:
            yield
        finally:
            others.release()

    def _opened(self, key: Key) -> Memory:
        """The memory, up to date."""
        with self._turn(key).opening:
            with self._mutex:
                memory = self._alive.get(key)
            if memory is not None:
                try:
                    memory.refresh()
                except UsageError:  # another process has deleted it, and perhaps made another one since
                    self._drop(key)
                    memory = None
            if memory is None:
                if not self._exists(key):
                    raise _unknown(key[1])
                memory = Memory.load(self._path(key), expect=self.lm.fingerprint)
            self._keep(key, memory)
            return memory

    def _drop(self, key: Key) -> None:
        with self._mutex:
            self._kept.pop(key, None)
            self._alive.pop(key, None)

    def _keep(self, key: Key, memory: Memory) -> None:
        """Note that a memory was used."""
        nbytes = memory.nbytes + OPEN_BYTES
        with self._mutex:
            self._alive[key] = memory
            self._kept[key] = memory, nbytes
            self._kept.move_to_end(key)
            self._let_go()

    def _count(self, key: Key, memory: Memory) -> None:
        """Note what a lease has added to a memory, unless it was deleted meanwhile."""
        with suppress(MemspanError):  # another process has deleted it: whoever opens it next learns that
            nbytes = memory.nbytes + OPEN_BYTES
            with self._mutex:
                if key in self._kept and self._kept[key][0] is memory:
                    self._kept[key] = memory, nbytes

    def _let_go(self) -> None:
        """Let go of memories beyond the budget, but for those that are leased. The caller holds the mutex."""
        total = sum(size for _, size in self._kept.values())
        for key in [key for key in self._kept if key not in self._leased]:
            if total <= self.ram_bytes:
                break
            total -= self._kept.pop(key)[1]

    def _finish_deleting(self) -> None:
        """Delete what an interrupted `delete` has left."""
        for owner in filter(is_owner, Directory(self.root).names()):
            for name in Directory(self.root / owner).names() if not (self.root / owner).is_symlink() else []:
                if name.startswith(_DELETED):
                    shutil.rmtree(self.root / owner / name, ignore_errors=True)


def _unknown(name: object) -> UnknownMemory:
    shown = name if isinstance(name, str) and len(name) <= 200 else "this name"
    return UnknownMemory(f"There is no memory {shown!r}.")


def _flush(folder: Path) -> None:
    """Make a rename in a folder survive a power cut, where the system opens folders."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
