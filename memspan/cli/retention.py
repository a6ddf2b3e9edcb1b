"""The rules of a memory on how long sources are kept, as the commands that change a memory apply them."""

from typing import TYPE_CHECKING

from memspan.cli.auditing import audited
from memspan.cli.output import print_info

if TYPE_CHECKING:
    from memspan.memory import Memory


def forget_what_is_too_old(memory: "Memory") -> list[str]:
    """Forget the sources that are older than the rules of the memory let them be, and say so; their names."""
    from memspan.memory.retention import forget_expired, rules_of
    from memspan.memory.store.folder import Folder

    if memory.path is None:
        return []
    rules = rules_of(Folder(memory.path))
    if not rules:
        return []
    with audited("retain", memory.path) as event:
        names = event.sources = forget_expired(memory, rules)
    for name in names:
        print_info(f"forgot {name}: older than this memory keeps it")
    return names
