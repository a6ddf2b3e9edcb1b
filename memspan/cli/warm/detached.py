"""A server in the background: started, found, and ended by commands."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memspan.cli.output import print_info, print_line
from memspan.cli.warm import client, sockets
from memspan.cli.warm.sockets import Listener
from memspan.cli.warm.starting import Process, start
from memspan.errors import UsageError

_POLL = 0.05  # seconds
_ENDED = 60.0  # seconds that a server may take to end; requests that are under way have ten

_log: Path | None = None


def main(arguments: Sequence[str], log: str) -> None:
    """Run a command as the server in the background whose log has this path."""
    global _log
    _log = Path(log)
    from memspan.cli import main as run

    run(list(arguments))


def log() -> Path | None:
    """The log of this process if it is a server in the background."""
    return _log


def bind(root: Path, key: str) -> Listener | None:
    """The socket of this server beside its port; None where there is none, or another server of the same folder has it.

    Args:
        key: `server_key()` before libraries were imported, which set variables of the environment.

    Raises UsageError in the background, where the server could not be found without it.
    """
    from filelock import Timeout

    listener = None
    try:
        path = sockets.path_of_server(key, root)
        with sockets.changes(path):
            if sockets.connect(path) is None:
                sockets.remove_stale(path)
                listener = Listener.bind(path)
    except (UsageError, OSError, Timeout):
        if _log is not None:
            raise
    if listener is None and _log is not None:
        raise UsageError(f"Another server of {root} runs already: memspan serve {root} --stop ends it.")
    return listener


def start_server(arguments: Sequence[str], root: Path) -> int:
    """Start a server of a folder in the background, unless one runs, and print how to reach and to end it.

    Args:
        arguments: the command line of the server.

    Returns the exit status of the command. Raises UsageError where there are no sockets to find it by.
    """
    running = _running(root)
    if running is not None:
        _print_server(running, "It runs already: ")
        return 0
    path = sockets.log_of_server(root)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as log, path.open("rb") as shown:
        process = start("detached", [list(arguments), str(path)], output=log)
        try:
            running = _ready(process, root, shown)
        except KeyboardInterrupt:
            process.terminate()
            raise
    if running is None:
        return process.wait() or 1
    _print_server(running)
    return 0


def stop_servers(root: Path | None) -> None:
    """End the server of a folder, or all servers in the background, when what was asked of them has been answered."""
    ended = 0
    for path in sockets.servers(root=root):
        about = client.about(path)
        if about is None or (root is None and about.get("log") is None):
            continue
        client.end(path, _ENDED)
        print_line(f"Ended the server at {about.get('url')}/v1, process {about.get('process')}.")
        ended += 1
    if ended == 0:
        where = "in the background" if root is None else f"of {root}"
        print_info(f"There is no server {where}.")


def _running(root: Path) -> Mapping[str, Any] | None:
    return next(filter(None, map(client.about, sockets.servers(root=root))), None)


def _ready(process: Process, root: Path, log: Any) -> Mapping[str, Any] | None:
    """What a server that was started tells of itself when it is ready; None if it ended. What it logs meanwhile is shown."""
    while True:
        has_ended = process.poll() is not None
        running = None if has_ended else _running(root)
        if text := log.read().decode("utf-8", "replace").rstrip("\n"):
            print_info(text)
        if running is not None or has_ended:
            return running
        time.sleep(_POLL)


def _print_server(about: Mapping[str, Any], before: str = "") -> None:
    url, root = about.get("url"), about.get("root")
    print_line(f"{before}{url}/v1 serves {root}, {about.get('owners')}, as process {about.get('process')}")
    print_line(f"{url}/ui is the page for people")
    if about.get("log") is None:
        print_line("Ctrl-C in its terminal ends it")
    else:
        print_line(f"memspan serve {root} --stop ends it; its log is {about.get('log')}")
