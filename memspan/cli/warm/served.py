"""A server's model, lent to questions of the command line, which take turns with the requests to the server."""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from memspan.cli.answering import Answering
from memspan.cli.options import Loading
from memspan.cli.warm import model as models
from memspan.cli.warm.model import Declined, Keeper
from memspan.cli.warm.process import Background
from memspan.cli.warm.sockets import Listener
from memspan.errors import MemspanError

if TYPE_CHECKING:
    from types import TracebackType

    import uvicorn

    from memspan.assistant.answerers.base import Answerer
    from memspan.assistant.language_model import LanguageModel
    from memspan.memory import Fingerprint
    from memspan.serve.engine import Engine

Turn = Callable[[], AbstractContextManager[None]]
_POLL = 0.05  # seconds


class Served(Keeper):
    """The model of a server.

    A question gets it if the command alone would load the same one in the same way; it is declined if not. The model is the
    question's from then on until its end.
    """

    def __init__(self, lm: "LanguageModel", loading: Loading, turn: Turn) -> None:
        """
        Args:
            loading: how the model was loaded.
            turn: a context within which nothing else uses the model.
        """
        self._lm, self._loading, self._turn = lm, loading, turn
        self._state = self._on_disk()
        self._taken = ExitStack()

    def load(self, model: str | None, loading: Loading, folder: Path) -> "LanguageModel":
        from memspan.memory.store.folder import Folder

        if not self._is_for(model, loading, Folder(folder).manifest().fingerprint) or self._state != self._on_disk():
            raise Declined
        self._taken.enter_context(self._turn())
        return self._lm

    def answerer(self, answering: Answering) -> "Answerer | None":
        if answering.answer_with is not None and os.path.exists(answering.answer_with):
            raise Declined  # another model
        return answering.answerer()

    def close_rest(self) -> None:
        self._taken.close()
        gc.collect()

    def _is_for(self, model: str | None, loading: Loading, made_with: "Fingerprint") -> bool:
        own, encoder = self._lm.fingerprint, made_with.encoder
        if loading.encoder is None:
            has_encoder = encoder == own.encoder
        else:
            named = None if own.encoder is None else own.encoder.name
            has_encoder = _real(loading.encoder) == _real("none" if named is None else named)
        return (
            has_encoder
            and _real(made_with.name if model is None else model) == _real(own.name)
            and (made_with.dtype if loading.dtype == "auto" else loading.dtype) == own.dtype
            and loading.threads in (None, self._loading.threads)
            and (loading.device, loading.compile) == (self._loading.device, self._loading.compile)
            and loading.trust_remote_code == self._loading.trust_remote_code
            and not (loading.trust_remote_code and model is None)  # which is an error
        )

    def _on_disk(self) -> list[Any]:
        """The files of the model and the encoder, and the calibrations: one that changed counts at the next question."""
        own = self._lm.fingerprint
        names = [own.name, *([] if own.encoder is None else [own.encoder.name])]
        return [[models.files_of(Path(name)) for name in names if os.path.exists(name)], models.calibrations()]


def _real(name: str) -> str:
    return os.path.realpath(name) if os.path.exists(name) else name


class Serving:
    """A server that runs in a thread of its own while this thread answers questions of the command line."""

    def __init__(self, server: "uvicorn.Server", listener: socket.socket, engine: "Engine") -> None:
        self._server, self._engine = server, engine
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="memspan server")
        self._background: Background | None = None

    def __enter__(self) -> Self:
        """Start the server. Raises MemspanError if it ends at once."""
        self._thread.start()
        while not self._server.started:
            self._thread.join(_POLL)
            if not self._thread.is_alive():
                raise MemspanError("The server ended before it took a request: run it with --debug to see why.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        """End the server in order."""
        self._server.should_exit = True
        self._thread.join()

    def answer(self, listener: Listener, keeper: Keeper, about: Mapping[str, Any]) -> None:
        """Answer questions until SIGINT, SIGTERM, a message that says so, or the end of the server. In the main thread."""
        background = self._background = Background(listener, keeper, about)
        gc.collect()
        gc.freeze()  # collecting after each question need not look at the model and the libraries

        def end(number: int, frame: object) -> None:
            if self._server.should_exit:  # the second signal: for those who do not want to wait
                self._server.force_exit = True
            self._server.should_exit = True
            background.end_now()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, end) for number in numbers}
        try:
            background.run()
            self.__exit__(None, None, None)  # a signal meanwhile is the second one
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within, the engine works on nothing else. Raises Declined if it takes no more requests."""
        from memspan.pretrained.threads import release_threads
        from memspan.serve.library import LOCAL

        begun, ended = threading.Event(), threading.Event()

        def hold() -> None:
            release_threads()
            begun.set()
            ended.wait()

        call = asyncio.run_coroutine_threadsafe(self._engine.call(LOCAL, hold), self._loop)
        call.add_done_callback(lambda call: begun.set())
        try:
            begun.wait()
            if call.done():
                raise Declined
            yield
        finally:
            release_threads()
            ended.set()
            call.cancel()

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._server.serve(sockets=[listener]))
        finally:
            self._loop.close()
            if self._background is not None:
                self._background.end_soon()
