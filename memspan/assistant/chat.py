"""A conversation that is kept in a memory: exchanges that left the window are retrieved when they bear on the message."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memspan.assistant.answerers.base import Answerer, PromptTooLong, answer_parts, window_of
from memspan.assistant.answerers.local import LocalAnswerer
from memspan.assistant.asking import LEAST_FOUND
from memspan.assistant.complement import with_complement
from memspan.assistant.condensed import answerer_behind, further
from memspan.assistant.confidence import MIN_CONFIDENCE, require_confidence, supported
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.prompt_budget import PASSAGE_TOKENS, default_budget
from memspan.assistant.prompt_choice import in_reading_order, within_budget
from memspan.assistant.prompts import Quotable, chat_message
from memspan.assistant.retrieved import RetrievedPassage
from memspan.assistant.screen import Screen
from memspan.data.plain_text import Message, plain_ids
from memspan.data.redaction import REDACTED, Redaction
from memspan.errors import NoMatch, UsageError, require_whole
from memspan.memory import Contents, Filter, Memory, Passage, View
from memspan.memory.union import united
from memspan.models.generate import Sampling

KIND = "exchange"
TURNS = "turns"  # the name of the messages among the values that are kept with an exchange
TEMPLATE_TOKENS = 8  # approximate number of tokens that a chat template puts around a message


@dataclass(frozen=True)
class Exchange:
    """A message of the user and the reply of the model; `source` is the name of the exchange in the memory."""

    source: str
    user: str
    assistant: str

    @property
    def text(self) -> str:
        """The text that is read into the memory."""
        return f"User: {self.user}\n\nAssistant: {self.assistant}"


def latest_exchanges(memory: Contents) -> Iterator[Exchange]:
    """The exchanges that a memory holds, the latest first; they are looked up as they are taken."""
    for name in reversed(memory.sources):
        source = memory.sources[name]
        match source.meta.get(TURNS):
            case [["user", str(user)], ["assistant", str(assistant)]] if source.kind == KIND:
                yield Exchange(source.name, user, assistant)


class Chat:
    """A conversation in a memory. The exchanges of the memory are the transcript; the chat keeps no other.

    The prompt of each turn holds the most recent exchanges word for word, as many as fit into the window. Of everything
    else in the memory, older exchanges and documents alike, it holds the passages that bear on the user's message; where
    none does, none.

    Attributes:
        message: of the user in the last turn.
        recalled: the passages in the prompt of the last turn, best first, each with its confidence.
        condensed: further passages that the model read before that prompt in condensed form, best first.
    """

    # The parameters are the settings of a conversation.
    def __init__(
        self,
        lm: LanguageModel,
        memory: Memory,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        budget: int | None = None,
        passages: int | None = None,
        answerer: Answerer | None = None,
        filter: Filter | None = None,
        min_confidence: float = MIN_CONFIDENCE,
        redaction: Redaction | None = None,
        also: Sequence[Contents] = (),
        earlier: Sequence[Exchange] | None = None,
        screen: Screen | None = None,
        found: Sequence[RetrievedPassage] = (),
        message_with: Callable[[str, Sequence[Quotable]], str] = chat_message,
        condensed: int = 0,
        memory_weights: str | Path | None = None,
    ) -> None:
        """
        Args:
            memory: its exchanges are continued; each new exchange is appended to it.
            system: a system message, with instructions for the model; not remembered.
            sampling: how replies are sampled, and their maximum length.
            budget: tokens of retrieved text in a prompt, at most; None takes what the model that replies can use.
            passages: retrieved in a prompt, at most; None takes what that model can use.
            answerer: what writes the replies; None for the model itself.
            filter: the passages that may be recalled; None for all. The most recent exchanges are in the prompt in any case.
            min_confidence: of a passage in a prompt, from 0 to 1: how far it supports an answer to the message, see
                `memspan.assistant.confidence`. 0 recalls something for every message.
            redaction: what is taken out of an exchange before it is kept; the model sees the message as it is.
            also: further memories from which passages are recalled.
            earlier: the exchanges before the message, the oldest first; None for those of the memory.
            screen: what looks at a reply before any of it is shown. Of a reply that it withholds the memory keeps only the
                sentence that says so.
            found: passages of another search, best first, which enter every prompt before those that are recalled.
            message_with: the user's message with the passages of the prompt, of which there may be none.
            condensed: further passages that the model reads before a prompt which quotes some, condensed by its trained memory;
                the most recent exchanges leave room for them. The window is then read anew in such a turn.
            memory_weights: the folder of the run that trained that memory; None for what comes with memspan.

        Raises UsageError where passages are to be condensed, and the model has no trained memory or another one replies.
        """
        require_confidence("min_confidence", min_confidence)
        require_whole("condensed", condensed, least=0)
        if condensed and answerer is not None:
            raise UsageError("Condensed passages are read by the language model itself: let nothing else answer.")
        self._most_condensed = condensed
        self._condenser = lm.condensers.of(memory_weights) if condensed else None
        self.lm, self.memory, self.system = lm, memory, system
        own = lm.prompt_budget if answerer is None else default_budget(window_of(answerer))
        self.budget = own.limited(budget, passages)
        self.sampling = Sampling() if sampling is None else sampling
        self.filter, self.min_confidence, self.redaction = filter, min_confidence, redaction
        self.also, self.earlier = tuple(also), earlier
        self.screen = screen
        self.found, self._message_with = tuple(found), message_with
        self.message = ""
        self.recalled: tuple[RetrievedPassage, ...] = ()
        self.condensed: tuple[RetrievedPassage, ...] = ()
        self._found: tuple[View, tuple[RetrievedPassage, ...]] | None = None  # by the last search, and in which view
        self.answerer = answerer or LocalAnswerer(lm.tokenizer, lm.decoder, lm.name, keeps_prefix=True)
        self._lengths: dict[Exchange, int] = {}  # in tokens

    @property
    def transcript(self) -> tuple[Exchange, ...]:
        """All exchanges that the memory holds, the oldest first."""
        return tuple(reversed(list(latest_exchanges(self.memory))))

    def reply(self, text: str) -> Iterator[str]:
        """The reply to a message, in parts. When it ends, or the caller closes it early, the exchange is in the memory.

        Raises:
            UsageError: the message is empty, or does not fit into the window.
        """
        if not text.strip():
            raise UsageError("There is nothing to answer in an empty message.")
        return self._generate(text, self.messages(text))

    def forget_last(self) -> Exchange:
        """Forget the last exchange for good. Raises UsageError if there is none."""
        last = next(latest_exchanges(self.memory), None)
        if last is None:
            raise UsageError("There is no exchange to forget yet.")
        self.forget(last.source)
        return last

    def forget(self, pattern: str) -> list[str]:
        """Forget sources of the memory for good, as `Memory.forget` does, and whatever the last turn kept of them."""
        self.message, self.recalled, self.condensed, self._found = "", (), (), None
        if isinstance(self.answerer, LocalAnswerer):
            self.answerer.forget_prefix()
        return self.memory.forget(pattern)

    def prompt_ids(self, text: str) -> list[int]:
        """The ids of the messages for a message of the user, in the local model's tokenizer."""
        return self.lm.prompt_ids(self.messages(text))

    def messages(self, text: str, window: int | None = None) -> list[Message]:
        """The prompt for a message: system message, recent exchanges, retrieved passages and the message.

        Args:
            window: tokens of prompt and reply together; None for the window of the answerer.

        Raises:
            UsageError: the message alone does not fit into the window.
        """
        window = window_of(self.answerer) if window is None else window
        room = window - min(self.sampling.max_new_tokens, window // 2)
        alone = self._count(self._messages([], text))
        if alone > room:
            raise UsageError(
                f"The message must have at most {room} tokens to fit into the window, got {alone}: shorten it."
            )
        kept_free = min(self._most_condensed * PASSAGE_TOKENS, (room - alone) // 2)
        room -= kept_free
        budget = min(self.budget.tokens, (room - alone) // 2)
        own = self.memory.view()
        recent = self._most_recent(own, room - budget - alone)
        names = {exchange.source for exchange in recent}
        self.message, self.recalled = text, self._recall(own, text, budget, names)
        messages = self._with_recalled(recent, text)
        while self._count(messages) > room and (recent or self.recalled):  # lengths were estimates
            if recent:
                recent = recent[1:]
            else:
                self.recalled = self.recalled[:-1]
            messages = self._with_recalled(recent, text)
        self.condensed = self._to_condense(room + kept_free - self._count(messages))
        return messages

    def _to_condense(self, left: int) -> tuple[RetrievedPassage, ...]:
        """Further passages of the last search, within so many tokens; none where none of it bears on the message."""
        if self._found is None or not self.recalled or self._most_condensed == 0:
            return ()
        view, found = self._found
        return further(left, self.lm.tokenizer, self.recalled, found, self._most_condensed, view)

    def _recall(self, own: View, text: str, budget: int, without: Collection[str]) -> tuple[RetrievedPassage, ...]:
        """The passages within a budget of tokens: those of `found`, then those that bear on a message.

        Of the own sources `without` there are none: their exchanges stand in the prompt as they are.
        """
        given = self._within(self.found, budget, self.budget.passages)
        budget, most = budget - sum(passage.tokens for passage in given), self.budget.passages - len(given)
        top = max(LEAST_FOUND, self.budget.passages) + self._most_condensed
        self._found = None
        views = [view for view in (own, *(memory.view() for memory in self.also)) if len(view) > 0]
        if not views or most < 1:
            return given
        view, ours = united(views), len(own)

        def may_enter(passage: Passage) -> bool:  # the own passages are the first of the union
            return passage.number >= ours or own.passage(passage.number).source not in without

        try:
            # The likelihood of a message takes longer than reading the prompt, and changes next to nothing, see LOG.md.
            found = self.lm.retriever.search(view, text, top=top, by_likelihood=0, among=may_enter, filter=self.filter)
        except NoMatch:  # a filter may exclude all that was read so far
            return given
        self._found = view, tuple(found)
        encoder, found = self.lm.retriever.vectors.encoder, found[: top - self._most_condensed]
        found = with_complement(view, text, found, encoder, among=may_enter, filter=self.filter)
        chosen = self._within(found, budget, most)
        judged = supported(view, text, chosen, self.lm.retriever, 0.0)
        return (*given, *_bearing(judged, self.min_confidence))

    def _within(self, found: Sequence[RetrievedPassage], budget: int, most: int) -> tuple[RetrievedPassage, ...]:
        """The best of the passages of a search, within a budget of tokens and a number."""
        fitting = [passage for passage in found if passage.tokens <= budget]
        return tuple(within_budget(fitting, budget, most, self.budget.max_score_gap))

    def _with_recalled(self, recent: Sequence[Exchange], text: str) -> list[Message]:
        return self._messages(recent, self._message_with(text, in_reading_order(self.recalled)))

    def _most_recent(self, memory: Contents, room: int) -> list[Exchange]:
        """The last exchanges that fit into `room` tokens together, the oldest first."""
        recent: list[Exchange] = []
        for exchange in latest_exchanges(memory) if self.earlier is None else reversed(self.earlier):
            room -= self._length(exchange)
            if room < 0:
                break
            recent.insert(0, exchange)
        return recent

    def _length(self, exchange: Exchange) -> int:
        if exchange not in self._lengths:
            tokens = len(plain_ids(self.lm.tokenizer, exchange.text))
            self._lengths[exchange] = tokens + 2 * TEMPLATE_TOKENS
        return self._lengths[exchange]

    def _count(self, messages: list[Message]) -> int:
        return len(self.lm.prompt_ids(messages))

    def _messages(self, exchanges: Sequence[Exchange], text: str) -> list[Message]:
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for exchange in exchanges:
            messages.append({"role": "user", "content": exchange.user})
            messages.append({"role": "assistant", "content": exchange.assistant})
        return [*messages, {"role": "user", "content": text}]

    def _generate(self, text: str, messages: list[Message]) -> Generator[str, None, None]:
        reply = ""
        try:
            for part in self.parts(text, messages):
                reply += part
                yield part
        except (GeneratorExit, KeyboardInterrupt):
            if reply:
                self.remember(text, reply)
            raise
        self.remember(text, reply)

    def parts(self, text: str, messages: list[Message]) -> Generator[str, None, object]:
        """The parts of a reply to `messages(text)`, which is not remembered; returns the `Usage` if the answerer says it.

        With a screen it is the whole reply once it was looked at, or what takes its position.
        """
        written = self._written(text, messages)
        if self.screen is None:
            return (yield from written)
        whole, usage = _joined(written)
        reply = self.screen.reply(text, whole.strip(), self.recalled)
        self.recalled, self.condensed = self.screen.shown(self.recalled), self.screen.shown(self.condensed)
        yield reply
        return usage

    def _written(self, text: str, messages: list[Message]) -> Generator[str, None, object]:
        """The parts of the reply, to a shorter prompt if the answerer refuses this one for its length."""
        answerer = self.answerer
        if self._found is not None:
            view, _ = self._found
            answerer = answerer_behind(self._condenser, self.condensed, view, self.lm.tokenizer, answerer)
        try:
            return (yield from answer_parts(answerer, messages, self.sampling))
        except PromptTooLong as error:  # counted with another tokenizer, or an unknown window
            window = error.fitting_window(self._count(messages), self.sampling.max_new_tokens)
            return (yield from answer_parts(self.answerer, self.messages(text, window), self.sampling))

    def remember(self, user: str, assistant: str, **meta: Any) -> str:
        """Adds an exchange to the memory in one commit; returns its name. `meta` are JSON values kept with it."""
        redact = self.redaction or str
        if self.redaction is not None:
            meta[REDACTED] = self.redaction.name
        exchange = Exchange(self._free_name(), redact(user), redact(assistant.strip()))
        self.lm.remember(self.memory, exchange.text, source=exchange.source, kind=KIND, **_turns(exchange), **meta)
        return exchange.source

    def rewrite(self, exchange: Exchange, **meta: Any) -> None:
        """Puts another wording of an exchange into its position; what it said before is gone as after `forget`.

        `meta` are the JSON values that are kept with it from now on. Raises UsageError if there is no such exchange.
        """
        self.lm.reader.rewrite(self.memory, exchange.text, source=exchange.source, meta={**meta, **_turns(exchange)})

    def _free_name(self) -> str:
        """`chat/` and the time, numbered if it is taken: a clock may be set back."""
        name = base = f"chat/{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        count = 1
        while name in self.memory.sources:
            count += 1
            name = f"{base} ({count})"
        return name


def _turns(exchange: Exchange) -> dict[str, Any]:
    """The values by which `latest_exchanges` knows an exchange."""
    return {TURNS: [["user", exchange.user], ["assistant", exchange.assistant]]}


def _bearing(passages: Sequence[RetrievedPassage], least: float) -> list[RetrievedPassage]:
    """The passages of at least that confidence, and beside the best one its complement: it need not bear on the message alone."""
    bears = [passage.confidence is not None and passage.confidence >= least for passage in passages]
    best = bears[:1] == [True]
    return [
        passage for passage, alone in zip(passages, bears, strict=True) if alone or (best and passage.second_gap == 0.0)
    ]


def _joined(parts: Generator[str, None, object]) -> tuple[str, object]:
    """The text of all parts, and what the generator returns."""
    text = ""
    while True:
        try:
            text += next(parts)
        except StopIteration as end:
            return text, end.value
