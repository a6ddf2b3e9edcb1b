"""The routes /v1/responses: replies that are kept, and that a later request goes on from."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from memspan.assistant.chat import Exchange
from memspan.memory import SourceRecord
from memspan.serve.disconnects import unless_left
from memspan.serve.file_search import FileSearchTool, Searched, ToolChoice, file_search_of
from memspan.serve.items import assistant_item, items_of, page, search_item, text_part
from memspan.serve.json_objects import ANY_OBJECT
from memspan.serve.kept_responses import KEPT, SEARCH
from memspan.serve.quota import require_room
from memspan.serve.replies import ApiError, as_api_error, missing
from memspan.serve.requests import (
    MOST_MESSAGES,
    ChatMessage,
    FormatName,
    MemoryHeader,
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
)
from memspan.serve.response_ids import (
    conversation_id,
    new_response_id,
    new_session,
    session_of_conversation,
    session_of_response,
)
from memspan.serve.service import LibraryOf, Owner, Service, ServiceOf
from memspan.serve.sessions import branch_names, until
from memspan.serve.streams import EVENTS, UNCACHED, as_event
from memspan.serve.turns import Begun, Reply, Turn, take_turn

router = APIRouter()
RESULTS = "file_search_call.results"


class ConversationReference(Strict):
    id: str


class ResponseFormat(Strict):
    """What a reply must be: as `ReplyFormat`, but that the schema's fields stand beside its type."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: FormatName | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None
    description: str | None = None

    @property
    def wanted(self) -> dict[str, Any] | None:
        """The schema that a reply must keep to; None for any text."""
        if self.type == "json_schema" and (self.schema_ is None or self.name is None):
            raise ApiError(400, "text.format must have a name and a schema.", param="text.format")
        return {"text": None, "json_object": ANY_OBJECT}.get(self.type, self.schema_)


class TextOptions(Strict):
    format: ResponseFormat | None = None


class SearchItem(Strict):
    """A call of `file_search` that is sent back with the messages around it; what it found stands in the reply."""

    type: Literal["file_search_call"]


class ResponseRequest(SampledRequest):
    """A response's request, as far as it has an effect here."""

    input: str | Annotated[list[ChatMessage | SearchItem], Field(max_length=MOST_MESSAGES)]
    instructions: str | None = None
    conversation: str | ConversationReference | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    max_output_tokens: Tokens = None
    text: TextOptions | None = None
    stream: bool | None = None
    tools: list[FileSearchTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    include: list[str] | None = None

    @property
    def format(self) -> ResponseFormat:
        wish = None if self.text is None else self.text.format
        return ResponseFormat() if wish is None else wish

    @property
    def messages(self) -> list[ChatMessage]:
        if isinstance(self.input, str):
            return [ChatMessage(role="user", content=self.input)]
        return [item for item in self.input if isinstance(item, ChatMessage)]

    @property
    def conversation_id(self) -> str | None:
        wish = self.conversation
        return wish.id if isinstance(wish, ConversationReference) else wish


@router.post("/v1/responses", responses=EVENTS)
async def create_response(
    body: ResponseRequest,
    request: Request,
    owner: Owner,
    service: ServiceOf,
    x_session_id: SessionHeader = None,
    x_memory: MemoryHeader = None,
    x_task: TaskHeader = None,
) -> Response:
    """The reply to a message, which is kept unless `store` is false."""
    refuse(body, background=(False,), truncation=("auto", "disabled"), n=(1,), top_logprobs=(0,))
    if "message.output_text.logprobs" in (body.include or ()):
        raise ApiError(400, "Log-probabilities are not supported here: leave them out.", param="include")
    if body.conversation_id is not None and body.previous_response_id is not None:
        sentence = "conversation and previous_response_id exclude each other: name one of them."
        raise ApiError(400, sentence, param="previous_response_id")
    service.rates.require_tokens(owner)
    named = named_session(body.model_extra, x_session_id, x_task)
    turn = await run_in_threadpool(_turn, service, owner, body, named, x_memory)
    if turn.session is not None:
        await require_room(service, owner)
    response = _Response(service, body, turn)
    if body.stream:
        parts = response.parts()
        begun = await unless_left(
            request, anext(parts)
        )  # what is wrong with the request is known before the stream begins
        return StreamingResponse(response.events(begun, parts), media_type="text/event-stream", headers=UNCACHED)
    return await unless_left(request, response.whole())


def _turn(service: Service, owner: str, body: ResponseRequest, named: str | None, header: str | None) -> Turn:
    """The turn that a request asks for, with its session."""
    library, is_kept = (
        service.library,
        body.store is not False and not (body.store is None and service.library.is_single),
    )
    memory = memory_of(service, owner, body.model, body.metadata, header)
    search = file_search_of(library, owner, body.tools, body.tool_choice)
    try:
        system, history, message = conversation(body.messages)
    except ApiError as error:
        error.param = "input"
        raise
    system = "\n\n".join(text for text in (body.instructions, system) if text) or None
    sampling = body.sampling(body.max_output_tokens, service.limits.new_tokens)
    sampling = in_format(service, sampling, body.format.wanted, "text.format")
    turn = Turn(owner, message, history, system, memory, named, sampling=sampling, stops=body.stops, search=search)
    if body.conversation_id is not None:
        session = session_of_conversation(body.conversation_id)
        if session is None or not library.holds(owner, session):
            raise missing("conversation", body.conversation_id, "conversation")
        return replace(turn, session=session, make=False)
    if body.previous_response_id is not None:
        before, session = _found(service, owner, body.previous_response_id, "previous_response_id")
        if not is_kept:
            return replace(turn, history=(*before, *history), session=None)
        return replace(turn, history=(*before, *history), session=session, make=False)
    return replace(turn, session=new_session()) if turn.session is None and is_kept else turn


def _is_response(identity: str, record: SourceRecord) -> bool:
    kept = record.meta.get(KEPT)
    return isinstance(kept, dict) and kept.get("id") == identity


def _found(service: Service, owner: str, identity: str, param: str) -> tuple[list[Exchange], str]:
    """The exchanges up to that of a response, and the name of its session. Raises ApiError 404."""
    session = session_of_response(identity)
    exchanges = []
    if session is not None:
        exchanges = until(service.library, owner, session, lambda record: _is_response(identity, record))
    if session is None or not exchanges:
        raise missing("response", identity, param)
    return exchanges, session


@router.get("/v1/responses/{response_id}")
def retrieve_response(response_id: str, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """A response that was kept."""
    exchanges, session = _found(service, owner, response_id, "response_id")
    exchange = exchanges[-1]
    for name in branch_names(service.library, owner, session):
        record = service.library.open(owner, name).sources.get(exchange.source)
        if record is not None and isinstance(kept := record.meta.get(KEPT), dict):
            return _object(kept, exchange.assistant)
    raise missing("response", response_id, "response_id")


@router.delete("/v1/responses/{response_id}")
def delete_response(response_id: str, owner: Owner, service: ServiceOf) -> dict[str, Any]:
    """Forgets the exchange of a response for good, in all branches of its session."""
    exchanges, session = _found(service, owner, response_id, "response_id")
    for name in branch_names(service.library, owner, session):
        with service.library.lease(owner, name) as memory:
            if exchanges[-1].source in memory.sources:
                memory.replace([exchanges[-1].source], [])
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/v1/responses/{response_id}/input_items")
def list_input_items(
    response_id: str,
    owner: Owner,
    service: ServiceOf,
    library: LibraryOf,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The messages that a response goes on from, the latest first."""
    exchanges, _ = _found(service, owner, response_id, "response_id")
    last = Exchange(exchanges[-1].source, exchanges[-1].user, "")
    return page(items_of([*exchanges[:-1], last]), limit, after, order)


def _object(fields: dict[str, Any], text: str | None, results: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The JSON value of a response; without a text, of one that has just begun."""
    is_whole, search = fields["status"] == "completed", fields.get(SEARCH)
    name, output = f"msg_{fields['id'].removeprefix('resp_')}", []
    if text is not None and search is not None:
        output.append(search_item(search["id"], search["queries"], results=results))
    if text is not None:
        cited = [] if search is None else search["annotations"]
        output.append(assistant_item(name, text, fields["status"], cited))
    return {
        "tool_choice": "none",
        "tools": [],
        **{key: value for key, value in fields.items() if key != SEARCH},
        "object": "response",
        "output": output,
        "error": None,
        "incomplete_details": None if is_whole or text is None else {"reason": "max_output_tokens"},
        "parallel_tool_calls": False,
        "truncation": "auto",
    }


class _Response:
    """One response while it is made."""

    def __init__(self, service: Service, body: ResponseRequest, turn: Turn) -> None:
        self.service = service
        identity = new_response_id(turn.session)
        choice = body.tool_choice
        self.fields: dict[str, Any] = {
            "id": identity,
            "created_at": int(time.time()),
            "model": body.model,
            "status": "in_progress",
            "instructions": body.instructions,
            "metadata": body.metadata or {},
            "previous_response_id": body.previous_response_id,
            "conversation": None if body.conversation_id is None else {"id": conversation_id(turn.session or "")},
            "store": turn.session is not None,
            "temperature": turn.sampling.temperature,
            "top_p": turn.sampling.top_p,
            "max_output_tokens": body.max_output_tokens,
            "text": {"format": body.format.model_dump(by_alias=True, exclude_none=True)},
            "tools": [tool.model_dump(exclude_unset=True) for tool in body.tools or ()],
            "tool_choice": {"type": choice.type} if isinstance(choice, ToolChoice) else choice or "auto",
            "usage": None,
        }
        self.item, self.call = (f"{kind}_{identity.removeprefix('resp_')}" for kind in ("msg", "fs"))
        self.shows_results = RESULTS in (body.include or ())
        self.turn = replace(turn, meta=lambda reply: {KEPT: self._finished(reply)})
        self._sequence = 0

    def _finished(self, reply: Reply) -> dict[str, Any]:
        counts = {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": reply.memory_tokens, "cache_write_tokens": 0},
            "output_tokens": reply.answer_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.prompt_tokens + reply.answer_tokens,
        }
        fields = {**self.fields, "status": "completed" if reply.reason == "stop" else "incomplete", "usage": counts}
        if reply.searched is not None:
            queries = [reply.searched.query]
            fields[SEARCH] = {"id": self.call, "queries": queries, "annotations": list(reply.annotations)}
        return fields

    def _results(self, searched: Searched | None) -> list[dict[str, Any]] | None:
        return searched.results if searched is not None and self.shows_results else None

    def parts(self) -> AsyncGenerator[Begun | str | Reply, None]:
        turn = self.turn
        return self.service.engine.stream(turn.owner, lambda: take_turn(self.service, turn), turn.alone)

    async def whole(self) -> Response:
        async with aclosing(self.parts()) as parts:
            async for part in parts:
                if isinstance(part, Reply):
                    return JSONResponse(_object(self._finished(part), part.text, self._results(part.searched)))
        raise RuntimeError("the turn ended without a reply")

    async def events(
        self, begun: Begun | str | Reply, parts: AsyncGenerator[Begun | str | Reply, None]
    ) -> AsyncIterator[str]:
        """The server-sent events; an error that comes up in between is the last one."""
        response = _object(self.fields, None)
        searched = begun.searched if isinstance(begun, Begun) else None
        where = {"item_id": self.item, "output_index": 0 if searched is None else 1, "content_index": 0}
        try:
            async with aclosing(parts):
                yield self._event("response.created", response=response)
                yield self._event("response.in_progress", response=response)
                if searched is not None:
                    for event in self._search(searched):
                        yield event
                item = {**assistant_item(self.item, "", "in_progress"), "content": []}
                yield self._event("response.output_item.added", output_index=where["output_index"], item=item)
                yield self._event("response.content_part.added", **where, part=text_part(""))
                async for part in parts:
                    if isinstance(part, str):
                        yield self._event("response.output_text.delta", **where, delta=part, logprobs=[])
                    elif isinstance(part, Reply):
                        for event in self._endings(part, where):
                            yield event
        except Exception as error:
            details = as_api_error(error, str(self.service.library.root)).body()["error"]
            yield self._event("error", message=details["message"], code=details["code"], param=details["param"])

    def _search(self, searched: Searched) -> list[str]:
        """The events of a search that has been made."""
        begun = search_item(self.call, [searched.query], "in_progress")
        done = search_item(self.call, [searched.query], results=self._results(searched))
        where = {"item_id": self.call, "output_index": 0}
        return [
            self._event("response.output_item.added", output_index=0, item=begun),
            *(
                self._event(f"response.file_search_call.{state}", **where)
                for state in ("in_progress", "searching", "completed")
            ),
            self._event("response.output_item.done", output_index=0, item=done),
        ]

    def _endings(self, reply: Reply, where: dict[str, Any]) -> list[str]:
        final = _object(self._finished(reply), reply.text, self._results(reply.searched))
        item = final["output"][-1]
        return [
            *(
                self._event("response.output_text.annotation.added", **where, annotation=cited, annotation_index=index)
                for index, cited in enumerate(reply.annotations)
            ),
            self._event("response.output_text.done", **where, text=reply.text, logprobs=[]),
            self._event("response.content_part.done", **where, part=item["content"][0]),
            self._event("response.output_item.done", output_index=where["output_index"], item=item),
            self._event(f"response.{final['status']}", response=final),
        ]

    def _event(self, kind: str, **fields: Any) -> str:
        value = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {kind}\n{as_event(value)}"
