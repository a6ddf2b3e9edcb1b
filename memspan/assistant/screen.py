"""A screen before answers: guards look at each before anything of it is shown, and what is flagged can go to a person."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace

from memspan.assistant.answer import Answer
from memspan.assistant.confidence import SUPPORTED, require_confidence
from memspan.assistant.guards import Guard, GuardFunction, as_guard
from memspan.assistant.retrieved import RetrievedPassage

HIDDEN = "[withheld]"  # in place of a passage or a quote


@dataclass(frozen=True)
class Flagged:
    """An answer that a guard has withheld, or that the memory may not support.

    Attributes:
        answer: as it was written, also where it is withheld.
        passages: behind it, with their texts.
        reason: why it is flagged.
        confidence: from 0 to 1; None for a reply of a chat without passages.
        is_withheld: whether it was not shown.
    """

    question: str
    answer: str
    passages: tuple[RetrievedPassage, ...]
    reason: str
    confidence: float | None
    is_withheld: bool


class Screen:
    """What answers pass before they are shown. An answer is shown as a whole, after all guards have seen it.

    A guard that fails counts as a reason: the answer is withheld.
    """

    def __init__(
        self,
        guards: Iterable[Guard | GuardFunction] = (),
        on_flag: Callable[[Flagged], None] | None = None,
        review_below: float = SUPPORTED,
    ) -> None:
        """
        Args:
            guards: `Guard` objects, or functions of question, answer and passages that return a reason or None.
            on_flag: called with each answer that is flagged, before anything is shown; what it raises goes on.
            review_below: with `on_flag`, answers whose confidence is smaller are flagged, and shown all the same. 0 flags none.

        Raises UsageError for what is no guard, and for what is no confidence.
        """
        require_confidence("review_below", review_below)
        self.guards = tuple(as_guard(guard) for guard in guards)
        self.on_flag, self.review_below = on_flag, review_below

    def reason(self, question: str, text: str, passages: Sequence[RetrievedPassage]) -> str | None:
        """The first reason of a guard to withhold a text; None without any."""
        for guard in self.guards:
            try:
                found = guard.reason(question, text, passages)
            except Exception as error:  # a guard that fails must not let the answer through
                return f"the guard {guard.name} failed ({type(error).__name__})"
            if found is not None:
                return str(found).strip().rstrip(".") or f"the guard {guard.name} objects"
        return None

    def screened(self, question: str, parts: Generator[str, None, Answer]) -> Generator[str, None, Answer]:
        """Yields the text of an answer once it is complete and was looked at; returns what is left of the answer."""
        answer = self.answer(question, _exhausted(parts))
        yield answer.text
        return answer

    def answer(self, question: str, answer: Answer) -> Answer:
        """The answer as it is shown: without passages and quotes that a guard hides, or withheld, with the reason."""
        reason = self.reason(question, answer.text, answer.passages) if answer.is_answered else None
        if reason is not None:
            self._flag(question, answer.text, answer.passages, reason, answer.confidence, is_withheld=True)
            text = self._withheld(reason)
            return Answer(
                text,
                (),
                answer.memory_tokens,
                answer.prompt_tokens,
                answer.answer_tokens,
                answer.seconds,
                confidence=answer.confidence,
                is_answered=False,
                withheld=reason,
            )
        if answer.confidence < self.review_below:
            what = "" if answer.is_answered else "the memory says nothing about the question: "
            low = f"{what}confidence {answer.confidence:.2f}, below {self.review_below:.2f}"
            self._flag(question, answer.text, answer.passages, low, answer.confidence)
        quotes = tuple(quote for quote in answer.quotes if not self._hides(quote.text))
        return replace(
            answer, passages=self.shown(answer.passages), condensed=self.shown(answer.condensed), quotes=quotes
        )

    def reply(self, message: str, reply: str, passages: Sequence[RetrievedPassage]) -> str:
        """The reply of a chat as it is shown and kept: itself, or the sentence that it is withheld."""
        confidence = max((passage.confidence or 0.0 for passage in passages), default=None)
        reason = self.reason(message, reply, passages)
        if reason is not None:
            self._flag(message, reply, passages, reason, confidence, is_withheld=True)
            return self._withheld(reason)
        if confidence is not None and confidence < self.review_below:
            low = f"confidence {confidence:.2f}, below {self.review_below:.2f}"
            self._flag(message, reply, passages, low, confidence)
        return reply

    def shown(self, passages: Sequence[RetrievedPassage]) -> tuple[RetrievedPassage, ...]:
        """The passages; the text of those that a guard hides is `HIDDEN`."""
        return tuple(
            replace(passage, text=HIDDEN, statements=(), marks={})
            if self._hides(passage.text)
            else self._stated(passage)
            for passage in passages
        )

    def _stated(self, passage: RetrievedPassage) -> RetrievedPassage:
        """The passage, without what other passages state that a guard hides."""
        statements = tuple(item for item in passage.statements if not self._hides(item.text))
        return passage if len(statements) == len(passage.statements) else replace(passage, statements=statements)

    def _hides(self, text: str) -> bool:
        for guard in self.guards:
            try:
                if guard.hides(text):
                    return True
            except Exception:  # as for an answer
                return True
        return False

    # The parameters are the fields of what is flagged.
    def _flag(
        self,
        question: str,
        answer: str,
        passages: Sequence[RetrievedPassage],
        reason: str,
        confidence: float | None,
        is_withheld: bool = False,
    ) -> None:
        if self.on_flag is not None:
            self.on_flag(Flagged(question, answer, tuple(passages), reason, confidence, is_withheld))

    def _withheld(self, reason: str) -> str:
        until = "" if self.on_flag is None else " until a person has looked at it"
        return f"This answer is withheld{until}: {reason}."


def _exhausted(parts: Generator[str, None, Answer]) -> Answer:
    """The answer at the end of its parts."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            found: Answer = end.value
            return found
