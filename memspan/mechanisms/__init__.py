"""What is remembered. One file is one mechanism; the only place that knows their names is this registry."""

from memspan.errors import UsageError
from memspan.mechanisms.base import KVMechanism, Mechanism, Recalled
from memspan.mechanisms.sink_window import SinkWindow

MECHANISMS: dict[str, type[KVMechanism] | type[Mechanism]] = {
    "sink_window": SinkWindow,
}

__all__ = ["MECHANISMS", "KVMechanism", "Mechanism", "Recalled", "SinkWindow", "mechanism_class"]


def mechanism_class(name: str) -> type[KVMechanism] | type[Mechanism]:
    """The class registered as `name`. Raises UsageError listing the known names."""
    if name not in MECHANISMS:
        raise UsageError(f"There is no mechanism '{name}'. Known: {', '.join(sorted(MECHANISMS))}.")
    return MECHANISMS[name]
