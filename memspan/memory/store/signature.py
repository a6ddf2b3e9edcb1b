"""Signatures by which the user's own files are told from those that somebody else put into a folder.

A checksum that lies beside a file only shows damage: whoever forges the file writes the checksum too. A signature is an
HMAC with a key of this user, which lies outside every memory, in the user's folder for state (on Linux
`~/.local/state/memspan/key`), and is made when it is first needed. Whoever has it can read the user's home already.
"""

import hashlib
import hmac
import os
import secrets
from functools import cache
from pathlib import Path

from platformdirs import user_state_path

from memspan.errors import MemspanError
from memspan.memory.store.files import Directory

_NAME = "key"
_BYTES = 32


def sign(content: bytes) -> str | None:
    """The signature of `content` in hex; None where no key can be kept, such as without a home."""
    try:
        key = _key(user_state_path("memspan"))
    except MemspanError:
        return None
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def is_own(content: bytes, signature: object) -> bool:
    """Whether this user signed `content`."""
    own = sign(content)
    return (
        own is not None
        and isinstance(signature, str)
        and hmac.compare_digest(own.encode(), signature.encode("utf-8", "replace"))
    )


@cache
def _key(folder: Path) -> bytes:
    """The key in a folder, made if there is none, or one that was cut short. Raises MemspanError."""
    directory = Directory(Path(os.path.realpath(folder)))
    try:
        key = directory.read(_NAME, _BYTES)
    except FileNotFoundError:
        key = b""
    if len(key) != _BYTES:
        directory.make()
        directory.write(_NAME, [secrets.token_bytes(_BYTES)])
        key = directory.read(_NAME, _BYTES)  # that of another process that made one at the same time
    return key
