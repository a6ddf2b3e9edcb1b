"""How a question is answered: search, choice of what enters the prompt, answer, and what can be checked about it."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

from memspan.assistant.answer import Answer
from memspan.assistant.answerers.base import Answerer, PromptTooLong, Usage, answer_parts, window_of
from memspan.assistant.citations import citations, resolved_parts
from memspan.assistant.complement import with_complement
from memspan.assistant.condensed import answerer_behind, further
from memspan.assistant.confidence import SILENCE, confidence, require_confidence
from memspan.assistant.prompt_budget import PromptBudget, default_budget
from memspan.assistant.prompt_choice import Prompt, Room, budget_within, choose, within_budget
from memspan.assistant.quotes import Evidence
from memspan.assistant.retrieved import RetrievedPassage
from memspan.assistant.retriever import RERANKED, Retriever
from memspan.assistant.surroundings import surrounded
from memspan.data.plain_text import plain_ids
from memspan.errors import require_type, require_whole
from memspan.memory import Filter, View
from memspan.models.generate import Sampling
from memspan.pretrained.condenser import Condenser

LEAST_FOUND = 8  # passages that are searched for, also where fewer enter the prompt: the first may be copies


@dataclass(frozen=True)
class Question:
    """A question, and how it is to be answered; the fields are arguments of `LanguageModel.ask`."""

    text: str
    sampling: Sampling = field(default_factory=Sampling)
    budget: int | None = None
    passages: int | None = None
    around: int = 0
    rerank: int = RERANKED
    filter: Filter | None = None
    min_confidence: float = 0.0
    condensed: int = 0
    memory_weights: str | Path | None = None

    def __post_init__(self) -> None:
        require_type("question", self.text, str, "a string")
        for name, least in (("budget", 0), ("passages", 1), ("around", 0), ("rerank", 0), ("condensed", 0)):
            value = getattr(self, name)
            if value is not None or name not in ("budget", "passages"):
                require_whole(name, value, least=least)
        require_type("sampling", self.sampling, Sampling, "a Sampling")
        require_type("filter", self.filter, (Filter, NoneType), "a memspan.Filter")
        require_type("memory_weights", self.memory_weights, (str, Path, NoneType), "a folder")
        require_confidence("min_confidence", self.min_confidence)


def answering(
    view: View,
    question: Question,
    retriever: Retriever,
    tokenizer: Any,
    answerer: Answerer,
    budget: PromptBudget | None = None,
    condenser: Condenser | None = None,
) -> Generator[str, None, Answer]:
    """Yields the answer in parts while it is written; returns it with the passages that it rests on.

    Below the smallest confidence of the question no answer is written: it is `SILENCE`, with the passages that were found.

    Args:
        budget: what the model behind the answerer can use, if `tokenizer` is its own; None for another model.
        condenser: reads the passages that the question wants condensed; None for none.

    Raises UsageError if the question or the budget does not fit into the window.
    """
    begun = time.perf_counter()
    if len(view) == 0:
        yield SILENCE
        return Answer(SILENCE, (), 0, 0, 0, is_answered=False)
    retriever.check_length(question.text)
    room = Room(tokenizer, window_of(answerer), question.sampling.max_new_tokens, is_estimate=budget is None)
    usable = (default_budget(room.window) if budget is None else budget).limited(question.budget, question.passages)
    usable = budget_within(room, question.text, usable, question.budget)
    found, rest = recall(view, question, retriever, usable)
    support = confidence(evidence := Evidence(view, question.text, found, retriever))
    searched = time.perf_counter()
    if support < question.min_confidence:
        yield SILENCE
        near = within_budget(found, usable.tokens, usable.passages, usable.max_score_gap)
        took = {"recall": searched - begun, "answer": 0.0, "quote": 0.0}
        return Answer(SILENCE, tuple(near), view.tokens, 0, 0, took, confidence=support, is_answered=False)
    prompt = choose(room, question.text, found, usable)
    condensed = further(room.left(prompt), tokenizer, prompt.passages, [*found, *rest], question.condensed, view)
    answerer = answerer_behind(condenser, condensed, view, tokenizer, answerer)
    try:
        text, usage = yield from write(answerer, prompt, question.sampling, tokenizer)
    except PromptTooLong as error:  # counted with another tokenizer, or an unknown window
        room = replace(room, window=error.fitting_window(prompt.tokens, room.max_new_tokens))
        prompt = choose(room, question.text, found, usable)
        text, usage = yield from write(answerer, prompt, question.sampling, tokenizer)
    written = time.perf_counter()
    quotes = evidence.quotes(text)
    seconds = {"recall": searched - begun, "answer": written - searched, "quote": time.perf_counter() - written}
    return Answer(
        text,
        prompt.passages,
        view.tokens,
        usage.prompt_tokens,
        usage.answer_tokens,
        seconds,
        quotes=quotes,
        citations=citations(text, prompt.numbers),
        numbers=prompt.numbers,
        confidence=support,
        condensed=condensed,
    )


def recall(
    view: View, question: Question, retriever: Retriever, budget: PromptBudget
) -> tuple[list[RetrievedPassage], list[RetrievedPassage]]:
    """The passages that bear on the question, best first: those that may enter the prompt, and others to condense."""
    top = max(LEAST_FOUND, budget.passages)
    found = retriever.search(
        view, question.text, top=top + question.condensed, rerank=question.rerank, filter=question.filter
    )
    near = with_complement(view, question.text, found[:top], retriever.vectors.encoder, filter=question.filter)
    return surrounded(view, near, question.around), found[top:]


def write(
    answerer: Answerer, prompt: Prompt, sampling: Sampling, tokenizer: Any
) -> Generator[str, None, tuple[str, Usage]]:
    """Yields the answer to a prompt in parts; returns its text and tokens.

    The local tokenizer counts the tokens for an answerer that does not count its own.
    """
    parts: list[str] = []
    usage: object = None

    def writing() -> Iterator[str]:
        nonlocal usage
        usage = yield from answer_parts(answerer, prompt.messages, sampling)

    for part in resolved_parts(writing(), len(prompt.texts)):
        parts.append(part)
        yield part
    text = "".join(parts).strip()
    if not isinstance(usage, Usage):
        usage = Usage(prompt.tokens, len(plain_ids(tokenizer, text)))
    return text, usage
