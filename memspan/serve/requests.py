"""What requests have in common: messages, sampling, and the names of memories and sessions, checked by pydantic."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field

from memspan.assistant.chat import Exchange
from memspan.errors import UsageError
from memspan.models.generate import Sampling
from memspan.serve.json_objects import ANY_OBJECT, grammar_of
from memspan.serve.library import Library
from memspan.serve.replies import ApiError, missing
from memspan.serve.service import Service
from memspan.serve.sessions import is_session, session_name

MOST_TOKENS = 2**31
MOST_CHOICES = 8
MOST_MESSAGES = 10_000

Stops = (
    Annotated[str, Field(max_length=1000)]
    | Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=4)]
)
SessionHeader = Annotated[str | None, Header(alias="X-Session-Id")]
MemoryHeader = Annotated[str | None, Header(alias="X-Memory")]
TaskHeader = Annotated[str | None, Header(alias="X-Task")]
Tokens = Annotated[int | None, Field(ge=1, lt=MOST_TOKENS)]


class Strict(BaseModel):
    """A request, or a part of one: numbers are numbers and finite. Fields that are not listed are left alone."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class TextPart(Strict):
    type: Literal["text", "input_text", "output_text"]
    text: str


class ChatMessage(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


FormatName = Annotated[str, Field(min_length=1, max_length=64)]


class JsonSchema(Strict):
    """A schema of JSON, as chat completions have it. The reply keeps to it whether it is `strict` or not."""

    name: FormatName
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None
    description: str | None = None


class ReplyFormat(Strict):
    """What a reply must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def wanted(self) -> dict[str, Any] | None:
        """The schema that a reply must keep to; None for any text."""
        match self.type:
            case "text":
                return None
            case "json_object":
                return ANY_OBJECT
        if self.json_schema is None:
            raise ApiError(400, "json_schema must be there.", param="response_format.json_schema")
        return self.json_schema.schema_


class SampledRequest(Strict):
    """A request for text: how its tokens are chosen, and where it ends."""

    model: str
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: Stops | None = None
    n: Annotated[int | None, Field(ge=1, le=MOST_CHOICES)] = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in stops if stop)

    def sampling(self, max_tokens: int | None, default: int, choice: int = 0) -> Sampling:
        """The rule for one of the choices; the seeds of several follow each other."""
        seed = None if self.seed is None else (self.seed + choice) % 2**63
        temperature = 0.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        return Sampling(default if max_tokens is None else max_tokens, temperature, top_p, seed)


def conversation(messages: Sequence[ChatMessage]) -> tuple[str | None, tuple[Exchange, ...], str]:
    """The system message, the exchanges before the last message, and that message, which must be the user's.

    Messages of the same role behind each other are one.
    """
    system = "\n\n".join(message.text for message in messages if message.role in ("system", "developer"))
    turns: list[list[str]] = []
    for message in messages:
        if message.role not in ("user", "assistant"):
            continue
        if turns and turns[-1][0] == message.role:
            turns[-1][1] += f"\n\n{message.text}"
        else:
            turns.append([message.role, message.text])
    if not turns or turns[-1][0] != "user" or not turns[-1][1].strip():
        raise ApiError(400, "The last message must be the user's, and not empty.", param="messages")
    if turns[0][0] == "assistant":  # a greeting
        turns.insert(0, ["user", ""])
    texts = [text for _, text in turns]
    pairs = zip(texts[0:-1:2], texts[1:-1:2], strict=True)
    history = tuple(Exchange("", user, assistant) for user, assistant in pairs)
    return system or None, history, texts[-1]


def refuse(request: BaseModel, **unsupported: tuple[object, ...]) -> None:
    """Raises ApiError for a field whose value is not among those that have no effect; None always has none."""
    values = {**(request.model_extra or {}), **{name: getattr(request, name) for name in type(request).model_fields}}
    for name, harmless in unsupported.items():
        value = values.get(name)
        if value is not None and value not in harmless:
            raise ApiError(
                400, f"{name} is not supported here: leave it out.", code="unsupported_parameter", param=name
            )


def in_format(service: Service, sampling: Sampling, schema: dict[str, Any] | None, param: str) -> Sampling:
    """The rule of a sampling with one for JSON of a schema; as it is without a schema.

    Raises ApiError for a schema that cannot be followed, and where another program writes the replies.
    """
    if schema is None:
        return sampling
    if service.answerer is not None:
        raise ApiError(400, "JSON is not supported with --answer-with: leave it out.", param=param)
    try:
        grammar = grammar_of(schema)
    except UsageError as error:
        raise ApiError(400, f"{param}: {error}", code="invalid_json_schema", param=param) from error
    return replace(sampling, constraint=lambda: service.json_rules.rule(grammar))  # made in the thread of the engine


def refuse_tools(request: BaseModel) -> None:
    """Raises ApiError for tools: the model calls none."""
    extra = request.model_extra or {}
    for name in ("tools", "functions"):
        if extra.get(name):
            raise ApiError(400, "Tools are not supported here: leave them out.", code="unsupported_tool", param=name)
    refuse(request, tool_choice=("none", "auto"), function_call=("none", "auto"))


def memory_of(
    service: Service, owner: str, model: str, metadata: dict[str, str] | None, header: str | None
) -> str | None:
    """The memory that a request names: MODEL/MEMORY, else `metadata.memory`, else the header X-Memory; None for none.

    Raises ApiError 404 for another model or a memory that the owner does not have, 400 where two names contradict.
    """
    name, slash, behind = model.partition(f"{service.model}/") if model != service.model else (model, "", "")
    if model != service.model and (name or not slash):
        raise ApiError(404, f"There is no model {model[:200]!r}.", code="model_not_found", param="model")
    wishes = {wish for wish in (behind if slash else None, (metadata or {}).get("memory"), header) if wish is not None}
    if len(wishes) > 1:
        raise ApiError(400, "A request must name one memory, got several.", param="metadata.memory")
    wish = next(iter(wishes), None)
    if wish is not None and not service.library.holds(owner, wish):
        raise missing("memory", wish, "model" if slash else "metadata.memory")
    return wish


def named_session(extra: dict[str, Any] | None, header: str | None, task: str | None) -> str | None:
    """The memory of the session that a request names by `session_id` or X-Session-Id; None for none.

    A request with a task, such as a title to be found for a conversation, is no turn of it.
    """
    header, task = _filled_in(header), _filled_in(task)
    identity = (extra or {}).get("session_id")
    if identity is not None and not isinstance(identity, str):
        raise ApiError(400, "session_id must be a string.", param="session_id")
    if task is not None and task.strip():
        return None
    identity = header if identity is None else identity
    return None if identity is None or not identity.strip() else session_name("session", identity.strip())


def _filled_in(header: str | None) -> str | None:
    """A header that a program fills in from a template; None where it has left the placeholder, such as {{CHAT_ID}}.

    All conversations would be one session of that name.
    """
    return None if header is None or re.fullmatch(r"\s*\{\{\s*\w+\s*\}\}\s*", header) else header


def served_names(library: Library, owner: str) -> list[str]:
    """The memories of an owner but those of sessions."""
    return [name for name in library.names(owner) if not is_session(name)]


def model_name(name: str) -> str:
    """How the model is called in requests: of a path, the last part."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if re.search(r"^[./~\\]|^\w:|\\", name) else name
