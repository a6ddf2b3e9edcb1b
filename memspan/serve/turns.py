"""One turn of a conversation: from what a client sent to the parts of a reply, and what is kept of it.

A turn with a session ends with the whole exchange in the session's memory, or leaves it as it was: nothing is kept of a reply
whose client left while it was written.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from memspan.assistant.answerers.base import Usage, window_of
from memspan.assistant.chat import Chat, Exchange
from memspan.assistant.confidence import SILENCE
from memspan.assistant.retrieved import RetrievedPassage
from memspan.data.plain_text import Message, plain_ids
from memspan.models.generate import Sampling
from memspan.serve.engine import PAUSE
from memspan.serve.file_search import FileSearch, Searched
from memspan.serve.json_objects import is_json
from memspan.serve.service import Service
from memspan.serve.sessions import continued, first_branch
from memspan.serve.stops import stopped


@dataclass(frozen=True)
class Turn:
    """What a client asks for.

    Attributes:
        message: of the user, to reply to.
        history: the exchanges before it that the client sent, the oldest first.
        system: the system message.
        memory: the name of the memory that passages are recalled from; None for none but the session's.
        session: the name of the session's memory; None for none.
        make: whether to make a session that there is not yet.
        stops: texts before which a reply ends.
        meta: the JSON values that are kept with the exchange of a reply.
        search: of vector stores, whose passages come before those of the memories.
    """

    owner: str
    message: str
    history: tuple[Exchange, ...] = ()
    system: str | None = None
    memory: str | None = None
    session: str | None = None
    make: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    meta: "Callable[[Reply], dict[str, Any]] | None" = None
    search: FileSearch | None = None

    @property
    def alone(self) -> tuple[str, str] | None:
        """What no other request may work on meanwhile: the session, if there is one."""
        return None if self.session is None else (self.owner, first_branch(self.session))


@dataclass(frozen=True)
class Begun:
    """The prompt is ready, and nothing stands in the way of a reply; with what the search of the turn has found."""

    searched: Searched | None = None
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Reply:
    """A reply as a whole.

    Attributes:
        reason: why it ends: "stop", or "length" for its greatest number of tokens.
        prompt_tokens, answer_tokens: in the tokenizer of what wrote it, as far as that says.
        memory_tokens: of the prompt's, those that came from the memory: passages, and exchanges of the session.
        recalled: the passages in the prompt, best first.
        session: the name of the memory that holds the exchange; None where it is not kept.
        searched: what the search of the turn has found.
        annotations: the citations of what was found in the text.
    """

    text: str
    reason: str
    prompt_tokens: int
    answer_tokens: int
    memory_tokens: int
    recalled: tuple[RetrievedPassage, ...]
    session: str | None = None
    searched: Searched | None = None
    annotations: tuple[dict[str, Any], ...] = ()


def take_turn(service: Service, turn: Turn) -> Generator[Begun | str | Reply, None, None]:
    """Yields `Begun`, the parts of the reply, and the reply, and `PAUSE` in between. It runs in the engine's thread.

    Raises UnknownMemory, ApiError and UsageError before anything is changed.
    """
    begun, metrics, is_first, is_over, charged = time.monotonic(), service.metrics, True, False, 0
    try:
        with closing(_turn(service, turn)) as parts:  # a lease ends in the thread that has taken it
            for part in parts:
                if part == "":
                    yield PAUSE
                    continue
                used = _tokens_so_far(part, charged)
                # As they are used: a client that leaves has used them too.
                service.rates.charge(turn.owner, used - charged)
                charged = used
                if isinstance(part, str) and is_first:
                    metrics.first_token.observe(time.monotonic() - begun)
                    is_first = False
                if isinstance(part, Reply):
                    metrics.prompt_tokens.inc(part.prompt_tokens)
                    metrics.memory_tokens.inc(part.memory_tokens)
                    metrics.answer_tokens.inc(part.answer_tokens)
                    is_over = True
                yield part
    except GeneratorExit:
        if not is_over:
            metrics.left.inc()
        raise


def _tokens_so_far(part: Begun | str | Reply, before: int) -> int:
    """The tokens that a turn has used up to a part; a part of the text counts as one until the reply says it."""
    match part:
        case Begun():
            return part.prompt_tokens
        case Reply():
            return part.prompt_tokens + part.answer_tokens
    return before + 1


def _turn(service: Service, turn: Turn) -> Generator[Begun | str | Reply, None, None]:
    library = service.library
    with ExitStack() as stack:
        named = [] if turn.memory is None else [library.open(turn.owner, turn.memory)]
        searched = None if turn.search is None else turn.search.found(library, turn.owner, turn.message)
        options = {} if searched is None else searched.chat_options
        if turn.session is None:
            memory, earlier = service.lm.new_memory(), turn.history
            chat = _chat(service, turn, memory, also=named, earlier=earlier, **options)
            yield from _replying(chat, turn, searched)
            return
        going_on = continued(library, turn.owner, turn.session, turn.history, make=turn.make)
        branch = stack.enter_context(going_on)
        chat = _chat(service, turn, branch.memory, also=named, **options)
        for exchange in branch.new:
            chat.remember(exchange.user, exchange.assistant)
        for part in _replying(chat, turn, searched):
            if isinstance(part, Reply):
                chat.remember(turn.message, part.text, **({} if turn.meta is None else turn.meta(part)))
                part = replace(part, session=branch.name)
            yield part


def _chat(service: Service, turn: Turn, memory: Any, **options: Any) -> Chat:
    sampling, answerer = turn.sampling, service.answerer
    return Chat(service.lm, memory, system=turn.system, sampling=sampling, answerer=answerer, **options)


def _replying(chat: Chat, turn: Turn, searched: Searched | None) -> Iterator[Begun | str | Reply]:
    messages = chat.messages(turn.message)
    if searched is not None and searched.is_strict and turn.sampling.constraint is None and _is_alone(chat, messages):
        yield Begun(searched)
        yield SILENCE
        yield Reply(SILENCE, "stop", 0, 0, 0, (), searched=searched)
        return
    sent = _count(
        chat, [*_system(turn), *_written(turn.history if chat.earlier is not None else ()), _user(turn.message)]
    )
    counted = _count(chat, messages)
    yield Begun(searched, counted)
    text, reason, usage = "", "stop", None
    reply = stopped(chat.parts(turn.message, messages), turn.stops)
    while True:
        try:
            part = next(reply)
        except StopIteration as end:
            usage = end.value
            break
        text += part
        yield part
    if isinstance(usage, Usage):
        prompt, written = usage.prompt_tokens, usage.answer_tokens
        limit = min(turn.sampling.max_new_tokens, window_of(chat.answerer) - prompt)
        reason = "length" if written >= limit else "stop"
    else:
        prompt, written = counted, len(plain_ids(chat.lm.tokenizer, text))
    if turn.sampling.constraint is not None and not is_json(text):
        reason = "length"  # also where the model repeated itself without end
    memory_tokens = min(max(0, counted - sent), prompt)
    cited = () if searched is None else searched.annotations(text, chat.recalled)
    yield Reply(text, reason, prompt, written, memory_tokens, chat.recalled, searched=searched, annotations=cited)


def _is_alone(chat: Chat, messages: list[Message]) -> bool:
    """Whether nothing that could answer a message stands in its prompt: no passage, and no earlier exchange."""
    return not chat.recalled and all(message["role"] != "assistant" for message in messages)


def _count(chat: Chat, messages: list[Message]) -> int:
    return len(chat.lm.prompt_ids(messages))


def _system(turn: Turn) -> list[Message]:
    return [] if turn.system is None else [{"role": "system", "content": turn.system}]


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _written(history: Sequence[Exchange]) -> list[Message]:
    pairs = ((_user(exchange.user), {"role": "assistant", "content": exchange.assistant}) for exchange in history)
    return [message for pair in pairs for message in pair]
