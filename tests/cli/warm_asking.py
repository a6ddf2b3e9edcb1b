"""Whoever asks a process that holds a model, in a thread of the tests."""

import os
from pathlib import Path
from typing import Any

from memspan.cli.warm import sockets
from tests.commands import Outcome

HELD = "Where does the zinc trunk stand under the stairs of the boathouse?"
FOREIGN = "Who won the football championship of 1998 in Paris?"
SHORT = ("--max-new-tokens", "4")


class Asking:
    """Whoever asks a process in this process, which runs in the main thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def request(self, *arguments: str, **changes: Any) -> dict[str, Any]:
        terminals = {"out": [False, "utf-8"], "err": [False, "utf-8"]}
        own = {"directory": os.getcwd(), "environment": dict(os.environ), "seconds": 60, "terminals": terminals}
        return {"arguments": list(arguments), **own, **changes}

    def connect(self) -> sockets.Connection:
        connection = sockets.connect(self.path)
        assert connection is not None
        return connection

    def ask(self, *arguments: str, **changes: Any) -> Outcome:
        """The outcome of `memspan ask`."""
        outcome = self.run("ask", *arguments, **changes)
        assert outcome is not None
        return outcome

    def run(self, *arguments: str, **changes: Any) -> Outcome | None:
        """The outcome of a command; None if it was declined."""
        with self.connect() as connection:
            connection.send(self.request(*arguments, **changes))
            about = connection.receive(30)
            assert about is not None
            assert about["process"] == os.getpid()
            texts = {"out": "", "err": ""}
            while (message := connection.receive(30)) is not None:
                if "declined" in message:
                    assert texts == {"out": "", "err": ""}
                    return None
                if "exit" in message:
                    return Outcome(message["exit"], texts["out"], texts["err"])
                for name, text in message.items():
                    texts[name] += text
        raise AssertionError("the process ended")

    def end(self) -> dict[str, Any]:
        with self.connect() as connection:
            connection.send({"end": True})
            return connection.receive(30) or {}
