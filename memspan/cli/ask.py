"""`memspan ask` and `memspan search`: questions to a memory."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli import warm
from memspan.cli.answering import Answering, answers
from memspan.cli.auditing import audited, sources_of
from memspan.cli.commands import command
from memspan.cli.evidence import print_carried, print_condensed, print_passages, print_quote, print_statements
from memspan.cli.filters import ALSO, Filters, takes_filters
from memspan.cli.options import (
    AROUND,
    AS_JSON,
    BUDGET,
    CONDENSED,
    MAX_NEW_TOKENS,
    MEMORY,
    MEMORY_WEIGHTS,
    MIN_CONFIDENCE,
    MODEL,
    NO_RERANK,
    PASSAGES,
    Loading,
    loads_model,
    open_memories,
    require_text,
)
from memspan.cli.output import print_info, print_json, print_line, print_part
from memspan.cli.screening import Screening, screens
from memspan.cli.warm import model as warm_model
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.assistant.answer import Answer
    from memspan.assistant.language_model import LanguageModel
    from memspan.memory import Contents

NOTHING_SAID = 3  # the exit status where the memory says nothing about the question
WITHHELD = 4  # the same of an answer that a guard withholds


# The parameters are the options.
@command()
@loads_model
@takes_filters
@answers
@screens
def ask(
    context: typer.Context,
    folder: MEMORY,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question to answer.")],
    loading: Loading,
    filters: Filters,
    answering: Answering,
    screening: Screening,
    also: ALSO = None,
    budget: BUDGET = None,
    passages: PASSAGES = None,
    around: AROUND = 0,
    condensed: CONDENSED = 0,
    memory_weights: MEMORY_WEIGHTS = None,
    no_rerank: NO_RERANK = False,
    min_confidence: MIN_CONFIDENCE = None,
    answer_anyway: Annotated[
        bool,
        typer.Option("--answer-anyway", help="Answer also where the memory says nothing about the question."),
    ] = False,
    carried_by: Annotated[
        bool,
        typer.Option(
            "--carried-by",
            help="Also tell how much less likely the answer is without each text of its prompt; takes about as long as the "
            "answer for every text.",
        ),
    ] = False,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    as_json: AS_JSON = False,
    keep_warm: warm.KEEP_WARM = None,
    model: MODEL = None,
) -> None:
    """Answer a question from a memory, and show the passages that the answer is based on.

    Where the memory says nothing about the question, the command says so, and its exit status is 3. It is 4 where a --guard
    withholds the answer.

    Example: memspan ask library.mem "Where was the treasure buried?"
    """
    require_text("question", question)
    warm.answer(context, keep_warm, folder, loading, model, answering)
    sampling, answerer = answering.sampling(max_new_tokens), warm_model.answerer(answering)
    filter, screen = filters.filter(), screening.screen("ask", folder)
    lm = warm_model.load(model, loading, folder)
    memory = open_memories(lm, [folder, *(also or ())])
    _check_fits(lm, question)
    from memspan.assistant import confidence

    least = confidence.MIN_CONFIDENCE if min_confidence is None else min_confidence
    options: dict[str, Any] = {"budget": budget, "passages": passages, "around": around}
    options |= {"condensed": condensed, "memory_weights": memory_weights}
    options["min_confidence"] = 0.0 if answer_anyway else least
    if no_rerank:
        options["rerank"] = 0
    on_text = None if as_json else print_part
    options |= {"on_text": on_text, "screen": screen}
    with audited("ask", folder, *(also or ()), question=question) as event:
        answer = lm.ask(memory, question, sampling=sampling, filter=filter, answerer=answerer, **options)
        event.sources = sources_of((*answer.passages, *answer.condensed))
        if not answer.is_answered:
            event.outcome = "nothing found" if answer.withheld is None else "withheld"
    if carried_by and answer.withheld is None:
        answer = replace(answer, carried_by=lm.carried_by(question, answer))
    if as_json:
        print_json(answer.to_dict())
    else:
        _print_answer(question, answer, memory)
    if not answer.is_answered:
        raise typer.Exit(NOTHING_SAID if answer.withheld is None else WITHHELD)


def _print_answer(question: str, answer: "Answer", memory: "Contents") -> None:
    """Print what stands below the text of an answer: doubts about it, the quotes, the passages."""
    if answer.withheld is not None:
        print_line("")
        return
    print_line("\n")
    if not answer.is_answered:
        nearest = "The nearest passages are below; --answer-anyway answers from them."
        print_info(
            nearest if answer.passages else "It is empty: read something into it first, memspan read FILE --into DIR."
        )
    elif not answer.is_supported:
        print_info(f"The memory may not hold the answer: confidence {answer.confidence:.2f} of 1.")
    for quote in answer.quotes:
        print_quote(quote)
        print_line("")
    if answer.is_answered:
        print_statements(answer.statements)
    print_passages(answer.passages, memory, answer.numbers, question)
    print_condensed(answer.condensed, memory)
    print_carried(answer.carried_by)


# The parameters are the options.
@command()
@loads_model
@takes_filters
def search(
    context: typer.Context,
    folder: MEMORY,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Question or words to search for.")],
    loading: Loading,
    filters: Filters,
    also: ALSO = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Number of passages.")] = 8,
    around: AROUND = 0,
    no_rerank: NO_RERANK = False,
    min_confidence: MIN_CONFIDENCE = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show the passages of a memory that are most relevant to a query, best first.

    Example: memspan search library.mem "storms at sea" --top 3
    """
    require_text("query", query)
    warm.answer(context, None, folder, loading, model, Answering())
    filter = filters.filter()
    lm = warm_model.load(model, loading, folder)
    memory = open_memories(lm, [folder, *(also or ())])
    if len(memory) == 0:
        raise UsageError("This memory is empty; read something into it first.")
    _check_fits(lm, query)
    options: dict[str, Any] = {"rerank": 0} if no_rerank else {}
    options["min_confidence"] = min_confidence or 0.0
    with audited("search", folder, *(also or ()), question=query) as event:
        passages = lm.search(memory, query, top=top, around=around, filter=filter, **options)
        event.sources = sources_of(passages)
    if as_json:
        results = [asdict(passage) for passage in passages]
        print_json({"query": query, "passages": results, "memory_tokens": memory.tokens})
    else:
        print_passages(passages, memory, question=query)


def _check_fits(lm: "LanguageModel", text: str) -> None:
    """Raises UsageError for a question that alone fills the model's window."""
    length, window = len(lm.prompt_ids(text)), lm.decoder.window
    if length >= window:
        raise UsageError(
            f"The question must be below {window:,} tokens, the model's window, got {length:,}: shorten it."
        )
