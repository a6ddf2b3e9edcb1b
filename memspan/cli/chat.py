"""`memspan chat`: a conversation that is kept in a memory."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.answering import Answering, answers
from memspan.cli.auditing import audited, sources_of
from memspan.cli.commands import command
from memspan.cli.evidence import print_condensed, print_passages
from memspan.cli.filters import Filters, takes_filters
from memspan.cli.options import (
    BUDGET,
    CONDENSED,
    MAX_NEW_TOKENS,
    MEMORY_WEIGHTS,
    MIN_CONFIDENCE,
    MODEL,
    NEW_OR_OLD_MEMORY,
    PASSAGES,
    Loading,
    load_language_model,
    loads_model,
)
from memspan.cli.output import (
    count,
    print_contents,
    print_error,
    print_info,
    print_line,
    print_part,
    print_waiting,
)
from memspan.cli.redacting import REDACT
from memspan.cli.retention import forget_what_is_too_old
from memspan.cli.screening import Screening, screens
from memspan.data.redaction import parse_kinds
from memspan.errors import AnswererFailed, UsageError

if TYPE_CHECKING:
    from memspan.assistant.chat import Chat


# The parameters are the options.
@command()
@loads_model
@takes_filters
@answers
@screens
def chat(
    folder: Annotated[Path, typer.Option("--memory", metavar="DIR", help=NEW_OR_OLD_MEMORY)],
    loading: Loading,
    filters: Filters,
    answering: Answering,
    screening: Screening,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="System prompt: instructions for the model.")
    ] = None,
    budget: BUDGET = None,
    passages: PASSAGES = None,
    min_confidence: MIN_CONFIDENCE = None,
    condensed: CONDENSED = 0,
    memory_weights: MEMORY_WEIGHTS = None,
    max_new_tokens: MAX_NEW_TOKENS = 256,
    redact: REDACT = None,
    model: MODEL = None,
) -> None:
    """Chat with a model that keeps every exchange in a memory and retrieves it when it is relevant.

    The memory outlives the program. Each turn is one line, from the terminal or a pipe; /help lists the chat commands.

    Example: memspan chat --memory diary.mem
    """
    sampling, answerer = answering.sampling(max_new_tokens), answering.answerer()
    filter, redaction = filters.filter(), None if redact is None else parse_kinds(redact)
    screen = screening.screen("chat", folder)
    lm = load_language_model(model, loading, folder)
    memory = lm.new_memory(folder)
    memory.lock_seconds, memory.on_wait = None, print_waiting
    forget_what_is_too_old(memory)
    from memspan.assistant.chat import Chat

    options: dict[str, Any] = {"budget": budget, "passages": passages, "filter": filter, "answerer": answerer}
    options |= {"redaction": redaction, "screen": screen, "condensed": condensed, "memory_weights": memory_weights}
    if min_confidence is not None:
        options["min_confidence"] = min_confidence
    conversation = Chat(lm, memory, system=system, sampling=sampling, **options)
    if sys.stdin.isatty():
        counts = f"{count(len(memory.sources), 'source')}, {count(len(conversation.transcript), 'exchange')}"
        print_info(f"{folder} ({counts}); /help lists the commands")
    for line in _lines():
        try:
            if line.startswith("/"):
                if _run_chat_command(line, conversation) == "exit":
                    return
            elif line:
                _reply(conversation, line)
        except (
            UsageError,
            AnswererFailed,
        ) as error:  # neither a wrong request nor a failing server ends the conversation
            print_error(f"error: {error}")


def _lines() -> Iterator[str]:
    """The lines that the user types or pipes in, until the end of input."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401  gives input() a history and arrow keys, where there is one
    with suppress(EOFError):
        while True:
            yield input("> ").strip()


def _reply(conversation: "Chat", message: str) -> None:
    """Print the reply while it is generated; Ctrl-C ends it early, and the part printed so far is kept."""
    try:
        with audited("chat", *_folders(conversation), question=message) as event:
            for part in conversation.reply(message):
                print_part(part)
            event.sources = sources_of((*conversation.recalled, *conversation.condensed))
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    finally:
        print_line("")


def _folders(conversation: "Chat") -> list[Path]:
    path = conversation.memory.path
    return [] if path is None else [path]


def _forget(conversation: "Chat", pattern: str) -> list[str]:
    """Forget the sources of a pattern, or without one the last exchange; their names."""
    with audited("forget", *_folders(conversation)) as event:
        event.sources = conversation.forget(pattern) if pattern else [conversation.forget_last().source]
        return event.sources


_HELP = """/memory            show the contents of the memory
/recalled          show the passages retrieved for the last reply, around what fits the message
/forget            forget the last exchange
/forget PATTERN    forget the sources that match a name or pattern (* and ? are wildcards)
/save PATH         copy the memory to a new folder
/exit              leave the chat; the memory keeps every exchange"""


def _run_chat_command(line: str, conversation: "Chat") -> str:
    """Run a line such as "/forget notes.txt"; returns the name of the command."""
    name, _, argument = line.removeprefix("/").partition(" ")
    argument, memory = argument.strip(), conversation.memory
    match name:
        case "help":
            print_line(_HELP)
        case "memory":
            print_contents(memory.inspect())
        case "recalled":
            print_passages(conversation.recalled, conversation.memory, question=conversation.message)
            print_condensed(conversation.condensed, conversation.memory)
        case "forget":
            print_line(f"Forgot {', '.join(_forget(conversation, argument))}.")
        case "save" if argument:
            print_line(f"Saved to {memory.fork(argument).path}.")
        case "exit":
            pass
        case _:
            raise UsageError(f"there is no command {line}: /help lists them")
    return name
