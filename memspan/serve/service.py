"""What the routes share: the library, the engine, the limits; and how a route gets them, as FastAPI's dependencies."""

from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from memspan.assistant.answerers.base import Answerer
from memspan.assistant.answerers.local import LocalAnswerer
from memspan.assistant.language_model import LanguageModel
from memspan.pretrained.batched import BatchedDecoder
from memspan.pretrained.decoding import Decoder
from memspan.serve.engine import Engine
from memspan.serve.json_objects import JsonRules
from memspan.serve.library import Library
from memspan.serve.metrics import Metrics
from memspan.serve.rates import Rates


@dataclass(frozen=True)
class Limits:
    """What one owner may do.

    Attributes:
        requests_per_minute: None for any number.
        tokens_per_minute: that the model reads in prompts and writes; None for any number.
        stored_bytes: of all memories of an owner; None for any number.
        body_bytes: of one request.
        upload_bytes: of one request that brings a file, to /v1/files.
        body_seconds: within which a request must have been sent.
        new_tokens: of a reply, where the request does not say.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    stored_bytes: int | None = None
    body_bytes: int = 4 * 1024**2
    upload_bytes: int = 64 * 1024**2
    body_seconds: float = 30.0
    new_tokens: int = 512


@dataclass(frozen=True)
class Service:
    """What the routes share.

    Attributes:
        library: the memories.
        engine: runs everything that uses the model.
        answerer: what writes the answers; None for the model itself.
        model: the name of the model in requests, without slashes of a path.
        metrics: counts and times.
    """

    library: Library
    engine: Engine
    model: str
    answerer: Answerer | None = None
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        watch, engine = self.metrics.watch, self.engine
        watch("memspan_num_requests_running", "Requests that the model works on.", lambda: engine.running)
        watch("memspan_num_requests_waiting", "Requests that wait for the model.", lambda: engine.waiting)
        watch("memspan_memory_bytes", "Bytes of the memories that are open.", lambda: self.library.open_bytes)

    @cached_property
    def json_rules(self) -> JsonRules:
        """What keeps the model's replies to JSON."""
        return JsonRules(self.lm)

    @cached_property
    def rates(self) -> Rates:
        """What each owner has asked for in the last minute."""
        return Rates(self.limits.requests_per_minute, self.limits.tokens_per_minute)

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model of the library; texts that it writes at the same time share their steps, see `Engine`."""
        lm = self.library.lm
        if type(lm.decoder) is not Decoder:  # a compiled step has constant shapes
            return lm
        batched = copy(lm)
        batched.decoder = BatchedDecoder(lm.causal_lm, sorted(lm.decoder.stop))
        batched.answerer = LocalAnswerer(lm.tokenizer, batched.decoder, lm.name)
        return batched


def get_service(request: Request) -> Service:
    """The service of the app."""
    service: Service = request.app.state.service
    return service


def get_owner(request: Request) -> str:
    """The owner whose key came with the request; `LOCAL` where there are no keys. Nothing else says who asks."""
    owner: str = request.state.owner
    return owner


def get_library(service: Annotated[Service, Depends(get_service)]) -> Library:
    return service.library


def get_engine(service: Annotated[Service, Depends(get_service)]) -> Engine:
    return service.engine


ServiceOf = Annotated[Service, Depends(get_service)]
Owner = Annotated[str, Depends(get_owner)]
LibraryOf = Annotated[Library, Depends(get_library)]
EngineOf = Annotated[Engine, Depends(get_engine)]
