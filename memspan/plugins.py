"""Extensions that other installed packages register as entry points: found by name, imported only when they are used."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from memspan.errors import UsageError


def plugin_names(group: str) -> list[str]:
    """The names registered under an entry-point `group` such as "memspan.mechanisms", sorted; imports nothing."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any | None:
    """The object that an installed package registered as `name` in `group`; None if there is no such entry.

    Raises UsageError, in one sentence that names the plugin and its package, if two packages register the name or if the
    object fails to import.
    """
    entries = list(entry_points(group=group, name=name))
    if not entries:
        return None
    if len(entries) > 1:
        packages = " and ".join(sorted(_package(entry) for entry in entries))
        raise UsageError(f"The plugin '{name}' of {group} must come from one package, got {packages}: uninstall one.")
    try:
        return entries[0].load()
    except Exception as error:  # a plugin may fail in any way, and none of them is a fault of memspan
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"The plugin '{name}' of {group} must be importable, got {type(error).__name__}: {reason}; "
            f"repair or uninstall {_package(entries[0])}."
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else entry.dist.name
