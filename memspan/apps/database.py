"""A program's own SQLite file: one writer at a time, each change one transaction.

What was confirmed is kept whatever happens afterwards, and an interrupted change leaves nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from memspan.errors import DamagedFolder, MemoryLocked, MemspanError, UsageError

WAIT = 10.0  # seconds that a writer waits for another


class Database:
    """The file. It may be open in several processes.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection

    @classmethod
    def connected(cls, path: Path, what: str, tables: str, version: int) -> Self:
        """The file at `path`, which is made where it does not exist.

        Args:
            what: the file is, as the end of the sentence "it cannot be opened as ...".
            tables: SQL that makes them in an empty file.
            version: of the tables.

        Raises UsageError for a file of a newer version, DamagedFolder for what is no such file.
        """
        try:
            connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
            database = cls(path, connection)
            if database._is_new():
                with database.writing():
                    if database._is_new():  # another process may have been faster
                        for statement in filter(str.strip, tables.split(";")):
                            connection.execute(statement)
                        connection.execute(f"PRAGMA user_version = {version}")
            found = database._version()
        except sqlite3.Error as error:
            raise DamagedFolder(f"{path} cannot be opened as {what}: {error}.") from error
        if found == 0:
            raise DamagedFolder(f"{path} cannot be opened as {what}: it holds something else.")
        if found > version:
            raise UsageError(f"{path} is of version {found}, made by a newer memspan; this one reads {version}.")
        return database

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _is_new(self) -> bool:
        return self._version() == 0 and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all or nothing of what is done within. Raises MemoryLocked or MemspanError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise MemoryLocked(
                    f"Another process writes to {self.path} and did not finish within {WAIT:.0f} s."
                ) from error
            raise MemspanError(f"{self.path} cannot be written: {error}.") from error

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query. Raises DamagedFolder for a file that cannot be read."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise DamagedFolder(f"{self.path} cannot be read: {error}.") from error
