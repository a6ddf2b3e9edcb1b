"""Keys: who a request is from. A file or an environment variable holds one entry `OWNER:KEY` a line."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from memspan.errors import UsageError
from memspan.serve.names import require_owner

SHORTEST_KEY = 16  # characters
VARIABLE = "MEMSPAN_SERVER_KEYS"
_LARGEST_FILE = 1024**2


class Keys:
    """The keys of owners; an owner may have several. Only their hashes are kept."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        """`owners` maps each key to its owner."""
        self._owners = {_digest(key): owner for key, owner in owners.items()}

    def __len__(self) -> int:
        return len(self._owners)

    def owner(self, key: str) -> str | None:
        """The owner of a key, None for an unknown one. It takes equally long for every key."""
        digest, found = _digest(key), None
        for known, owner in self._owners.items():
            if hmac.compare_digest(digest, known):
                found = owner
        return found

    @classmethod
    def parse(cls, text: str, origin: str) -> "Keys":
        """The keys in a text; lines that begin with # are comments. Raises UsageError."""
        owners: dict[str, str] = {}
        lines = [line.strip() for line in text.splitlines()]
        for number, line in enumerate(lines, start=1):
            if not line or line.startswith("#"):
                continue
            owner, colon, key = line.partition(":")
            key = key.strip()
            if not colon:
                raise UsageError(f"{origin}, line {number}, must be OWNER:KEY.")
            require_owner(owner)
            if len(key) < SHORTEST_KEY or not key.isascii() or any(character.isspace() for character in key):
                raise UsageError(
                    f"{origin}, line {number}: a key must have at least {SHORTEST_KEY} ASCII characters and no spaces; "
                    '`python -c "import secrets; print(secrets.token_urlsafe(32))"` makes one.'
                )
            if owners.get(key, owner) != owner:
                raise UsageError(f"{origin}, line {number}: two owners must not have the same key.")
            owners[key] = owner
        if not owners:
            raise UsageError(f"{origin} must hold at least one line OWNER:KEY.")
        return cls(owners)

    @classmethod
    def load(cls, path: Path | None) -> "Keys | None":
        """The keys in a file, else in $MEMSPAN_SERVER_KEYS; None where there is neither. Raises UsageError."""
        if path is not None:
            try:
                if path.stat().st_size > _LARGEST_FILE:
                    raise UsageError(f"{path} must have at most {_LARGEST_FILE:,} bytes.")
                return cls.parse(path.read_text("utf-8"), str(path))
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path} cannot be read as a file of keys: {error}.") from error
        text = os.environ.get(VARIABLE)
        return None if text is None else cls.parse(text, f"${VARIABLE}")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
