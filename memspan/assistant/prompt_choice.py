"""The choice of the passages that enter a prompt: those that the model can use, within its budget and its window."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memspan.assistant import prompts
from memspan.assistant.prompt_budget import MAX_SCORE_GAP, PromptBudget
from memspan.assistant.retrieved import RetrievedPassage, distinct
from memspan.data.plain_text import Message, plain_tokens
from memspan.errors import UsageError
from memspan.memory.context import context_of

SOURCE_SHARE = 0.5  # of the budget, for one source while others score near the best passage too
COUNTING_MARGIN = 0.2  # of the window, where the tokens of another model's tokenizer are only estimated


@dataclass(frozen=True)
class Room:
    """The room for a prompt: a window, of which the answer takes up to `max_new_tokens`, but never more than half.

    Attributes:
        tokenizer: counts the tokens.
        is_estimate: the window is that of a model with another tokenizer; a margin is kept.
    """

    tokenizer: Any
    window: int
    max_new_tokens: int
    is_estimate: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of a prompt, at most."""
        window = int(self.window * (1 - COUNTING_MARGIN)) if self.is_estimate else self.window
        return window - min(self.max_new_tokens, window // 2)

    def left(self, prompt: "Prompt") -> int:
        """Tokens that a prompt leaves free."""
        return self.tokens - prompt.tokens

    def count(self, messages: Sequence[Message]) -> int:
        """The tokens of a prompt, in the tokenizer's chat template if it has one."""
        return len(prompts.prompt_ids(self.tokenizer, messages))


@dataclass(frozen=True)
class Prompt:
    """The messages of a prompt.

    Attributes:
        passages: quoted in it, best first.
        texts: as they are quoted and numbered, from 1.
        numbers: of the texts that hold the passages.
        tokens: of the prompt.
    """

    messages: tuple[Message, ...]
    passages: tuple[RetrievedPassage, ...]
    texts: tuple[prompts.Quotation, ...]
    numbers: tuple[int, ...]
    tokens: int


def choose(room: Room, question: str, found: Sequence[RetrievedPassage], budget: PromptBudget) -> Prompt:
    """The prompt for a question with the passages of `found`, best first, that the model can use, and that fit.

    The best passage is read in any case, as far as there is room for it.

    Raises:
        UsageError: there is no room for a single token of the best passage.
    """
    return _fitted(room, question, within_budget(found, budget.tokens, budget.passages, budget.max_score_gap))


def budget_within(room: Room, question: str, budget: PromptBudget, tokens: int | None) -> PromptBudget:
    """The budget, cut to the tokens that fit with the question into a prompt.

    Args:
        tokens: of retrieved text, as a user has set them; None if not.

    Raises:
        UsageError: there is no room for any retrieved text, or for so many tokens of it.
    """
    alone = room.count(_messages(question, [prompts.Quotation("", "")]))
    fitting = room.tokens - alone
    if fitting < 1:
        raise _too_long(room, alone)
    if tokens is not None and tokens > fitting:
        raise UsageError(
            f"The budget must be at most {fitting} tokens, so that the model's window of {room.window} also holds the "
            f"question and an answer, got {tokens}."
        )
    return replace(budget, tokens=min(budget.tokens, fitting))


def within_budget(
    passages: Sequence[RetrievedPassage],
    budget: int,
    most: int | None = None,
    max_score_gap: float | None = MAX_SCORE_GAP,
) -> list[RetrievedPassage]:
    """The best passage, and the next best as far as they fit into `budget` tokens; best first.

    Where several sources score near it, the passages of each fill `SOURCE_SHARE` of the budget before any gets more.

    Args:
        passages: of a search, best first.
        most: passages; None for as many as fit.
        max_score_gap: passages that score further below the best of each round of the search are left out; None leaves
            out none.
    """
    near = list(distinct(passages if max_score_gap is None else _near(passages, max_score_gap)))
    shares = (1.0,) if len({passage.source for passage in near}) == 1 else (SOURCE_SHARE, 1.0)
    chosen: set[int] = set()
    taken: Counter[str] = Counter()  # tokens by source
    for share in shares:
        for number, passage in enumerate(near):
            fits = taken.total() + passage.tokens <= budget and taken[passage.source] + passage.tokens <= share * budget
            fits = fits and (most is None or len(chosen) < most)
            if number not in chosen and (fits or not chosen):
                chosen.add(number)
                taken[passage.source] += passage.tokens
    return [near[number] for number in sorted(chosen)]


def _near(passages: Sequence[RetrievedPassage], gap: float) -> list[RetrievedPassage]:
    """Those of the passages, best first, that score less than `gap` below the best, in the first round or in the second.

    What the second round finds is what the best passage lacks: it stands far below that, and is needed beside it.
    """
    return [
        passage
        for passage in passages
        if passage.score > passages[0].score - gap or (passage.second_gap is not None and passage.second_gap < gap)
    ]


def in_reading_order(passages: Sequence[RetrievedPassage]) -> list[prompts.Quotation]:
    """The texts of passages, given best first, as they are quoted: by source, the source of the best first, then by position.

    Passages that follow one another in a source become one text, which is exactly the text of the source there, unless
    different things hold of them, such as their speaker.
    """
    return [
        prompts.Quotation(run[0].source, "".join(passage.text for passage in run), run[0].marks, run[0].happened)
        for run in _runs(passages)
    ]


def _runs(passages: Sequence[RetrievedPassage]) -> list[list[RetrievedPassage]]:
    """The passages in the order in which they are quoted, those in a list that become one text."""
    sources = list(dict.fromkeys(passage.source for passage in passages))
    runs: list[list[RetrievedPassage]] = []
    for passage in sorted(passages, key=lambda passage: (sources.index(passage.source), passage.start)):
        last = runs[-1][-1] if runs else None
        follows = last is not None and (last.source, last.end) == (passage.source, passage.start)
        if last is not None and follows and _same_label(last, passage):
            runs[-1].append(passage)
        else:
            runs.append([passage])
    return runs


def _same_label(first: RetrievedPassage, second: RetrievedPassage) -> bool:
    """Whether the same is shown of two passages, apart from what their texts say themselves."""
    shown = [(text.marks.get("page"), context_of(text.marks, text.happened)) for text in (first, second)]
    return shown[0] == shown[1]


def _messages(question: str, passages: Sequence[prompts.Quotable]) -> list[Message]:
    return [{"role": "user", "content": prompts.question_message(question, passages)}]


def _fitted(room: Room, question: str, passages: Sequence[RetrievedPassage]) -> Prompt:
    """The prompt with as many of the passages, best first, as fit with their quotation marks."""
    frame = room.count(_messages(question, in_reading_order([replace(passages[0], text="")])))
    if frame >= room.tokens:  # what holds of the passages takes the room of their text
        passages = [replace(passage, marks={}, happened=None) for passage in passages]
        frame = room.count(_messages(question, in_reading_order([replace(passages[0], text="")])))
    kept = list(passages)
    while (tokens := room.count(messages := _messages(question, texts := in_reading_order(kept)))) > room.tokens:
        last = kept.pop()
        if not kept:
            shorter = _shortened(room.tokenizer, last, (room.tokens - frame) / (tokens - frame))
            if shorter is None:
                raise _too_long(room, frame)
            kept = [shorter]
    numbers = {passage: number for number, run in enumerate(_runs(kept), start=1) for passage in map(id, run)}
    return Prompt(tuple(messages), tuple(kept), tuple(texts), tuple(numbers[id(passage)] for passage in kept), tokens)


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
