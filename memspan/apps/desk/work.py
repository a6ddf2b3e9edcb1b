"""The folder in which a long run keeps what it has found so far: one SQLite file, a transaction for each result.

A result has a stage, a number and a key: a hash of everything that it follows from. A run asks for each result in turn, and
computes only those that are not there under the same key. So a run that was killed and is called again gives what it would
have given at once, and after a change of the text only what depends on it is computed anew.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memspan.errors import MemoryLocked, SystemRefused, UsageError

VERSION = 1  # of the tables
FILE = "work.sqlite"
_SCHEMA = "CREATE TABLE results (stage TEXT, number INTEGER, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (stage, number))"


class Work:
    """The results of a run, as they are found. Only one process at a time may have a folder open."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: made if it does not exist.

        Raises:
            MemoryLocked: another process works in the folder.
            UsageError: the folder holds something else, or is of a newer version.
            SystemRefused: it cannot be written.
        """
        self.folder = folder
        self.computed = self.taken = 0
        path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=0.1, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise SystemRefused(
                f"The folder {folder}, which keeps the work of this run, cannot be made ({error})."
            ) from error
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            self._prepare()
            self._database.execute("COMMIT")
        except BaseException as error:
            self._database.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise MemoryLocked(
                    f"Another process works in {folder}: wait until it ends, or name another output."
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise SystemRefused(f"{path} cannot be written ({error}).") from error
            if isinstance(error, sqlite3.DatabaseError):
                raise UsageError(
                    f"{path} must hold the work of an earlier run, got other contents: delete it."
                ) from error
            raise

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UsageError(
                f"{self.folder / FILE} must be of version {VERSION}, got {version}: it is of a newer memspan; delete it to start anew."
            )
        if version == 0:
            self._database.execute(_SCHEMA)
            self._database.execute(f"PRAGMA user_version = {VERSION}")

    def result(self, stage: str, number: int, inputs: Any, compute: Callable[[], Any]) -> Any:
        """The result of `compute` as JSON has it, from the folder where it was found before for the same inputs.

        Args:
            stage: of the run.
            number: of the result within its stage, from 0.
            inputs: JSON of everything that the result follows from.
        """
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        found = self._database.execute(
            "SELECT value FROM results WHERE stage = ? AND number = ? AND key = ?", (stage, number, key)
        ).fetchone()
        if found is not None:
            self.taken += 1
            return json.loads(found[0])
        value = json.dumps(compute())
        try:
            self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", (stage, number, key, value))
        except sqlite3.OperationalError as error:
            raise SystemRefused(f"{self.folder / FILE} cannot be written ({error}): free some space.") from error
        self.computed += 1
        return json.loads(value)

    def results(self, stage: str, count: int) -> Iterator[Any]:
        """The first `count` results of a stage, in order; all must be there."""
        for number in range(count):
            row = self._database.execute(
                "SELECT value FROM results WHERE stage = ? AND number = ?", (stage, number)
            ).fetchone()
            yield json.loads(row[0])

    def close(self) -> None:
        """Lets other processes work in the folder."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
