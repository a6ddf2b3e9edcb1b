"""Asking the background process: it is found or started, and what it prints is printed here."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from memspan.cli.answering import Answering
from memspan.cli.options import Loading
from memspan.cli.output import print_info, print_line
from memspan.cli.warm import model as models
from memspan.cli.warm import sockets
from memspan.cli.warm.sockets import SUFFIX, Connection, Listener
from memspan.errors import MemspanError

_STARTED, _RUNNING = 60.0, 10.0  # seconds until a process must have shown a sign of life
# The package comes from where this process has it; -P keeps the working directory out until then.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from memspan.cli.warm.process import main; "
    "main(int(sys.argv[2]), sys.argv[3])"
)


# The parameters are the command line, and what of it chooses the process.
def ask(
    arguments: Sequence[str], seconds: float, folder: Path, loading: Loading, model: str | None, answering: Answering
) -> int | None:
    """The exit status of a command line that the background process has answered; None if it is to be answered here.

    That is so in the background process itself, where the memory cannot be opened, where no process runs and none is to stay,
    and where none can be started.

    Raises:
        UsageError: there are no such sockets, or their folder is not this user's alone.
        MemspanError: the process ended in the middle of an answer.
    """
    if models.is_held():
        return None
    top = sockets.folder()
    try:
        path = top / f"{models.process_key(model, loading, folder, answering.answer_with)}{SUFFIX}"
        request = _request(arguments, seconds)
    except (MemspanError, OSError):  # the usual way says what is wrong
        return None
    for _ in range(2):  # a process may be about to end
        connection, patience = sockets.connect(path), _RUNNING
        if connection is None:
            if seconds == 0:
                return None
            connection, patience = _start(path)
        if connection is None:
            break
        with connection:
            status = relay(connection, request, patience)
        if status is not None:
            return status
    print_info("The background process did not start or did not answer: this question is answered without it.")
    return None


def end_all() -> int:
    """Ends the background processes of this user, once they have answered what they were asked; returns their number."""
    ended = 0
    for path in sorted(sockets.folder().glob(f"*{SUFFIX}")):
        connection = sockets.connect(path)
        if connection is None:
            continue
        with connection, suppress(OSError, ValueError):
            connection.send({"end": True})
            about = connection.receive(_RUNNING)
            if about is not None:
                print_line(
                    f"Ended the background process {about.get('process')}; questions answered: {about.get('answered')}."
                )
                ended += 1
    return ended


def relay(connection: Connection, request: dict[str, Any], patience: float) -> int | None:
    """Send a question and print what comes back; returns its exit status, or None if nothing came.

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
            print_info("waiting for another question that the background process answers; Ctrl-C ends the wait")
        while (message := connection.receive()) is not None:
            if "exit" in message:
                return int(message["exit"])
            for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
                if name in message:
                    has_printed = True
                    _print(str(message[name]), stream)
    except (OSError, ValueError):
        if has_printed:  # the terminal is closed
            raise
        return None
    if has_printed:
        raise MemspanError("The background process ended before the answer was complete: ask again.")
    return None


def _print(text: str, stream: Any) -> None:
    stream.write(text)
    stream.flush()


def _request(arguments: Sequence[str], seconds: float) -> dict[str, Any]:
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


def _start(path: Path) -> tuple[Connection | None, float]:
    """A connection to a process that listens at `path`, started now unless another one did so just before."""
    import subprocess

    try:
        with sockets.changes(path):
            connection = sockets.connect(path)
            if connection is not None:
                return connection, _RUNNING
            sockets.remove_stale(path)
            listener = Listener.bind(path)
            search = json.dumps([os.path.abspath(entry) for entry in sys.path])
            command = [sys.executable, "-P", "-c", _START, search, str(listener.descriptor), str(path)]
            nothing = subprocess.DEVNULL
            try:
                subprocess.Popen(
                    command,
                    stdin=nothing,
                    stdout=nothing,
                    stderr=nothing,
                    cwd="/",
                    pass_fds=[listener.descriptor],
                    start_new_session=True,  # neither Ctrl-C nor the end of the terminal reaches it
                )
                return sockets.connect(path), _STARTED
            finally:
                listener.close()
    except (OSError, Timeout):
        return None, _STARTED
