"""Vectors of texts on disk, so that each text is read by a model once: in the cache folder, by a hash of the text."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from memspan.errors import MemspanError
from memspan.pretrained.features.base import Floats, Progress
from memspan.pretrained.model_cache import cache_folder

FOLDER = "features"  # in the cache folder; it may be deleted at any time
AT_ONCE = 256  # texts that are computed between two writings: what an interrupted call has computed is kept
_IN_A_QUERY = 500


class Stored:
    """The vectors of texts by one kind of features, float16 numbers. No text is written, only its hash."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: says everything that a vector depends on beside the text.
        """
        self.path = cache_folder() / FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.sqlite"

    def vectors(
        self, texts: Sequence[str], compute: Callable[[Sequence[str]], Floats], progress: Progress | None = None
    ) -> Floats:
        """The vectors of texts, float32 (N, D); those that are not stored are computed, and stored."""
        names = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as database:
                database.execute("CREATE TABLE IF NOT EXISTS vectors (name BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                found = self._read(database, sorted(set(names)))
                new = {name: text for name, text in zip(names, texts, strict=True) if name not in found}
                # Texts of about the same length together; the longest last, so that the time left is not promised too short.
                missing = sorted(new.items(), key=lambda item: len(item[1]))
                for first in range(0, len(missing), AT_ONCE):
                    part = missing[first : first + AT_ONCE]
                    vectors = compute([text for _, text in part]).astype(np.float16)
                    rows = [(name, vector.tobytes()) for (name, _), vector in zip(part, vectors, strict=True)]
                    with database:
                        database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                    found |= dict(rows)
                    if progress is not None:
                        progress(len(texts) - len(missing) + first + len(part), len(texts))
        except (sqlite3.Error, OSError) as error:
            raise MemspanError(f"Features cannot be stored in {self.path}: {error}.") from error
        return np.stack([np.frombuffer(found[name], np.float16) for name in names]).astype(np.float32)

    @staticmethod
    def _read(database: sqlite3.Connection, names: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for first in range(0, len(names), _IN_A_QUERY):
            part = names[first : first + _IN_A_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT name, vector FROM vectors WHERE name IN ({marks})"  # nosec B608: only marks
            found |= dict(database.execute(query, part).fetchall())
        return found
