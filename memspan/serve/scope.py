"""What a client may see: memories, as one, and their model; and of them the one that it may change, if any.

`FolderScope` is what a command line names. Unlike a `Library`, which needs the model, it shows sources and texts before the model
is loaded: a program that speaks to it starts at once.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from memspan.errors import MemspanError, UsageError
from memspan.memory import Contents, Memory, load_memory
from memspan.memory.store.folder import Folder
from memspan.memory.union import LatestUnion
from memspan.pretrained.threads import release_threads
from memspan.serve.names import LOCAL, require_name

if TYPE_CHECKING:
    from memspan.assistant.language_model import LanguageModel


VACANT = "The memory is empty: there is nothing to forget."

Result = TypeVar("Result")


class Scope(ABC):
    """The memories that a client may see. Several are shown as one, in which "notes.txt" of the memory "a" is "a/notes.txt".

    Attributes:
        is_writable: whether clients may change a memory, which is made by the first text if it does not exist.
    """

    is_writable: bool

    @property
    @abstractmethod
    def lm(self) -> "LanguageModel":
        """The model of the memories; called within `use`."""

    @abstractmethod
    def contents(self) -> Contents | None:
        """The memories as they are on disk now; None while there is none.

        Raises:
            DamagedMemory: a file is not what was written.
            ForeignMemory: several memories were not made with one model.
        """

    @abstractmethod
    def use(self, function: Callable[[], Result]) -> Result:
        """The result of a function that uses the model or changes a memory: such functions take turns."""

    @abstractmethod
    def changing(self, *, make: bool) -> AbstractContextManager[Memory]:
        """Within, the memory to change; called within `use`. Raises as `contents` does.

        Args:
            make: whether to make one that does not exist.

        Raises UsageError if clients may not change any, and if there is none and none is to be made.
        """

    @abstractmethod
    def count(self, tokens: int) -> None:
        """Note the tokens that an answer has used."""

    def shown(self, source: str) -> str:
        """How a source of the memory that is changed is called in `contents`."""
        return source

    def own(self, pattern: str) -> str:
        """The pattern for sources of the memory that is changed where clients write `pattern` for those of `contents`."""
        return pattern

    def sentence(self, error: MemspanError) -> str:
        """What clients are told of an error."""
        return str(error)


class FolderScope(Scope):
    """The memory in a folder, or those in several.

    Attributes:
        folders: of the memories.
        turn: held while the model is used.
    """

    def __init__(
        self, folders: Sequence[Path], load: Callable[[], "LanguageModel"], *, is_writable: bool = False
    ) -> None:
        """
        Args:
            load: returns the model of the memories. It is called once, when the model is needed.

        Raises:
            UsageError: there is no memory, and none can be made; or several, of which none can be changed.
        """
        if is_writable and len(folders) != 1:
            raise UsageError("Only a single memory can be changed: name one of the library by --memory.")
        self.folders, self.is_writable = tuple(folders), is_writable
        self.turn = threading.RLock()
        self._load = load
        self._union = LatestUnion()
        self._memories: dict[Path, Memory] = {}
        for folder in folders:
            if not (is_writable and Folder(folder).is_vacant()):
                Folder(folder).manifest()

    @cached_property
    def _loaded(self) -> "LanguageModel":
        return self._load()

    @property
    def lm(self) -> "LanguageModel":
        """See `Scope.lm`. The first call loads it."""
        with self.turn:
            return self._loaded

    def contents(self) -> Contents | None:
        """See `Scope.contents`."""
        with self.turn:
            if self._is_vacant():
                return None
            memories = [self._opened(folder) for folder in self.folders]
            return memories[0] if len(memories) == 1 else self._union.of(memories)

    def use(self, function: Callable[[], Result]) -> Result:
        """See `Scope.use`."""
        with self.turn:
            try:
                return function()
            finally:
                release_threads()

    @contextmanager
    def changing(self, *, make: bool) -> Iterator[Memory]:
        """See `Scope.changing`."""
        if not self.is_writable:
            raise UsageError("This memory can only be read: start the server with --write.")
        (folder,) = self.folders
        if self._is_vacant():
            if not make:
                raise UsageError(VACANT)
            self._memories[folder] = self.lm.new_memory(folder)
        yield self._opened(folder)

    def count(self, tokens: int) -> None:
        """See `Scope.count`. Here there is no limit."""

    def _is_vacant(self) -> bool:
        return self.is_writable and not self._memories and Folder(self.folders[0]).is_vacant()

    def _opened(self, folder: Path) -> Memory:
        """The memory in a folder, with what other processes have changed until now."""
        memory = self._memories.get(folder)
        if memory is None:
            memory = self._memories[folder] = load_memory(folder)
            return memory
        try:
            memory.refresh()
        except MemspanError:
            del self._memories[folder]  # opened anew by the next call, whatever is there then
            raise
        return memory


def memory_folders(folder: Path, name: str | None = None, *, is_writable: bool = False) -> list[Path]:
    """The folders of the memories that a command line means by a folder.

    Args:
        folder: of a memory; or the root of a library, of which it means the memories without an owner.
        name: of a memory of the library; None for all of them.
        is_writable: whether there may be no memory yet.

    Raises UsageError if there is no memory, or none of that name.
    """
    if Folder.is_memory(folder):
        if name is not None:
            raise UsageError(f"{folder} is one memory, not a library: leave --memory out.")
        return [folder]
    root = folder / LOCAL
    names = sorted(entry.name for entry in os.scandir(root) if Folder.is_memory(entry)) if root.is_dir() else []
    if name is None:
        return [root / each for each in names] or [folder]
    require_name(name)
    if name not in names and not is_writable:
        known = f"there are {', '.join(names)}." if names else f"{folder} is no library."
        raise UsageError(f"There is no memory {name!r}; {known}")
    return [root / name]
