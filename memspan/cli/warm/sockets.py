"""The sockets of background processes: their folder, who may speak through them, and the messages.

Unix domain sockets in a folder that only this user can enter; both ends refuse a peer of another user, by what the system
says of it. A message is a JSON object of bounded size behind its length.
"""

import hashlib
import json
import os
import socket
import stat
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from platformdirs import user_state_path

from memspan.errors import UsageError

if TYPE_CHECKING:
    from filelock import FileLock

SUFFIX = ".sock"
LARGEST = 1024 * 1024  # bytes of a message
_LENGTH = struct.Struct(">I")
_LONGEST_PATH = 100  # bytes of a socket's path: Linux allows 107 and macOS 103
_WAITING = 16  # connections that the system holds until they are accepted
_LOCAL_PEERCRED, _XUCRED = 1, 76  # macOS: the option, and the bytes of its answer, which begins with version and user


def folder() -> Path:
    """The folder of the sockets, made if there is none.

    Raises UsageError where there are no such sockets, or the folder is not this user's alone.
    """
    if not (hasattr(socket, "AF_UNIX") and (hasattr(socket, "SO_PEERCRED") or sys.platform == "darwin")):
        raise UsageError(
            "--keep-warm and --detach need Unix domain sockets that name the user at their other end, which this system does not "
            "have: leave the option out."
        )
    path = user_state_path("memspan") / "warm"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as error:
        raise UsageError(
            f"--keep-warm and --detach need the folder {path}, which cannot be made: {error.strerror}."
        ) from error
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    if not is_own:
        raise UsageError(f"{path} must be a folder that only you can enter (mode 0700) and no link: delete it.")
    if len(os.fsencode(path)) + 1 + 32 + len(SUFFIX) > _LONGEST_PATH:
        raise UsageError(
            f"The path of a socket must be shorter than {path} allows: set XDG_STATE_HOME to a shorter one."
        )
    return path


def is_used() -> bool:
    """Whether there may be a process to connect to; makes nothing."""
    return any((user_state_path("memspan") / "warm").glob(f"*{SUFFIX}"))


def path_of_server(key: str, root: Path) -> Path:
    """The path of a server's socket: that of a background process has one name, that of a server two with a hyphen.

    Args:
        key: what both ends of a connection must have in common, 16 hex digits.
        root: the folder that is served.
    """
    return folder() / f"{key}-{_name_of(root)}{SUFFIX}"


def servers(*, key: str = "*", root: Path | None = None) -> list[Path]:
    """The paths of the sockets of servers, of all keys and of all folders unless one is named."""
    return sorted(folder().glob(f"{key}-{'*' if root is None else _name_of(root)}{SUFFIX}"))


def background() -> list[Path]:
    """The paths of the sockets of background processes."""
    return sorted(path for path in folder().glob(f"*{SUFFIX}") if "-" not in path.name)


def log_of_server(root: Path) -> Path:
    """The path of the log of a server in the background, in a folder that is made if there is none."""
    logs = folder().with_name("log")
    logs.mkdir(mode=0o700, exist_ok=True)
    return logs / f"serve-{_name_of(root)}.log"


def _name_of(root: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:15]


def changes(path: Path) -> "FileLock":
    """The lock under which sockets in the folder of `path` are made and deleted; it is held for an instant."""
    from filelock import FileLock

    return FileLock(path.with_name("lock"), timeout=10, mode=0o600)


class Connection:
    """One end of a connection. Several threads may send."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._sending = connected, threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises ValueError if it is too large, OSError if the other end has gone."""
        content = json.dumps(message).encode("ascii")
        if len(content) > LARGEST:
            raise ValueError(f"a message must have at most {LARGEST:,} bytes, got {len(content):,}")
        with self._sending:
            self._socket.sendall(_LENGTH.pack(len(content)) + content)

    def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The next message, waiting `seconds` for each part of it; None if the other end has gone.

        Raises ValueError for anything but a message, TimeoutError.
        """
        self._socket.settimeout(seconds)
        try:
            head = self._read(_LENGTH.size)
            if head is None:
                return None
            (length,) = _LENGTH.unpack(head)
            if length > LARGEST:
                raise ValueError(f"a message must have at most {LARGEST:,} bytes, got {length:,}")
            content = self._read(length)
            if content is None:
                return None
            message = json.loads(content)
        except RecursionError as error:
            raise ValueError("a message must not be nested so deeply") from error
        except ConnectionError:
            return None
        finally:
            with suppress(OSError):
                self._socket.settimeout(None)
        if not isinstance(message, dict):
            raise ValueError("a message must be an object")
        return message

    def _read(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(min(count - len(parts), 65536))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """End the connection; a thread that waits for a message gets None."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def pair() -> tuple[Connection, Connection]:
    """Both ends of a connection within this process."""
    one_end, other_end = socket.socketpair()
    return Connection(one_end), Connection(other_end)


class Listener:
    """A socket that others of this user connect to."""

    def __init__(self, listening: socket.socket, path: Path) -> None:
        self._socket, self.path = listening, path
        self._identity = _identity(path)

    @classmethod
    def bind(cls, path: Path) -> Self:
        """Listen at a path where there is nothing."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(os.fspath(path))
            path.chmod(0o600)
            listening.listen(_WAITING)
        except OSError:
            listening.close()
            raise
        return cls(listening, path)

    @classmethod
    def inherit(cls, descriptor: int, path: Path) -> Self:
        """The listening socket with this descriptor, bound by the process that started this one."""
        return cls(socket.socket(fileno=descriptor), path)

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    def accept(self) -> Connection:
        """The next connection of this user; others are closed. Raises OSError when the socket is closed."""
        while True:
            accepted, _ = self._socket.accept()
            if _is_own(accepted):
                return Connection(accepted)
            accepted.close()

    def close(self) -> None:
        """Close this process's hold on the socket; its path stays."""
        self._socket.close()

    def end(self) -> None:
        """Listen no more: delete the path, unless it has become that of another socket, and close."""
        with suppress(OSError, TimeoutError), changes(self.path):
            if self._identity == _identity(self.path):
                self.path.unlink()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread in `accept`
        self._socket.close()


def connect(path: Path) -> Connection | None:
    """A connection to whoever listens at a path; None if nobody of this user does."""
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connecting.settimeout(10)
    try:
        if path.is_symlink():
            raise ConnectionRefusedError
        connecting.connect(os.fspath(path))
        if not _is_own(connecting):
            raise ConnectionRefusedError
    except OSError:
        connecting.close()
        return None
    connecting.settimeout(None)
    return Connection(connecting)


def remove_stale(path: Path) -> None:
    """Delete the sockets beside `path` that nobody listens to. The caller holds `changes`."""
    for other in path.parent.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            if other.is_symlink() or _is_stale(other):
                other.unlink()


def _is_stale(path: Path) -> bool:
    with _trying() as connecting:
        try:
            connecting.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except OSError:  # busy
            return False
    return False


@contextmanager
def _trying() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connecting:
        connecting.setblocking(False)
        yield connecting


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_own(connected: socket.socket) -> bool:
    """Whether the process at the other end is of this user, as the system says."""
    try:
        return _user(connected) == os.geteuid()
    except (OSError, struct.error):
        return False


def _user(connected: socket.socket) -> int | None:
    if hasattr(socket, "SO_PEERCRED"):
        credentials = struct.Struct("iII")  # process, user, group
        answer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
        return int(credentials.unpack(answer)[1])
    version, user = struct.unpack_from("=II", connected.getsockopt(0, _LOCAL_PEERCRED, _XUCRED))
    return int(user) if version == 0 else None
