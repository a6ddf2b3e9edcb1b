"""Replies to customers: by intent where the intent is known, from the knowledge where that says something, else by a person."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memspan.apps.support.entities import entities, filled, missing
from memspan.apps.support.folder import AGAIN, INTENT, Folder
from memspan.apps.support.intents import Guess
from memspan.apps.support.past_answers import PERSON, PastAnswer
from memspan.apps.support.phrases import language, phrase, wanted
from memspan.apps.support.store import Customer, HandOver, Turn
from memspan.assistant.answer import Answer
from memspan.assistant.answerers.base import Answerer
from memspan.assistant.confidence import SUPPORTED, confidence, require_confidence
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.quotes import Evidence
from memspan.assistant.screen import Screen
from memspan.data.plain_text import Message
from memspan.errors import NoMatch, UsageError, require_type
from memspan.memory import Filter
from memspan.models.generate import Sampling

# The kinds of replies.
TEMPLATE, PAST, KNOWLEDGE, QUESTION, HAND_OVER = "template", "past answer", "knowledge", "question", "hand-over"
CANDIDATES = 8  # past answers that are looked at, best first
LONGEST = 1000  # characters of a message that are searched with
SURE = 0.9  # confidence in an intent that neither the knowledge nor the intent before it can outweigh
SAME_QUESTION = 0.6  # confidence from which a person's answer is given again where no intent is known


@dataclass(frozen=True)
class Reply:
    """A reply to a customer.

    Attributes:
        kind: `template`, `past answer`, `knowledge`, `question` (for what a template needs) or `hand-over`.
        guess: what the message was taken for; None without intents.
        sources: what the reply rests on: documents with the quoted text, or the number of the past answer.
        support: how far the knowledge supports an answer, 0 to 1; None where it was not looked at.
        reason: why a person is to answer.
        hand_over: the number of the question in the queue.
        answered: answers of persons to earlier questions, which are shown with this reply.
        pending: the intent whose template waits for what the reply asks for.
    """

    text: str
    kind: str
    guess: Guess | None = None
    sources: tuple[dict[str, Any], ...] = ()
    support: float | None = None
    reason: str | None = None
    hand_over: int | None = None
    answered: tuple[HandOver, ...] = ()
    pending: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        guess = self.guess
        return {
            "reply": self.text,
            "kind": self.kind,
            "intent": guess.intent if guess is not None and guess.is_known else None,
            "likeliest_intent": None if guess is None else guess.intent,
            "intent_confidence": None if guess is None else guess.confidence,
            "knowledge_confidence": self.support,
            "sources": list(self.sources),
            "reason": self.reason,
            "hand_over": self.hand_over,
            "answered": [
                {"id": earlier.id, "message": earlier.message, "answer": earlier.answer} for earlier in self.answered
            ],
        }


@dataclass(frozen=True)
class Quoting:
    """An answerer that writes nothing: the quotes of the answer are the reply."""

    name: str = "quotes"
    window: int | None = None

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        return iter(())


@dataclass(frozen=True)
class Settings:
    """How replies are chosen.

    Attributes:
        min_confidence: how far the knowledge must support an answer, 0 to 1; a person answers what it supports less.
        answerer: what writes answers from the knowledge; None quotes it.
        sampling: of a written answer.
        screen: looks at each reply; a person answers where one of its guards has a reason to withhold it.
    """

    min_confidence: float = SUPPORTED
    answerer: Answerer | None = None
    sampling: Sampling = field(default_factory=Sampling)
    screen: Screen = field(default_factory=Screen)

    def __post_init__(self) -> None:
        require_confidence("min_confidence", self.min_confidence)


@dataclass
class Desk:
    """Answers customers from a support folder."""

    folder: Folder
    lm: LanguageModel
    settings: Settings = field(default_factory=Settings)

    def reply(self, message: str, customer: str) -> Reply:
        """The reply to a message, which is kept with it before it is returned.

        Raises UsageError for an empty message or customer.
        """
        for name, value in (("message", message), ("customer", customer)):
            require_type(name, value, str, "a string")
            if not value.strip():
                raise UsageError(f"The {name} must not be empty.")
        store = self.folder.store
        state = store.customer(customer)
        reply = replace(self.chosen(message, state), answered=state.answered)
        turn = Turn(
            customer,
            message,
            reply.text,
            reply.kind,
            reply.guess.intent if reply.guess is not None and reply.guess.is_known else None,
            None if reply.guess is None else reply.guess.confidence,
            reply.sources,
            entities(message),
            reply.reason,
            reply.pending,
            [hand_over.id for hand_over in state.answered],
        )
        number = store.record(turn)
        return reply if number is None else replace(reply, text=reply.text.format(ticket=number), hand_over=number)

    def chosen(self, message: str, state: Customer) -> Reply:
        """The reply to a message of a customer of whom this is known; nothing is kept."""
        reply = self._unscreened(message, state)
        reason = None if reply.kind == HAND_OVER else self.settings.screen.reason(message, reply.text, ())
        if reason is None:
            return reply
        return self._handed_over(message, state, reply.guess, f"the reply is withheld: {reason}")

    def _unscreened(self, message: str, state: Customer) -> Reply:
        """The reply before any guard has seen it."""
        found = entities(message)
        values = {**state.entities, **{entity.kind: entity.value for entity in found}}
        guess = self._guess(message, state, {entity.kind for entity in found})
        if guess is None:
            return self._looked_up(message, state, guess, values)
        if not guess.is_known:
            reason = (
                f"the message fits no intent: the likeliest, '{guess.intent}', has a confidence of {guess.confidence:.2f}, "
                f"below {guess.threshold:.2f}"
            )
            return self._looked_up(message, state, guess, values, reason)
        if guess.threshold > 0 and guess.confidence < SURE:
            answer = self._from_documents(message)
            if answer is not None and answer.is_answered and answer.confidence > guess.confidence:
                return self._from_knowledge(answer, guess)
        if guess.intent in self.folder.to_person:
            return self._handed_over(message, state, guess, f"messages of the intent '{guess.intent}' go to a person")
        reason = f"nothing is known to reply to the intent '{guess.intent}'"
        return self._by_intent(message, guess, values) or self._looked_up(message, state, guess, values, reason)

    # ---- the steps

    def _guess(self, message: str, state: Customer, kinds: set[str]) -> Guess | None:
        """What a message is taken for; one that only says what was asked for goes on with the intent that waits for it."""
        guess = None if self.folder.intents is None else self.folder.intents.guess(message)
        if guess is None or state.pending is None or not kinds:
            return guess
        if guess.is_known and guess.intent != state.pending and guess.confidence >= SURE:
            return guess  # something else
        return Guess(state.pending, guess.confidence, threshold=0.0)  # whatever the confidence

    def _by_intent(self, message: str, guess: Guess, values: Mapping[str, str]) -> Reply | None:
        """A template of the intent, or the best past answer to a message of it; None if there is neither."""
        spoken = language(message)
        templates = [template.reply for template in self.folder.templates if template.intent == guess.intent]
        template = next((text for text in templates if language(text) == spoken), None)
        if template is not None:
            return self._completed(template, TEMPLATE, guess, values, spoken)
        answers = [
            (number, answer)
            for number, answer, _ in self._recalled(message, Filter(where={INTENT: guess.intent}))
            if language(answer.reply) == spoken
        ]
        complete = [pair for pair in answers if not missing(pair[1].reply, values)]
        for number, answer in (*complete, *answers):
            source = {"past_answer": number, "message": answer.message}
            return self._completed(answer.reply, PAST, guess, values, spoken, source)
        return None

    # The parameters are what a text needs to become a reply.
    def _completed(
        self,
        text: str,
        kind: str,
        guess: Guess,
        values: Mapping[str, str],
        spoken: str,
        source: dict[str, Any] | None = None,
    ) -> Reply:
        """A text with the entities of the customer, or the request for those that it lacks."""
        lacking = missing(text, values)
        if lacking:
            return Reply(wanted(lacking, spoken), QUESTION, guess, pending=guess.intent)
        return Reply(filled(text, values), kind, guess, () if source is None else (source,))

    # The parameters are the message, and what is known of it.
    def _looked_up(
        self, message: str, state: Customer, guess: Guess | None, values: Mapping[str, str], reason: str = ""
    ) -> Reply:
        """What a person has answered to the same question, or what the knowledge says, or a hand-over for this reason."""
        again = self._again(message, guess, values)
        if again is not None:
            return again
        answer = self._from_documents(message)
        if answer is not None and answer.is_answered:
            return self._from_knowledge(answer, guess)
        support = 0.0 if answer is None else answer.confidence
        unsupported = f"the knowledge supports an answer by {support:.2f}, below {self.settings.min_confidence:.2f}"
        reasons = "; ".join(part for part in (reason, unsupported) if part)
        return replace(self._handed_over(message, state, guess, reasons), support=support)

    def _again(self, message: str, guess: Guess | None, values: Mapping[str, str]) -> Reply | None:
        """What a person, or a dialogue without an intent, has answered to the same question; None if nothing has."""
        sure = max(SAME_QUESTION, self.settings.min_confidence)
        for number, answer, support in self._recalled(message, Filter(where=AGAIN), least=sure):
            if not missing(answer.reply, values) and language(answer.reply) == language(message):
                source = {"past_answer": number, "message": answer.message, "by_person": answer.origin == PERSON}
                return Reply(filled(answer.reply, values), PAST, guess, (source,), support)
        return None

    def _recalled(
        self, message: str, filter: Filter, least: float = 0.0
    ) -> Iterator[tuple[int, PastAnswer, float | None]]:
        """Past answers to messages like this, best first, with their numbers and confidences."""
        memory = self.folder.answers(self.lm)
        if len(memory) == 0:
            return
        view, answers = memory.view(), self.folder.past_answers
        try:
            found = self.lm.search(view, message[:LONGEST], top=CANDIDATES, rerank=0, filter=filter)
        except NoMatch:
            return
        for passage in found:
            support = confidence(Evidence(view, message[:LONGEST], [passage], self.lm.retriever)) if least > 0 else None
            number = self.folder.number_of(passage.source)
            if number in answers and (support is None or support >= least):
                yield number, answers[number], support

    def _from_documents(self, message: str) -> Answer | None:
        """The answer of the knowledge; None where there is none."""
        memory = self.folder.knowledge(self.lm)
        if len(memory) == 0:
            return None
        settings = self.settings
        return self.lm.ask(
            memory,
            message[:LONGEST],
            sampling=settings.sampling,
            answerer=Quoting() if settings.answerer is None else settings.answerer,
            min_confidence=settings.min_confidence,
        )

    def _from_knowledge(self, answer: Answer, guess: Guess | None) -> Reply:
        """The quotes of an answer, or what was written from its passages, with the documents."""
        quotes: list[dict[str, Any]] = [
            {
                "number": number,
                "source": quote.source,
                "location": str(quote.location),
                "text": " ".join(quote.text.split()),
            }
            for number, quote in enumerate(answer.quotes, 1)
        ]
        if self.settings.answerer is None:
            text = " ".join(f"{quote['text']} [{quote['number']}]" for quote in quotes)
            return Reply(text, KNOWLEDGE, guess, tuple(quotes), answer.confidence)
        cited = sorted({position for citation in answer.citations for position in citation.passages})
        passages = [
            {"number": answer.numbers[position], "source": passage.source, "location": "", "text": passage.text}
            for position, passage in enumerate(answer.passages)
            if position in cited
        ]
        return Reply(answer.text, KNOWLEDGE, guess, tuple(passages or quotes), answer.confidence)

    def _handed_over(self, message: str, state: Customer, guess: Guess | None, reason: str) -> Reply:
        name = "handed over" if state.open is None else "still open"
        text = phrase(name, language(message), ticket="{ticket}")
        return Reply(text, HAND_OVER, guess, reason=reason)
