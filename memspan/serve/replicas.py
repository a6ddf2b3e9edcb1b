"""Replicas of a server in processes of Ray Serve, on this machine or on a cluster, and the app in front of them.

The app in front has the guard: it hands a request with its owner on to a replica, and the reply back, part by part. Requests
that belong together go to the same replica as long as it lives (`group_of`). Where that fails, as when one is started anew, a
lease of the library keeps the other replicas out. A replica that dies is replaced by Ray; what it has acknowledged is in the
files, and its requests get the status 503, or end in the middle of their reply.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memspan.assistant.ray_encoders import ModelToLoad
from memspan.errors import MemspanError
from memspan.pretrained.ray_cluster import cpus_of_each, first_line, has_gpus, ray_started, signals_kept
from memspan.serve.app import unguarded_app
from memspan.serve.groups import GROUPS, group_of
from memspan.serve.metrics import Metrics
from memspan.serve.rates import Rates
from memspan.serve.replies import ApiError
from memspan.serve.service import Limits
from memspan.serve.settings import Settings
from memspan.serve.status import METRICS, metrics_of

AT_ONCE = 1024  # requests that a replica has at once; its engine refuses what is too much for the model
STARTS = 2  # of a replica that fails before it is ready
_SENT = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers"),
    *("client", "server", "state"),
)  # of a scope

log = logging.getLogger(__name__)


class Parts(Protocol):
    """The messages of ASGI that a reply consists of, as they come."""

    def __aiter__(self) -> AsyncIterator[MutableMapping[str, Any]]: ...

    def cancel(self) -> object:
        """The client has left."""


Ask: TypeAlias = Callable[[dict[str, Any], bytes, str], Parts]
"""Has a replica answer a request: by its scope, its body and its group, "" for none."""


class Replica:
    """A server without address and guard, whose requests come from the app in front."""

    async def __init__(self, model: ModelToLoad, settings: Settings, has_keys: bool) -> None:  # type: ignore[misc]
        lm = await asyncio.to_thread(model.load)
        service = settings.service(lm, log.info, is_shared=True)
        self._app = unguarded_app(service, has_keys, mounted=settings.mounted(service))
        self._at_work: set[asyncio.Task[None]] = set()
        is_ready = asyncio.Event()
        self._life = asyncio.create_task(self._live(is_ready))
        await asyncio.wait([self._life, asyncio.create_task(is_ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        if self._life.done():
            await self._life

    async def _live(self, is_ready: asyncio.Event) -> None:
        async with self._app.router.lifespan_context(self._app):
            is_ready.set()
            await asyncio.Event().wait()

    async def group(self, name: str) -> str:
        """Notes that requests of this group are answered here. Ray keeps the latest `GROUPS`."""
        return name

    async def answer(self, scope: dict[str, Any], body: bytes, group: str = "") -> AsyncGenerator[Message, None]:
        """The messages of the reply to a request; closing it tells the app that the client has left."""
        if group:
            await self.group(group)
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        has_left, unread = asyncio.Event(), [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await has_left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if has_left.is_set():
                raise OSError("the client has left")
            if message["type"] == "http.response.start":
                message = {**message, "route": getattr(scope.get("route"), "path", None)}
            messages.put_nowait(message)

        async def work() -> None:
            try:
                await self._app(scope, receive, send)  # its errors have been logged, and replied to
            finally:
                messages.put_nowait(None)

        task = asyncio.create_task(work())
        self._at_work.add(task)
        task.add_done_callback(self._ended)
        try:
            while (message := await messages.get()) is not None:
                yield message
        finally:
            has_left.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        if not task.cancelled():
            task.exception()


class Front:
    """The app in front of the replicas, behind the guard, which counts in it."""

    def __init__(self, ask: Ask, lost: tuple[type[Exception], ...], limits: Limits) -> None:
        """
        Args:
            ask: see `Ask`.
            lost: what it raises where a replica is lost.
            limits: of each owner; tokens are not counted here.
        """
        self._ask, self._lost = ask, lost
        self.limits, self.metrics, self.rates = limits, Metrics(), Rates(limits.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif (scope["method"], scope["path"]) == ("GET", METRICS):
            scope["route"] = SimpleNamespace(path=METRICS)
            await metrics_of(self.metrics)(scope, receive, send)
        else:
            await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")  # the guard has read it as a whole
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        group = group_of(scope["state"]["owner"], scope["path"], headers, body)
        try:
            parts = self._ask({name: scope[name] for name in _SENT if name in scope}, body, group)
        except self._lost as error:  # there is no replica at all
            await _refusal(error)(scope, receive, send)
            return
        reply = _Reply(parts, self._lost)
        replying = asyncio.ensure_future(reply.send(scope, receive, send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait([replying, leaving], return_when=asyncio.FIRST_COMPLETED)
            if reply.is_whole:
                await replying
        finally:
            leaving.cancel()
            if not replying.done():
                reply.is_unwanted = True
                parts.cancel()
                replying.cancel()
        with suppress(asyncio.CancelledError):
            await replying


class _Reply:
    """A reply on its way from a replica to the client.

    Attributes:
        is_whole: whether the client has all of it.
        is_unwanted: whether the client has left before that.
    """

    def __init__(self, parts: Parts, lost: tuple[type[Exception], ...]) -> None:
        self._parts, self._lost = parts, lost
        self.is_whole = self.is_unwanted = False

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it part by part, or the status 503 where the replica is lost before its first part."""
        has_begun = False
        try:
            async for message in self._parts:
                if message["type"] == "http.response.start":
                    has_begun, scope["route"] = True, SimpleNamespace(path=message.pop("route") or "none")
                self.is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
                await send(message)
        except self._lost as error:
            if self.is_whole or self.is_unwanted:
                return
            refusal = _refusal(error)
            if not has_begun:  # else the reply ends without its last part, and the connection is closed
                await refusal(scope, receive, send)


def _refusal(error: Exception) -> ASGIApp:
    """The reply where a replica is lost, which is logged."""
    log.warning("a replica was lost: %s", first_line(error))
    sentence = "The replica with this request was lost: try again."
    return ApiError(503, sentence, code="lost", headers={"Retry-After": "1"}).response()


async def _left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    """The beginning and the end of an app that has neither."""
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})


@contextmanager
def started_replicas(count: int, model: ModelToLoad, settings: Settings, has_keys: bool) -> Iterator[Front]:
    """The app in front of so many replicas, which are ready; they end with the block.

    Raises:
        UsageError: Ray cannot be started or reached, or has too few GPUs.
        MemspanError: the replicas did not become ready.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default other work on the machine goes first
    with ExitStack() as stack:
        with signals_kept():
            stack.enter_context(ray_started(count, model.device))
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        quiet: dict[str, Any] = {"log_level": "ERROR", "enable_access_log": False}
        name = f"memspan {hashlib.sha256(str(settings.root).encode()).hexdigest()[:12]}"
        with _in_a_sentence(RuntimeError, RayError, RayServeException):
            with signals_kept():
                serve.start(proxy_location="Disabled", logging_config=quiet)
            deployed = serve.deployment(
                type(
                    "Replica",
                    (Replica,),
                    {"group": serve.multiplexed(max_num_models_per_replica=GROUPS)(Replica.group)},
                ),
                name="replicas",
                num_replicas=count,
                max_ongoing_requests=AT_ONCE,
                max_constructor_retry_count=STARTS,
                ray_actor_options={"num_cpus": cpus_of_each(count), "num_gpus": int(has_gpus(model.device))},
                logging_config=quiet,
            )
            stack.callback(serve.delete, name)
            handle = serve.run(
                deployed.bind(model, settings, has_keys), name=name, route_prefix=None, logging_config=quiet
            )

        def ask(scope: dict[str, Any], body: bytes, group: str) -> Parts:
            grouped = {"multiplexed_model_id": group} if group else {}
            parts: Parts = handle.options(stream=True, **grouped).answer.remote(scope, body, group)
            return parts

        yield Front(ask, (RayError, RayServeException), settings.limits)


@contextmanager
def _in_a_sentence(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds become one of ours."""
    try:
        yield
    except kinds as error:
        raise MemspanError(f"The replicas did not become ready: {first_line(error)}") from error
