"""The Model Context Protocol behind /mcp of `memspan serve`: each owner's memories as tools, by the key of a request.

No session of the protocol is kept: each request stands for itself, so that none can use what another key has opened.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context

import anyio.from_thread
from starlette import types

from memspan.assistant.language_model import LanguageModel
from memspan.errors import MemspanError, UsageError
from memspan.memory import Contents, Memory
from memspan.memory.union import LatestUnion
from memspan.models.generate import Sampling
from memspan.serve.mcp import MemoryServer
from memspan.serve.names import require_name
from memspan.serve.quota import has_room
from memspan.serve.replies import ApiError, as_api_error
from memspan.serve.requests import served_names
from memspan.serve.scope import VACANT, Result, Scope
from memspan.serve.service import Service
from memspan.serve.sessions import is_session

PATH = "/mcp"
_owner: ContextVar[str] = ContextVar("owner")  # whose key came with the request that is worked on


class OwnerScope(Scope):
    """The memories of the owner whose key came with a request, but those of sessions. Calls of the model go to the engine."""

    def __init__(self, service: Service, write_to: str | None = None) -> None:
        """
        Args:
            write_to: the name of the memory of each owner that clients may change; None for none.

        Raises UsageError for what cannot be its name.
        """
        if write_to is not None:
            require_writable(write_to)
        self._service, self._write_to = service, write_to
        self._union = LatestUnion(names_one=True)
        self.is_writable = write_to is not None

    @property
    def lm(self) -> LanguageModel:
        """See `Scope.lm`."""
        return self._service.lm

    def contents(self) -> Contents | None:
        """See `Scope.contents`. Sources have the name of their memory, however many there are."""
        library, owner = self._service.library, _owner.get()
        memories = [library.open(owner, name) for name in served_names(library, owner)]
        return self._union.of(memories) if memories else None

    def use(self, function: Callable[[], Result]) -> Result:
        """See `Scope.use`; called in a thread of anyio's. Raises UsageError where no more is taken in."""
        context = copy_context()  # with the owner
        try:
            self._service.rates.require_tokens(_owner.get())
            return anyio.from_thread.run(self._service.engine.call, _owner.get(), lambda: context.run(function))
        except ApiError as error:
            raise UsageError(error.message) from error

    @contextmanager
    def changing(self, *, make: bool) -> Iterator[Memory]:
        """See `Scope.changing`. Raises UsageError also where the owner's memories may take no more bytes."""
        library, owner, name = self._service.library, _owner.get(), self._write_to
        if name is None:
            raise UsageError("Memories can only be read here: the server must be started with --mcp-write.")
        if make and not has_room(self._service, owner):
            raise UsageError("The memories have reached the bytes that they may take: forget some of them.")
        if not library.holds(owner, name):
            if not make:
                raise UsageError(VACANT)
            library.create(owner, name)
        with library.lease(owner, name) as memory:
            yield memory

    def count(self, tokens: int) -> None:
        """See `Scope.count`."""
        self._service.rates.charge(_owner.get(), tokens)

    def shown(self, source: str) -> str:
        """See `Scope.shown`."""
        return f"{self._write_to}/{source}"

    def own(self, pattern: str) -> str:
        """See `Scope.own`."""
        return pattern.removeprefix(f"{self._write_to}/")

    def sentence(self, error: MemspanError) -> str:
        """See `Scope.sentence`. No path of the server is in it."""
        return as_api_error(error, str(self._service.library.root)).message


def require_writable(name: str) -> None:
    """Raises UsageError for what cannot be the name of a memory that clients change."""
    require_name(name)
    if is_session(name):
        raise UsageError(f"{name!r} is the name of a session's memory: choose another one to write to.")


class MountedTools:
    """The app of the route. It answers within `run`."""

    def __init__(self, service: Service, write_to: str | None = None) -> None:
        """As `OwnerScope`."""
        settings = {"sampling": Sampling(service.limits.new_tokens), "answerer": service.answerer}
        server = MemoryServer(OwnerScope(service, write_to), lambda: settings)
        # Hosts and pages are checked by the guard in front of all routes. The app that this returns is not needed.
        server.streamable_http_app(
            stateless_http=True, max_request_body_size=service.limits.body_bytes, host="behind the guard"
        )
        self._manager = server.session_manager

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Within, requests are answered; at its end those under way are given up."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        token = _owner.set(scope["state"]["owner"])
        try:
            await self._manager.handle_request(scope, receive, send)
        finally:
            _owner.reset(token)
