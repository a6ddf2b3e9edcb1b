"""The route /v1/chat/completions: replies to a conversation, as a whole or as a stream of server-sent events."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from memspan.serve.disconnects import unless_left
from memspan.serve.quota import require_room
from memspan.serve.replies import ApiError, as_api_error
from memspan.serve.requests import (
    MOST_MESSAGES,
    ChatMessage,
    MemoryHeader,
    ReplyFormat,
    SampledRequest,
    SessionHeader,
    Strict,
    TaskHeader,
    Tokens,
    conversation,
    in_format,
    memory_of,
    named_session,
    refuse,
    refuse_tools,
)
from memspan.serve.service import Owner, Service, ServiceOf
from memspan.serve.streams import DONE, EVENTS, UNCACHED, as_event
from memspan.serve.turns import Begun, Reply, Turn, take_turn

router = APIRouter()
_END: Any = object()  # behind the last part of a choice


class StreamOptions(Strict):
    include_usage: bool | None = None


class ChatRequest(SampledRequest):
    """A chat completion's request, as far as it has an effect here."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    response_format: ReplyFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


@router.post("/v1/chat/completions", responses=EVENTS)
async def chat_completion(
    body: ChatRequest,
    request: Request,
    owner: Owner,
    service: ServiceOf,
    x_session_id: SessionHeader = None,
    x_memory: MemoryHeader = None,
    x_task: TaskHeader = None,
) -> Response:
    """The reply to the last message of a conversation."""
    refuse_tools(body)
    refuse(
        body,
        logprobs=(False,),
        top_logprobs=(0,),
        logit_bias=({},),
        presence_penalty=(0, 0.0),
        frequency_penalty=(0, 0.0),
        audio=(),
        modalities=(["text"],),
    )
    service.rates.require_tokens(owner)
    system, history, message = conversation(body.messages)
    session = named_session(body.model_extra, x_session_id, x_task)
    memory = await run_in_threadpool(memory_of, service, owner, body.model, body.metadata, x_memory)
    tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    turn = Turn(owner, message, history, system, memory, session, stops=body.stops)
    count = 1 if body.n is None else body.n
    if session is not None:
        if count > 1:
            raise ApiError(400, "n must be 1 in a session: it goes on with one reply.", param="n")
        await require_room(service, owner)
    default = service.limits.new_tokens
    form, param = body.response_format, "response_format"
    schema = None if form is None else form.wanted
    rule = await run_in_threadpool(in_format, service, body.sampling(tokens, default), schema, param)
    seeds = [body.sampling(tokens, default, choice).seed for choice in range(count)]
    turns = [replace(turn, sampling=replace(rule, seed=seed)) for seed in seeds]
    completion = _Completion(service, body)
    if body.stream:
        parts = completion.parts(turns)
        first = await unless_left(
            request, anext(parts)
        )  # what is wrong with the request is known before the stream begins
        return StreamingResponse(completion.events(first, parts), media_type="text/event-stream", headers=UNCACHED)
    return await unless_left(request, completion.whole(turns))


class _Completion:
    """One chat completion: what its JSON objects have in common."""

    def __init__(self, service: Service, body: ChatRequest) -> None:
        self.service, self.body = service, body
        self.common = {"id": f"chatcmpl-{secrets.token_hex(16)}", "created": int(time.time()), "model": body.model}

    async def parts(self, turns: list[Turn]) -> AsyncGenerator[tuple[int, Begun | str | Reply], None]:
        """The parts of all choices as they come, each with its number: the choices share the steps of the model."""
        made: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        tasks = [asyncio.create_task(self._put_parts(number, turn, made)) for number, turn in enumerate(turns)]
        unfinished = len(tasks)
        try:
            while unfinished:
                number, part = await made.get()
                if isinstance(part, BaseException):
                    raise part
                if part is _END:
                    unfinished -= 1
                else:
                    yield number, part
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _put_parts(self, number: int, turn: Turn, made: asyncio.Queue[tuple[int, Any]]) -> None:
        """Put the parts of one choice into a queue, and `_END` or what it raised behind them."""
        last: Any = _END
        try:
            work = partial(take_turn, self.service, turn)
            async with aclosing(self.service.engine.stream(turn.owner, work, turn.alone)) as stream:
                async for part in stream:
                    made.put_nowait((number, part))
        except Exception as error:
            last = error
        made.put_nowait((number, last))

    async def whole(self, turns: list[Turn]) -> Response:
        found: dict[int, Reply] = {}
        async with aclosing(self.parts(turns)) as parts:
            async for number, part in parts:
                if isinstance(part, Reply):
                    found[number] = part
        replies = [found[number] for number in range(len(turns))]
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": reply.text, "refusal": None},
                "finish_reason": reply.reason,
                "logprobs": None,
            }
            for number, reply in enumerate(replies)
        ]
        value = {**self.common, "object": "chat.completion", "choices": choices, "usage": usage(replies)}
        return JSONResponse({**value, "memory": recalled(replies[0])})

    async def events(
        self, first: tuple[int, Begun | str | Reply], parts: AsyncGenerator[tuple[int, Begun | str | Reply], None]
    ) -> AsyncIterator[str]:
        """The server-sent events; an error that comes up in between is the last one."""
        replies: list[Reply] = []
        try:
            async with aclosing(parts):
                yield self._event(first[0], {"role": "assistant", "content": ""})
                async for number, part in parts:
                    if isinstance(part, Begun):
                        yield self._event(number, {"role": "assistant", "content": ""})
                    elif isinstance(part, str):
                        yield self._event(number, {"content": part})
                    else:
                        replies.append(part)
                        yield self._event(number, {}, part)
        except Exception as error:
            yield as_event(as_api_error(error, str(self.service.library.root)).body())
            return
        options = self.body.stream_options
        if options is not None and options.include_usage:
            yield as_event({**self._chunk, "choices": [], "usage": usage(replies)})
        yield DONE

    @property
    def _chunk(self) -> dict[str, Any]:
        return {**self.common, "object": "chat.completion.chunk"}

    def _event(self, number: int, delta: dict[str, str], reply: Reply | None = None) -> str:
        reason = None if reply is None else reply.reason
        choice = {"index": number, "delta": delta, "finish_reason": reason, "logprobs": None}
        memory = {} if reply is None else {"memory": recalled(reply)}
        return as_event({**self._chunk, "choices": [choice], **memory})


def usage(replies: list[Reply]) -> dict[str, Any]:
    """The tokens of a completion; `cached_tokens` are those of the prompt that came from the memory."""
    prompt, written = replies[0].prompt_tokens, sum(reply.answer_tokens for reply in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": replies[0].memory_tokens},
    }


def recalled(reply: Reply) -> dict[str, Any]:
    """What a reply had from the memory: the passages in its prompt, best first."""
    passages = [
        {
            "source": passage.source,
            "start": passage.start,
            "end": passage.end,
            "confidence": passage.confidence,
            "text": passage.text,
        }
        for passage in reply.recalled
    ]
    return {"session": reply.session, "recalled": passages}
