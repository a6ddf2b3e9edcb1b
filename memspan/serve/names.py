"""The names of owners and memories: which may become names of folders.

A name is used as it is, never as a path: it has no separator, no dots in front and no character that a file system reads in
its own way. Owners are in lower case, because two that differ in case alone would share a folder on some systems.
"""

import re
import unicodedata

from memspan.errors import UsageError

LOCAL = "local"  # the owner where there are no keys
LONGEST_OWNER, LONGEST_NAME, MOST_BYTES = 64, 80, 200
OWNER_RULE = f"from 1 to {LONGEST_OWNER} characters of a-z, 0-9, - and _, the first a letter or digit"
NAME_RULE = f"from 1 to {LONGEST_NAME} letters, digits and . - _ or single spaces within, the first a letter or digit"

_OWNER = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MARKS = frozenset(".-_ ")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:\..*)?", re.IGNORECASE)  # of Windows


def is_owner(owner: object) -> bool:
    """Whether this can be the name of an owner."""
    return (
        isinstance(owner, str)
        and len(owner) <= LONGEST_OWNER
        and _OWNER.fullmatch(owner) is not None
        and _DEVICES.fullmatch(owner) is None
    )


def is_name(name: object) -> bool:
    """Whether this can be the name of a memory."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        return False
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return (
        size <= MOST_BYTES
        and unicodedata.normalize("NFC", name) == name
        and name[0].isalnum()
        and all(_is_letter(character) or character in _MARKS for character in name)
        and not name.endswith((".", " "))
        and "  " not in name
        and _DEVICES.fullmatch(name) is None
    )


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def require_owner(owner: object) -> None:
    """Raises UsageError for what cannot be the name of an owner."""
    if not is_owner(owner):
        raise UsageError(f"The name of an owner must be {OWNER_RULE}, got {owner!r}.")


def require_name(name: object) -> None:
    """Raises UsageError for what cannot be the name of a memory."""
    if not is_name(name):
        raise UsageError(f"The name of a memory must be {NAME_RULE}, got {name!r}.")
