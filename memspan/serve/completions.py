"""The routes /v1/completions, which continues a text as it stands, without a memory, and /tokenize."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field

from memspan.data.plain_text import plain_ids
from memspan.serve.completing import Continuation, continued_text, ids_of, likelihoods, text_ids
from memspan.serve.disconnects import unless_left
from memspan.serve.engine import PAUSE
from memspan.serve.replies import ApiError, as_api_error
from memspan.serve.requests import MOST_TOKENS, ChatMessage, SampledRequest, Strict, named_session, refuse
from memspan.serve.service import Owner, Service, ServiceOf
from memspan.serve.streams import DONE, EVENTS, as_event

router = APIRouter()
MOST_PROMPTS = 64
DEFAULT_TOKENS = 16

Ids = Annotated[list[Annotated[int, Field(ge=0, lt=MOST_TOKENS)]], Field(min_length=1)]
Prompts = str | Ids | Annotated[list[str] | list[Ids], Field(min_length=1, max_length=MOST_PROMPTS)]


class StreamOptions(Strict):
    include_usage: bool | None = None


class CompletionRequest(SampledRequest):
    """A completion's request, as far as it has an effect here."""

    prompt: Prompts
    max_tokens: Annotated[int | None, Field(ge=0, lt=MOST_TOKENS)] = None
    echo: bool | None = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]


@router.post("/v1/completions", responses=EVENTS)
async def complete(body: CompletionRequest, request: Request, owner: Owner, service: ServiceOf) -> Response:
    """What follows a text, by the language model itself."""
    refuse(
        body,
        suffix=("",),
        best_of=(1, body.n),
        logit_bias=({},),
        presence_penalty=(0, 0.0),
        frequency_penalty=(0, 0.0),
    )
    if body.model != service.model:
        if body.model.startswith(f"{service.model}/"):
            raise ApiError(400, "Completions have no memory: use chat completions.", param="model")
        raise ApiError(404, f"There is no model {body.model[:200]!r}.", code="model_not_found", param="model")
    if named_session(body.model_extra, None, None) is not None:
        raise ApiError(400, "Completions have no session: use chat completions.", param="session_id")
    if body.stream and body.logprobs is not None:
        raise ApiError(400, "logprobs are not streamed: ask for the reply as a whole.", param="logprobs")
    service.rates.require_tokens(owner)
    completion = _Completion(service, owner, body)
    if body.stream:
        parts = completion.parts()
        first = await unless_left(request, anext(parts))
        return StreamingResponse(completion.events(first, parts), media_type="text/event-stream")
    return await unless_left(request, completion.whole())


Part = tuple[int, str | Continuation, dict[str, Any] | None]


class _Completion:
    """One completion: its prompts, each with as many choices as are asked for."""

    def __init__(self, service: Service, owner: str, body: CompletionRequest) -> None:
        self.service, self.owner, self.body = service, owner, body
        identity = f"cmpl-{secrets.token_hex(16)}"
        self.common = {"id": identity, "object": "text_completion", "created": int(time.time()), "model": body.model}

    async def parts(self) -> AsyncGenerator[Part, None]:
        async with aclosing(self.service.engine.stream(self.owner, self._work)) as parts:
            async for part in parts:
                yield part

    def _work(self) -> Generator[Part, None, None]:
        """Yields the parts of each choice with its number, and at its end the continuation with its likelihoods."""
        lm, body = self.service.lm, self.body
        prompts = [(prompt, ids_of(lm, prompt)) for prompt in body.prompts]
        tokens = DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
        count = 1 if body.n is None else body.n
        for number in range(count * len(prompts)):
            prompt, ids = prompts[number // count]
            if body.echo:
                yield number, prompt if isinstance(prompt, str) else lm.tokenizer.decode(ids), None
            sampling = body.sampling(tokens, tokens, number % count) if tokens else None
            self.service.rates.charge(self.owner, len(ids))
            for part in continued_text(lm, ids, sampling, body.stops):
                if part == "":
                    yield PAUSE
                    continue
                chances = None
                if isinstance(part, Continuation):
                    self.service.rates.charge(self.owner, len(part.ids))
                if isinstance(part, Continuation) and body.logprobs is not None:
                    chances = likelihoods(lm, part, body.logprobs, body.echo is True)
                yield number, part, chances

    async def whole(self) -> Response:
        texts: dict[int, str] = {}
        choices: list[dict[str, Any]] = []
        ends: list[Continuation] = []
        async with aclosing(self.parts()) as parts:
            async for number, part, chances in parts:
                if isinstance(part, str):
                    texts[number] = texts.get(number, "") + part
                else:
                    ends.append(part)
                    choices.append(_choice(number, texts.get(number, ""), part.reason, chances))
        return JSONResponse({**self.common, "choices": choices, "usage": self._usage(ends)})

    async def events(self, first: Part, parts: AsyncGenerator[Part, None]) -> AsyncIterator[str]:
        ends: list[Continuation] = []
        try:
            async with aclosing(parts):
                yield self._event(first, ends)
                async for part in parts:
                    yield self._event(part, ends)
        except Exception as error:
            yield as_event(as_api_error(error, str(self.service.library.root)).body())
            return
        options = self.body.stream_options
        if options is not None and options.include_usage:
            yield as_event({**self.common, "choices": [], "usage": self._usage(ends)})
        yield DONE

    def _event(self, part: Part, ends: list[Continuation]) -> str:
        number, content, _ = part
        if isinstance(content, Continuation):
            ends.append(content)
            choice = _choice(number, "", content.reason, None)
        else:
            choice = _choice(number, content, None, None)
        return as_event({**self.common, "choices": [choice]})

    def _usage(self, ends: list[Continuation]) -> dict[str, int]:
        count = 1 if self.body.n is None else self.body.n
        prompt = sum(len(end.prompt_ids) for end in ends[::count])
        written = sum(len(end.ids) for end in ends)
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _choice(number: int, text: str, reason: str | None, chances: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": number, "text": text, "finish_reason": reason, "logprobs": chances}


class TokenizeRequest(Strict):
    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(Strict):
    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, lt=MOST_TOKENS)]]


@router.post("/tokenize")
def tokenize(body: TokenizeRequest, service: ServiceOf) -> dict[str, Any]:
    """The ids of a text, or of a conversation in the model's chat template."""
    lm = service.lm
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "Either prompt or messages must be there.", param="prompt")
    if body.messages is not None:
        ids = lm.prompt_ids([{"role": message.role, "content": message.text} for message in body.messages])
    else:
        prompt = body.prompt or ""
        ids = text_ids(lm, prompt) if body.add_special_tokens else plain_ids(lm.tokenizer, prompt)
    return {"tokens": ids, "count": len(ids), "max_model_len": lm.decoder.window}


@router.post("/detokenize")
def detokenize(body: DetokenizeRequest, service: ServiceOf) -> dict[str, Any]:
    """The text of ids."""
    if any(token >= len(service.lm.tokenizer) for token in body.tokens):
        raise ApiError(400, f"Token ids must be below {len(service.lm.tokenizer)}.", param="tokens")
    return {"prompt": service.lm.tokenizer.decode(body.tokens)}


@router.get("/tokenizer_info")
def tokenizer_info(service: ServiceOf) -> dict[str, Any]:
    """The tokens that begin and end a text."""
    tokenizer = service.lm.tokenizer
    return {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token}
