"""`memspan review`: answers that a person looks at."""

import json
import os
import sys
import time
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.auditing import user
from memspan.cli.commands import command, group
from memspan.cli.evidence import PREVIEW
from memspan.cli.options import AS_JSON, MODEL, Loading, load_language_model, loads_model, require_text
from memspan.cli.output import count, print_info, print_json, print_line, print_waiting, printable
from memspan.errors import MemspanError, UsageError

if TYPE_CHECKING:
    from memspan.apps.review.queue import Item

review = group(
    "review",
    "Answers for a person to look at: those of `memspan ask` and `memspan chat` that a guard withheld or that have a small "
    "confidence.\n\n"
    "Example: memspan review list answers.queue",
)

QUEUE = Annotated[
    Path, typer.Argument(metavar="QUEUE", help="File of the queue, made by `memspan ask` or `chat` with --review.")
]
NUMBER = Annotated[int, typer.Argument(metavar="ID", help="Number of the answer in the queue.")]
BY = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides (default: the user of this system).")]
NOTE = Annotated[str | None, typer.Option(metavar="TEXT", help="Reason of the decision, kept with it.")]


@command("list", of=review)
def list_answers(
    queue: QUEUE,
    with_decided: Annotated[
        bool, typer.Option("--all", help="List also the answers that a person has decided on.")
    ] = False,
    as_json: AS_JSON = False,
) -> None:
    """List the answers that wait for a person, the oldest first.

    Example: memspan review list answers.queue
    """
    from memspan.apps.review.queue import Queue

    items = Queue.open(queue).items(None if with_decided else False)
    if as_json:
        print_json({"answers": [item.to_dict() for item in items]})
        return
    for item in items:
        state = "open" if item.decision is None else f"{item.decision.decision} by {item.decision.person}"
        print_line(f"{item.id}  {_line(item.question)}  ({state})", style="bold")
        print_line(f"    {_line(item.answer)}")
        print_line(f"    {'withheld: ' if item.is_withheld else ''}{item.reason}{_times(item)}", style="dim")
    if not items:
        print_line(f"No answer{'' if with_decided else ' waits for a person'}.")


@command(of=review)
def show(queue: QUEUE, number: NUMBER, as_json: AS_JSON = False) -> None:
    """Show an answer in full, with the passages behind it and what was decided.

    Example: memspan review show answers.queue 1
    """
    from memspan.apps.review.queue import Queue

    item = Queue.open(queue).item(number)
    if as_json:
        print_json(item.to_dict())
        return
    print_line(f"{item.id}  {_when(item.time)}, memspan {item.command} {item.memory}{_times(item)}", style="bold")
    print_line(f"Question: {item.question}")
    print_line(f"Answer{' (withheld)' if item.is_withheld else ''}: {item.answer}")
    print_line(f"Flagged: {item.reason}")
    for position, passage in enumerate(item.passages, 1):
        print_line(
            f"[{position}] {passage['source']}, characters {passage['start']:,} to {passage['end']:,}", style="dim"
        )
        print_line(f"    {' '.join(printable(str(passage['text'])).split())}")
    for decision in item.decisions:
        note = "" if decision.note is None else f": {decision.note}"
        print_line(f"{decision.decision} by {decision.person}, {_when(decision.time)}{note}")
        if decision.text is not None:
            print_line(f"    {decision.text}")


@command(of=review)
def approve(queue: QUEUE, number: NUMBER, by: BY = None, note: NOTE = None, as_json: AS_JSON = False) -> None:
    """Approve an answer: it is right as it stands.

    Example: memspan review approve answers.queue 1
    """
    _decide(queue, number, "approved", None, by, note, as_json)


@command(of=review)
def reject(queue: QUEUE, number: NUMBER, by: BY = None, note: NOTE = None, as_json: AS_JSON = False) -> None:
    """Reject an answer: it is wrong, or not to be given.

    Example: memspan review reject answers.queue 1 --note "We do not give prices."
    """
    _decide(queue, number, "rejected", None, by, note, as_json)


# The parameters are the options.
@command(of=review)
def edit(
    queue: QUEUE,
    number: NUMBER,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The right answer.")],
    by: BY = None,
    note: NOTE = None,
    as_json: AS_JSON = False,
) -> None:
    """Give the right answer in place of one of the queue.

    Example: memspan review edit answers.queue 1 "The shop closes at six."
    """
    require_text("answer", text)
    _decide(queue, number, "edited", text.strip(), by, note, as_json)


# The parameters are the options.
@command(of=review)
@loads_model
def export(
    queue: QUEUE,
    loading: Loading,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="New file for the lines (default: standard output).")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Memory into which the approved and edited answers are read with their questions, so that later answers find "
            "them; those rejected since are forgotten there.",
        ),
    ] = None,
    with_open: Annotated[
        bool, typer.Option("--open", help="Export also the answers that nobody has decided on.")
    ] = False,
    model: MODEL = None,
) -> None:
    """Export the answers with the decisions as JSON Lines: question, answer, passages, decision, right answer, who and when.

    Example: memspan review export answers.queue --output decided.jsonl --into library.mem
    """
    from memspan.apps.review.queue import Queue

    opened = Queue.open(queue)
    items = opened.items(None if with_open else True)
    text = "".join(json.dumps(item.to_dict(), ensure_ascii=False) + "\n" for item in items)
    if output is not None:
        _write_new(output, text)
        print_line(f"{output} holds {count(len(items), 'answer')}.")
    elif into is None:
        sys.stdout.write(text)
    if into is None:
        return
    from memspan.apps.review.corrections import read_corrections

    lm = load_language_model(model, loading, into, opened=True)
    memory = lm.new_memory(into)
    memory.lock_seconds, memory.on_wait = None, print_waiting
    changes = read_corrections(opened, lm, memory)
    print_line(
        f"{into}: {count(len(changes.read), 'correction')} read, {len(changes.replaced)} replaced, "
        f"{len(changes.forgotten)} forgotten."
    )


@command(of=review)
def forget(
    queue: QUEUE,
    numbers: Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers of the answers to delete.")],
) -> None:
    """Delete answers from the queue for good, with their questions, passages and decisions.

    What was read of them into a memory is forgotten there at the next `memspan review export --into`.

    Example: memspan review forget answers.queue 1 2
    """
    from memspan.apps.review.queue import Queue

    Queue.open(queue).forget(numbers)
    print_line(f"Forgot {count(len(set(numbers)), 'answer')}.")


# The parameters are those of the commands that decide.
def _decide(
    path: Path, number: int, decision: str, text: str | None, by: str | None, note: str | None, as_json: bool
) -> None:
    """Keep a decision and print it."""
    from memspan.apps.review.queue import Decision, Queue

    person = user() if by is None else by
    require_text("name of who decides", person)
    item = Queue.open(path).decide(number, Decision(decision, person, time.time(), text, note))
    if as_json:
        print_json(item.to_dict())
        return
    if len(item.decisions) > 1:
        print_info(f"before: {item.decisions[-2].decision} by {item.decisions[-2].person}")
    print_line(f"Answer {number} is {decision} by {person}.")


def _write_new(path: Path, text: str) -> None:
    """Write a file for this user alone. Raises UsageError if it exists, MemspanError if the system refuses."""
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{path} exists already: name a new file.") from error
    except OSError as error:
        raise MemspanError(f"{path} cannot be written: {error.strerror}.") from error


def _line(text: str) -> str:
    return shorten(printable(text), PREVIEW, placeholder=" ...")


def _times(item: "Item") -> str:
    return "" if item.times == 1 else f", {item.times} times"


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
