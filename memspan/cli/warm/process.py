"""A process that answers the questions which arrive at its socket, one after another.

A question is a command line of `memspan ask` or `memspan search` with the folder, the environment and the terminal of the process that asks. It
is run by the same code as ever, in that folder and that environment, and what it prints goes back as it is printed. Only the
model is kept between questions; the memory is opened for each.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TextIO, cast

from memspan.cli.commands import INTERRUPTED
from memspan.cli.warm import model
from memspan.cli.warm.model import Held, Keeper
from memspan.cli.warm.sockets import Connection, Listener

_FIRST = 60.0  # seconds to wait for the question for which the process was started
_REQUEST = 10.0  # seconds in which a request must arrive
_MOST_WAITING = 8  # questions
_MOST_ATTENDED = 32  # connections
COMMANDS = ("ask", "search")  # that are questions
_LEFT = getattr(signal, "SIGUSR1", signal.SIGINT)  # SIGINT may mean that the process is to end
_PART = 64 * 1024  # characters of a message; at most six bytes each in JSON, twelve outside of the basic plane
_GOES_ON = (0, 2, 3, 4, INTERRUPTED)  # exit statuses after which the model is as it was; after others the process ends


def main(descriptor: int, path: str) -> None:
    """Answer the questions that arrive at the listening socket with this descriptor, until none has come for a while."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have ignored
    Background(Listener.inherit(descriptor, Path(path)), Held()).run()


@dataclass
class Question:
    """A command line, and where it was given.

    Attributes:
        arguments: of `memspan`.
        directory: the working directory.
        environment: all variables.
        terminals: for "out" and "err", whether the stream is a terminal, and its encoding.
        seconds: to stay after the answer; None for as long as before.
        is_silent: what is printed from now on does not go back.
    """

    connection: Connection
    arguments: list[str]
    directory: str
    environment: dict[str, str]
    terminals: dict[str, tuple[bool, str]]
    seconds: float | None
    is_silent: bool = False
    _is_running: bool = False
    _has_left: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def parse(cls, connection: Connection, message: Mapping[str, Any]) -> Self:
        """The question in a message. Raises ValueError for any other message."""
        arguments, environment = message.get("arguments"), message.get("environment")
        directory, seconds, terminals = message.get("directory"), message.get("seconds"), message.get("terminals")
        is_right = (
            isinstance(arguments, list)
            and all(isinstance(argument, str) for argument in arguments)
            and arguments[arguments[:1] == ["--debug"] :][:1] in [[command] for command in COMMANDS]
            and isinstance(environment, dict)
            and all(isinstance(value, str) for value in environment.values())
            and isinstance(directory, str)
            and isinstance(seconds, int | float | None)
            and isinstance(terminals, dict)
        )
        if not is_right:
            raise ValueError("this is no question")
        streams = {name: _terminal(cast(Mapping[str, Any], terminals).get(name)) for name in ("out", "err")}
        stays = None if seconds is None else float(seconds)
        return cls(connection, arguments, directory, environment, streams, stays)  # type: ignore[arg-type]

    def start(self) -> bool:
        """Whether the question is still waited for; from now on it is interrupted when it is not."""
        with self._lock:
            self._is_running = not self._has_left
            return self._is_running

    def finish(self) -> None:
        """The answer is complete, or was interrupted."""
        with self._lock:
            self._is_running = False

    def leave(self) -> None:
        """Whoever asked has gone: what Ctrl-C does to a command in the terminal happens to the question."""
        with self._lock:
            self._has_left = True
            if self._is_running:
                signal.pthread_kill(cast(int, threading.main_thread().ident), _LEFT)


class Background:
    """A process that answers questions in its main thread; other threads wait for them, and for those who ask to leave."""

    def __init__(self, listener: Listener, keeper: Keeper, about: Mapping[str, Any] | None = None) -> None:
        """
        Args:
            keeper: of what stays from one question to the next.
            about: what a server tells of itself. A server ends only when it is told to.
        """
        self._listener, self._keeper, self._about = listener, keeper, about
        self._questions: SimpleQueue[Question | None] = SimpleQueue()  # None ends the process
        self._attended = threading.BoundedSemaphore(_MOST_ATTENDED)
        self._answered, self._is_ending = 0, False
        self._current: Question | None = None
        model.hold(keeper)

    def run(self) -> None:
        """Answer until no question has come for as long as the last one said, or the process is to end."""
        threading.Thread(target=self._accept, daemon=True).start()
        before = signal.signal(_LEFT, signal.default_int_handler)
        seconds = _FIRST if self._about is None else None
        try:
            while True:
                try:
                    question = self._questions.get(timeout=seconds)
                except Empty:
                    return
                if question is None or self._is_ending:
                    return
                try:
                    status = self._answer(question)
                except KeyboardInterrupt:  # arrived when the command had just ended
                    status = INTERRUPTED
                self._keeper.close_rest()
                if self._about is None:
                    seconds = seconds if question.seconds is None else question.seconds
                    if status not in _GOES_ON:
                        return
        finally:
            signal.signal(_LEFT, before)
            self._listener.end()
            model.release()

    def end_now(self) -> None:
        """End, without what still waits; the question that is being answered is interrupted. For a handler of signals."""
        self._is_ending = True
        self._questions.put(None)
        if self._current is not None:
            self._current.is_silent = (
                True  # whoever asked hears of the end by its connection, and goes on without the process
            )
            raise KeyboardInterrupt

    def end_soon(self) -> None:
        """End when what waits has been answered."""
        self._questions.put(None)

    def _answer(self, question: Question) -> int:
        """Run a question; returns its exit status."""
        from memspan.cli import run

        if not question.start():
            return INTERRUPTED
        self._current = question
        try:
            try:
                with _in_place_of(question):
                    status = run(question.arguments)
                end = {"exit": status}
            except (model.Declined, OSError):  # or the folder of whoever asks cannot be entered
                status, end = 0, {"declined": True}
            question.finish()
            self._answered += "exit" in end
            if not question.is_silent:
                with suppress(OSError):
                    question.connection.send(end)
        finally:
            self._current = None
            question.finish()
            question.connection.close()
        return status

    def _accept(self) -> None:
        with suppress(OSError):  # the socket was closed
            while True:
                connection = self._listener.accept()
                if self._attended.acquire(blocking=False):
                    threading.Thread(target=self._attend, args=(connection,), daemon=True).start()
                else:
                    connection.close()

    def _attend(self, connection: Connection) -> None:
        """Receive a request, put it into the queue, and wait until the other end leaves."""
        with ExitStack() as stack:
            stack.callback(self._attended.release)
            stack.enter_context(connection)
            stack.enter_context(suppress(ValueError, OSError))
            message = connection.receive(_REQUEST)
            if message is None:
                return
            is_waiting = self._current is not None or not self._questions.empty()
            about = {"process": os.getpid(), "answered": self._answered, "waiting": is_waiting, **(self._about or {})}
            if message.get("about") is True:
                connection.send(about)
                return
            if message.get("end") is True:
                self.end_soon()
                connection.send(about)
                connection.receive()  # whoever wants it to end may wait until it has
                return
            question = Question.parse(connection, message)
            if self._questions.qsize() >= _MOST_WAITING:
                return
            connection.send(about)
            self._questions.put(question)
            with suppress(ValueError, OSError):
                connection.receive()
            question.leave()


@contextmanager
def _in_place_of(question: Question) -> Iterator[None]:
    """Within, this process has the working directory, the environment and the terminal of the one that asks."""
    environment = dict(os.environ)
    try:
        here = os.getcwd()
    except FileNotFoundError:  # deleted since this process was started
        here = os.path.abspath(os.sep)
    with ExitStack() as stack:
        stack.callback(os.chdir, here)
        stack.callback(_set_environment, environment)
        os.chdir(question.directory)
        _set_environment(question.environment)
        stack.enter_context(redirect_stdout(_stream(question, "out")))
        stack.enter_context(redirect_stderr(_stream(question, "err")))
        yield


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)


def _terminal(message: Any) -> tuple[bool, str]:
    if not isinstance(message, list) or [type(value) for value in message] != [bool, str]:
        raise ValueError("this is no terminal")
    return message[0], message[1]


def _stream(question: Question, name: str) -> TextIO:
    return cast(TextIO, Stream(question, name, *question.terminals[name]))


class Stream(io.TextIOBase):
    """Standard output or standard error of the process that asks."""

    def __init__(self, question: Question, name: str, is_terminal: bool, encoding: str) -> None:
        self._question, self._name, self._is_terminal, self._encoding = question, name, is_terminal, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with suppress(OSError):  # whoever asked has gone: the question is about to be interrupted
            for start in range(0, 0 if self._question.is_silent else len(text), _PART):
                self._question.connection.send({self._name: text[start : start + _PART]})
        return len(text)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
