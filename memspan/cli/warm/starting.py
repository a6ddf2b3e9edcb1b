"""Starting processes that hold a model: in the background, in a session of their own, with this Python and this package."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from filelock import Timeout

from memspan.cli.warm import sockets
from memspan.cli.warm.sockets import Connection, Listener

Process = subprocess.Popen[bytes]
# The package comes from where this process has it; -P keeps the working directory out until then.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from memspan.cli.warm.{module} import main; "
    "main(*json.loads(sys.argv[2]))"
)


def start_background(path: Path) -> Connection | None:
    """A connection to a process that listens at `path`, started now unless another one did so just before.

    Returns None if none can be started.
    """
    try:
        with sockets.changes(path):
            connection = sockets.connect(path)
            if connection is not None:
                return connection
            sockets.remove_stale(path)
            listener = Listener.bind(path)
            try:
                start("process", [listener.descriptor, os.fspath(path)], cwd=os.sep, descriptors=[listener.descriptor])
                return sockets.connect(path)
            finally:
                listener.close()
    except (OSError, Timeout):
        return None


def start(
    module: str,
    arguments: Sequence[object],
    *,
    cwd: str | None = None,
    descriptors: Sequence[int] = (),
    output: IO[str] | None = None,
) -> Process:
    """A new process that calls `main(*arguments)` of a module of this folder. Raises OSError.

    Args:
        arguments: JSON values.
        cwd: its working directory; None for that of this process.
        descriptors: of open files that it inherits.
        output: where its standard output and error go; None for nowhere.
    """
    written: int | IO[str] = subprocess.DEVNULL if output is None else output
    search = json.dumps([os.path.abspath(entry) for entry in sys.path])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _START.format(module=module), search, json.dumps(list(arguments))],
        stdin=subprocess.DEVNULL,
        stdout=written,
        stderr=written,
        cwd=cwd,
        pass_fds=list(descriptors),
        start_new_session=True,  # neither Ctrl-C nor the end of the terminal reaches it
    )
