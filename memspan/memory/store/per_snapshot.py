"""Values that are computed once for a snapshot of a memory, or for a shard of it."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from memspan.memory.store.shard import Shard
from memspan.memory.store.snapshot import Snapshot

Of = TypeVar("Of")
Value = TypeVar("Value")


class _Once(Generic[Of, Value]):
    """What a function returns for an object, computed at its first use and kept as long as the object is referenced.

    Threads that need it at the same time may compute it twice; both get the same.
    """

    def __init__(self, function: Callable[[Of], Value]) -> None:
        self._function = function
        self._values: WeakKeyDictionary[Of, Value] = WeakKeyDictionary()

    def __call__(self, of: Of) -> Value:
        value = self._values.get(of)
        if value is None:
            value = self._values[of] = self._function(of)
        return value


class PerSnapshot(_Once[Snapshot, Value]):
    """A value for each snapshot: computed anew after every change of the memory."""


class PerShard(_Once[Shard, Value]):
    """A value for each shard: after a change, computed for those alone that are new."""
