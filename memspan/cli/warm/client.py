"""Asking a process that holds the model: it is found or started, and what it prints is printed here."""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from memspan.cli.answering import Answering
from memspan.cli.options import Loading
from memspan.cli.output import print_info, print_line
from memspan.cli.warm import model as models
from memspan.cli.warm import sockets
from memspan.cli.warm.sockets import SUFFIX, Connection
from memspan.errors import MemspanError, UsageError

_STARTED, _RUNNING = 60.0, 10.0  # seconds until a process must have shown a sign of life


# The parameters are the command line, and what of it chooses the process.
def ask(
    arguments: Sequence[str],
    seconds: float | None,
    folder: Path,
    loading: Loading,
    model: str | None,
    answering: Answering,
) -> int | None:
    """The exit status of a command line that a server or a background process has answered; None if it is to be answered here.

    That is so in such a process itself, where the memory cannot be opened, where no process runs that holds the model and none
    is to be started, and where none can be.

    Args:
        seconds: that a background process is to stay after the answer; None starts none.

    Raises:
        UsageError: a process is to be started, but there are no such sockets, or their folder is not this user's alone.
        MemspanError: the process ended in the middle of an answer.
    """
    if models.is_held() or (seconds is None and not sockets.is_used()):
        return None
    try:
        top = sockets.folder()
    except UsageError:
        if seconds is None:
            return None
        raise
    try:
        request = _request(arguments, seconds)
    except OSError:  # the usual way says what is wrong
        return None
    for server in sockets.servers(key=models.server_key()):
        status = _relayed(sockets.connect(server), request)
        if status is not None:
            return status
    if seconds is None and not sockets.background():
        return None
    try:
        path = top / f"{models.process_key(model, loading, folder, answering.answer_with)}{SUFFIX}"
    except (MemspanError, OSError):
        return None
    return _ask_background(path, request, seconds)


def _ask_background(path: Path, request: dict[str, Any], seconds: float | None) -> int | None:
    for _ in range(2):  # a process may be about to end
        connection, patience = sockets.connect(path), _RUNNING
        if connection is None:
            if not seconds:
                return None
            from memspan.cli.warm.starting import start_background

            connection, patience = start_background(path), _STARTED
        if connection is None:
            break
        status = _relayed(connection, request, patience)
        if status is not None:
            return status
    if seconds is not None:
        print_info("The background process did not start or did not answer: this question is answered without it.")
    return None


def _relayed(connection: Connection | None, request: dict[str, Any], patience: float = _RUNNING) -> int | None:
    if connection is None:
        return None
    with connection:
        return relay(connection, request, patience)


def end_all() -> int:
    """Ends the background processes of this user, once they have answered what they were asked; returns their number."""
    ended = 0
    for path in sockets.background():
        about = end(path)
        if about is not None:
            print_line(
                f"Ended the background process {about.get('process')}; questions answered: {about.get('answered')}."
            )
            ended += 1
    return ended


def end(path: Path, patience: float | None = None) -> dict[str, Any] | None:
    """End the process that listens at `path`, once it has answered what it was asked; returns what it tells of itself.

    Args:
        patience: seconds to wait until it has ended; None does not wait.

    Returns None where no process listens or answers.
    """
    connection = sockets.connect(path)
    if connection is None:
        return None
    with connection, suppress(OSError, ValueError):
        connection.send({"end": True})
        about = connection.receive(_RUNNING)
        if about is not None and patience is not None:
            with suppress(TimeoutError):
                connection.receive(patience)
        return about
    return None


def about(path: Path) -> dict[str, Any] | None:
    """What the process that listens at `path` tells of itself; None where none listens or answers."""
    connection = sockets.connect(path)
    if connection is None:
        return None
    with connection, suppress(OSError, ValueError):
        connection.send({"about": True})
        return connection.receive(_RUNNING)
    return None


def relay(connection: Connection, request: dict[str, Any], patience: float) -> int | None:
    """Send a question and print what comes back; returns its exit status, or None if nothing came or it was declined.

    Ctrl-C closes the connection, at which the process stops answering.

    Args:
        patience: seconds until the process must have shown a sign of life.

    Raises MemspanError if the process ends in the middle of the answer.
    """
    has_printed = False
    try:
        connection.send(request)
        about = connection.receive(patience)
        if about is None:
            return None
        if about.get("waiting") is True:
            print_info("waiting for another question to the process that holds the model; Ctrl-C ends the wait")
        while (message := connection.receive()) is not None:
            if "exit" in message:
                return int(message["exit"])
            if "declined" in message:
                return None
            for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
                if name in message:
                    has_printed = True
                    _print(str(message[name]), stream)
    except (OSError, ValueError):
        if has_printed:  # the terminal is closed
            raise
        return None
    if has_printed:
        raise MemspanError("The process that holds the model ended before the answer was complete: ask again.")
    return None


def _print(text: str, stream: Any) -> None:
    stream.write(text)
    stream.flush()


def _request(arguments: Sequence[str], seconds: float | None) -> dict[str, Any]:
    """The message of a question from here. Raises OSError if the working directory is gone."""
    streams = {"out": sys.stdout, "err": sys.stderr}
    environment = dict(os.environ)
    if any(stream.isatty() for stream in streams.values()):
        size = shutil.get_terminal_size()
        environment |= {"COLUMNS": str(size.columns), "LINES": str(size.lines)}
    return {
        "arguments": list(arguments),
        "seconds": seconds,
        "directory": os.path.realpath(os.getcwd()),
        "environment": environment,
        "terminals": {name: [stream.isatty(), stream.encoding or "utf-8"] for name, stream in streams.items()},
    }
