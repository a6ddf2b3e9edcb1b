"""Values that are computed once for a snapshot of a memory."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from memspan.memory.store.snapshot import Snapshot

Value = TypeVar("Value")


class PerSnapshot(Generic[Value]):
    """What a function returns for a snapshot, computed at its first use and kept as long as the snapshot is referenced.

    Threads that need it at the same time may compute it twice; both get the same.
    """

    def __init__(self, function: Callable[[Snapshot], Value]) -> None:
        self._function = function
        self._values: WeakKeyDictionary[Snapshot, Value] = WeakKeyDictionary()

    def __call__(self, snapshot: Snapshot) -> Value:
        value = self._values.get(snapshot)
        if value is None:
            value = self._values[snapshot] = self._function(snapshot)
        return value
