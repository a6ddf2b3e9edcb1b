"""What is remembered. One file is one mechanism; the only place that knows their names is this registry."""

from memspan.errors import UsageError
from memspan.mechanisms.base import KVMechanism, Mechanism, Recalled
from memspan.mechanisms.sink_window import SinkWindow

MECHANISMS: dict[str, type[KVMechanism] | type[Mechanism]] = {
    "sink_window": SinkWindow,
}

DEFAULT = "sink_window"

__all__ = ["DEFAULT", "MECHANISMS", "KVMechanism", "Mechanism", "Recalled", "keep_everything", "mechanism_class"]


def mechanism_class(name: str) -> type[KVMechanism] | type[Mechanism]:
    """The class registered as `name`. Raises UsageError listing the known names."""
    if name not in MECHANISMS:
        raise UsageError(f"There is no mechanism '{name}'. Known: {', '.join(sorted(MECHANISMS))}.")
    return MECHANISMS[name]


def keep_everything() -> KVMechanism:
    """A mechanism that computes what the plain model computes: every token is seen by all that follow it."""
    return SinkWindow(sinks=0, window=None)
