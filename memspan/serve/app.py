"""The server's app: its routes, and the guard in front of them.

A file of routes exports `router`, an `APIRouter`, and stands in `ROUTERS` below. A route gets what it needs as parameters,
by the annotations of `memspan.serve.service`:

    from memspan.serve.service import EngineOf, LibraryOf, Owner, ServiceOf

    @router.post("/v1/things")
    async def create(request: ThingRequest, owner: Owner, library: LibraryOf, engine: EngineOf) -> dict[str, Any]:
        def search() -> list[RetrievedPassage]:
            return library.lm.search(library.open(owner, request.memory), request.query)

        found = await engine.call(owner, search)   # everything that uses the model takes its turn in the engine

- `Owner` is the name of the owner whose key came with the request (`LOCAL` where the server has no keys). A request says
  nowhere else who asks.
- `LibraryOf` opens and leases memories of that owner. Files are read and written: call it within `engine.call`, or within
  `starlette.concurrency.run_in_threadpool` where no model is used.
- `EngineOf.stream(owner, work)` hands on the parts that a generator yields, for streams.
- `ServiceOf` has all of it, the limits and the name of the model.

A request that cannot be carried out raises `ApiError(status, message, code=..., param=...)` of `memspan.serve.replies`, or
`missing("file", id)` for what an owner does not have; errors of memspan and of pydantic become replies of the same form.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from memspan import __version__
from memspan.serve import (
    chat_completions,
    completions,
    conversations,
    embeddings,
    files,
    memories,
    models,
    rated,
    responses,
    status,
    ui,
    vector_stores,
)
from memspan.serve.contract import describe
from memspan.serve.guard import Guard, Rules
from memspan.serve.replies import handle_errors
from memspan.serve.service import Service
from memspan.serve.stored_files import drop_unfinished

ROUTERS: tuple[APIRouter, ...] = (
    chat_completions.router,
    responses.router,
    conversations.router,
    completions.router,
    embeddings.router,
    files.router,
    vector_stores.router,
    models.router,
    memories.router,
    rated.router,
    ui.router,
    status.router,
)


class Mounted(Protocol):
    """An app behind a path of its own, to which requests are posted; it answers within `run`."""

    def run(self) -> AbstractAsyncContextManager[None]: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def make_app(
    service: Service, rules: Rules, routers: Iterable[APIRouter] = ROUTERS, mounted: Mapping[str, Mounted] | None = None
) -> FastAPI:
    """The app of a service, with further apps by their paths. When it ends, so does the engine."""
    app = unguarded_app(service, rules.keys is not None, routers, mounted)
    app.add_middleware(Guard, rules=rules, service=service)
    return app


def unguarded_app(
    service: Service,
    has_keys: bool,
    routers: Iterable[APIRouter] = ROUTERS,
    mounted: Mapping[str, Mounted] | None = None,
) -> FastAPI:
    """The same without its guard, for requests that have passed one and have their owner in the state."""
    others = {} if mounted is None else mounted

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(run_in_threadpool, service.engine.close)
            await run_in_threadpool(drop_unfinished, service.library)
            for other in others.values():
                await stack.enter_async_context(other.run())
            yield

    app = FastAPI(title="memspan", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    for router in routers:
        app.include_router(router)
    for path, other in others.items():
        app.router.routes.append(Route(path, other, methods=["POST"], name=path))
    describe(app, has_keys=has_keys)
    handle_errors(app, str(service.library.root))
    return app
