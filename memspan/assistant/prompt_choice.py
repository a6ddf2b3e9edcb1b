"""The choice of the passages that enter a prompt: near the best in score, within a budget, and within the window."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memspan.assistant import prompts
from memspan.assistant.retriever import RetrievedPassage, distinct
from memspan.data.plain_text import Message, plain_tokens
from memspan.errors import UsageError

# Each measured on questions outside the benchmarks, see LOG.md.
BUDGET = 640  # tokens of retrieved text in a prompt
SOURCE_SHARE = 0.5  # of the budget, for one source while others score near the best passage too
MAX_SCORE_GAP = 1.0  # a passage that scores further below the best distracts a small model more than it helps


@dataclass(frozen=True)
class Room:
    """The room for a prompt: a window, of which the answer takes up to `max_new_tokens`, but never more than half."""

    tokenizer: Any
    window: int
    max_new_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of a prompt, at most."""
        return self.window - min(self.max_new_tokens, self.window // 2)

    def count(self, messages: Sequence[Message]) -> int:
        """The tokens of a prompt, in the tokenizer's chat template if it has one."""
        return len(prompts.prompt_ids(self.tokenizer, messages))


@dataclass(frozen=True)
class Prompt:
    """The messages of a prompt, the passages quoted in them, best first, and the number of tokens."""

    messages: tuple[Message, ...]
    passages: tuple[RetrievedPassage, ...]
    tokens: int


def choose(room: Room, question: str, found: Sequence[RetrievedPassage], budget: int) -> Prompt:
    """The prompt for a question with the passages of `found`, best first, that are near the best, and that fit.

    Args:
        budget: tokens of retrieved text; the best passage is read in any case, as far as there is room for it.

    Raises:
        UsageError: there is no room for a single token of the best passage.
    """
    return _fitted(room, question, within_budget(found, budget))


def budget_within(room: Room, question: str, budget: int | None) -> int:
    """The tokens of retrieved text, at most `budget`, that fit with the question into a prompt."""
    alone = room.count(_messages(question, [prompts.Quotation("", "")]))
    fitting = room.tokens - alone
    if fitting < 1:
        raise _too_long(room, alone)
    if budget is not None and budget > fitting:
        raise UsageError(
            f"The budget must be at most {fitting} tokens, so that the model's window of {room.window} also holds the "
            f"question and an answer, got {budget}."
        )
    return min(BUDGET, fitting) if budget is None else budget


def within_budget(passages: Sequence[RetrievedPassage], budget: int) -> list[RetrievedPassage]:
    """The best passage, and those that score near it as far as they fit into `budget` tokens; best first.

    Where several sources score near it, the passages of each fill `SOURCE_SHARE` of the budget before any gets more.

    Args:
        passages: of a search, best first.
    """
    near = list(distinct(passage for passage in passages if passage.score > passages[0].score - MAX_SCORE_GAP))
    shares = (1.0,) if len({passage.source for passage in near}) == 1 else (SOURCE_SHARE, 1.0)
    chosen: set[int] = set()
    taken: Counter[str] = Counter()  # tokens by source
    for share in shares:
        for number, passage in enumerate(near):
            fits = taken.total() + passage.tokens <= budget and taken[passage.source] + passage.tokens <= share * budget
            if number not in chosen and (fits or not chosen):
                chosen.add(number)
                taken[passage.source] += passage.tokens
    return [near[number] for number in sorted(chosen)]


def _messages(question: str, passages: Sequence[prompts.Quotable]) -> list[Message]:
    return [{"role": "user", "content": prompts.question_message(question, passages)}]


def _fitted(room: Room, question: str, passages: Sequence[RetrievedPassage]) -> Prompt:
    """The prompt with as many of the passages, best first, as fit with their quotation marks."""
    frame = room.count(_messages(question, [replace(passages[0], text="")]))
    kept = list(passages)
    while (tokens := room.count(messages := _messages(question, kept))) > room.tokens:
        last = kept.pop()
        if not kept:
            shorter = _shortened(room.tokenizer, last, (room.tokens - frame) / (tokens - frame))
            if shorter is None:
                raise _too_long(room, frame)
            kept = [shorter]
    return Prompt(tuple(messages), tuple(kept), tokens)


def _shortened(tokenizer: Any, passage: RetrievedPassage, share: float) -> RetrievedPassage | None:
    """The first `share`, below 1, of a passage; None if no token remains."""
    _, spans = plain_tokens(tokenizer, passage.text)
    tokens = int(share * len(spans))
    if tokens < 1:
        return None
    end = spans[tokens - 1][1]
    return replace(passage, text=passage.text[:end], end=passage.start + end, tokens=tokens)


def _too_long(room: Room, tokens: int) -> UsageError:
    return UsageError(
        f"The prompt without any retrieved text must be below {room.tokens} tokens, so that the model's window of "
        f"{room.window} holds it with an answer, got {tokens}: shorten the question, or let the answer have fewer tokens."
    )
