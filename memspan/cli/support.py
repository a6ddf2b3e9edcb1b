"""`memspan support`: customer service."""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.answering import Answering, answers
from memspan.cli.commands import command, group, stops_in_order
from memspan.cli.options import (
    AS_JSON,
    MAX_NEW_TOKENS,
    MODEL,
    Loading,
    load_language_model,
    loads_model,
    parse_map,
    require_text,
)
from memspan.cli.output import count, print_error, print_info, print_json, print_line
from memspan.cli.screening import GUARD, open_guards
from memspan.cli.support_output import print_built, print_import, print_queue, print_reply, print_shares
from memspan.errors import AnswererFailed, UsageError

if TYPE_CHECKING:
    from memspan.apps.support.reply import Desk

support = group(
    "support",
    "Customer service: answer messages from past answers and documents, and hand over the rest to a person.\n\n"
    'Example: memspan support reply shop "Where is my parcel 48213?" --customer ada',
)

FOLDER = Annotated[Path, typer.Argument(metavar="DIR", help="Support folder, made by `memspan support build`.")]
CUSTOMER = Annotated[
    str, typer.Option(metavar="ID", help="Name or number of the customer, under which the conversation is kept.")
]
MAP = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="COLUMN=NAME",
        help="Column of the file that holds the customer, time, message, reply, intent or source, as in --map message=body; "
        "without a name it is left out (default: guessed by its name, and shown).",
    ),
]
MIN_CONFIDENCE = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="C",
        help="Smallest confidence, from 0 to 1, with which the knowledge answers; below it a person does (default: 0.25).",
    ),
]
WRITE = Annotated[
    bool,
    typer.Option(
        "--write", help="Let the language model write answers from the knowledge (default: its sentences are quoted)."
    ),
]


@command(of=support)
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the sample.")], as_json: AS_JSON = False
) -> None:
    """Write a small sample: a folder of knowledge, dialogues, templates and a test file, in English and Chinese.

    Example: memspan support sample shop-data
    """
    from memspan.apps.support.sample import write_sample

    files = write_sample(folder)
    if as_json:
        print_json({name: str(path) for name, path in files.items()})
        return
    for name, path in files.items():
        print_line(f"{name}: {path}")


# The parameters are the options.
@command(of=support)
@loads_model
def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Support folder; made, or built again.")],
    knowledge: Annotated[Path, typer.Option(metavar="PATH", help="Folder of documents that answer questions.")],
    dialogues: Annotated[
        Path, typer.Option(metavar="FILE", help="Past messages with replies and intents: csv, tsv or jsonl.")
    ],
    loading: Loading,
    mapping: MAP = None,
    templates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table with the columns intent and reply: fixed replies.")
    ] = None,
    hand_over: Annotated[
        list[str] | None, typer.Option(metavar="INTENT", help="Intent whose messages always go to a person.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Features of the classifier: words, characters, sentences (default: chosen on the dialogues).",
        ),
    ] = None,
    refuse: Annotated[
        float,
        typer.Option(metavar="S", help="Share of such messages that may be taken for none of the intents, 0 to 1."),
    ] = 0.05,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Build a support folder from documents and past dialogues; in one that exists, customers and their questions stay.

    Example: memspan support build shop --knowledge help/ --dialogues tickets.csv
    """
    from memspan.apps.support.exchanges import read_exchanges
    from memspan.apps.support.folder import KNOWLEDGE, check_path, read_knowledge
    from memspan.apps.support.folder import build as build_folder
    from memspan.apps.support.past_answers import read_templates

    check_path(folder)
    imported = read_exchanges(dialogues, parse_map(mapping, "message"))
    fixed = [] if templates is None else read_templates(templates)
    print_import(imported, dialogues)
    lm = load_language_model(model, loading, folder / KNOWLEDGE)
    with stops_in_order():
        read = read_knowledge(folder, lm, knowledge, print_info)
        built = build_folder(
            folder, lm, imported.exchanges, fixed, hand_over or (), features or None, refuse, print_info
        )
    print_built(folder, imported, read, built, as_json)


# The parameters are the options.
@command(of=support)
@loads_model
@answers
def reply(
    folder: FOLDER,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What the customer writes.")],
    customer: CUSTOMER,
    loading: Loading,
    answering: Answering,
    min_confidence: MIN_CONFIDENCE = None,
    write: WRITE = False,
    guard: GUARD = None,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Reply to a message of a customer, and keep both.

    Example: memspan support reply shop "Where is my parcel 48213?" --customer ada
    """
    require_text("message", message)
    desk = open_desk(folder, model, loading, answering, min_confidence, write, max_new_tokens, guard)
    found = desk.reply(message, customer)
    if as_json:
        print_json(found.to_dict())
    else:
        print_reply(found)


# The parameters are the options.
@command(of=support)
@loads_model
@answers
def chat(
    folder: FOLDER,
    customer: CUSTOMER,
    loading: Loading,
    answering: Answering,
    min_confidence: MIN_CONFIDENCE = None,
    write: WRITE = False,
    guard: GUARD = None,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Talk to the desk as a customer: a message in each line, from the terminal or a pipe; an empty line ends it.

    Example: memspan support chat shop --customer ada
    """
    desk = open_desk(folder, model, loading, answering, min_confidence, write, max_new_tokens, guard)
    for line in _lines():
        try:
            found = desk.reply(line, customer)
        except (UsageError, AnswererFailed) as error:  # neither ends the conversation
            print_error(f"error: {error}")
            continue
        if as_json:
            print_line(json.dumps(found.to_dict(), ensure_ascii=False))
        else:
            print_reply(found)


def _lines() -> Iterator[str]:
    """The messages until the end of input, or until an empty line in a terminal."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    with suppress(EOFError):
        while line := input("> ").strip():
            yield line


@command(of=support)
def queue(
    folder: FOLDER,
    answered: Annotated[bool, typer.Option("--answered", help="List also the questions that were answered.")] = False,
    as_json: AS_JSON = False,
) -> None:
    """List the questions that wait for a person, with the reason and the last turns of the customer.

    Example: memspan support queue shop
    """
    from memspan.apps.support.store import FILE, Store

    waiting = Store.open(folder / FILE).queue(answered)
    if as_json:
        print_json({"queue": [asdict(hand_over) for hand_over in waiting]})
        return
    print_queue(waiting)


@command(of=support)
def answer(
    folder: FOLDER,
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the question in the queue.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Answer to the customer.")],
    intent: Annotated[str | None, typer.Option(metavar="NAME", help="Intent of the question, if it has one.")] = None,
    as_json: AS_JSON = False,
) -> None:
    """Answer a question of the queue: the customer sees it with the next reply, and it becomes a past answer.

    Example: memspan support answer shop 1 "We do sharpen shears, for 12 euros."
    """
    from memspan.apps.support.store import FILE, Store

    require_text("answer", text)
    hand_over, is_past_answer = Store.open(folder / FILE).answer(number, text, intent)
    if as_json:
        print_json({**asdict(hand_over), "is_past_answer": is_past_answer})
        return
    print_line(f"Kept for {hand_over.customer}.")
    if not is_past_answer:
        print_info(
            "It will be given to nobody else: it tells a number, an e-mail address or a telephone number that the customer "
            "did not write."
        )


@command(of=support)
def forget(folder: FOLDER, customer: CUSTOMER, as_json: AS_JSON = False) -> None:
    """Delete everything that is kept of a customer: turns, questions, entities, and past answers to their messages.

    The classifier keeps the words that it learned from past messages until the folder is built again, from dialogues
    without that customer.

    Example: memspan support forget shop --customer ada
    """
    from memspan.apps.support.folder import Folder

    counts = Folder.open(folder).forget(customer)
    if as_json:
        print_json({"customer": customer, **counts})
        return
    print_line(
        f"Forgot {customer}: {count(counts['turns'], 'turn')}, {count(counts['hand_overs'], 'question')}, "
        f"{count(counts['past_answers'], 'past answer')}."
    )


# The parameters are the options.
@command("eval", of=support)
@loads_model
@answers
def evaluate(
    folder: FOLDER,
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="Messages with the right intent, reply or source: csv, tsv or jsonl.")
    ],
    loading: Loading,
    answering: Answering,
    mapping: MAP = None,
    min_confidence: MIN_CONFIDENCE = None,
    write: WRITE = False,
    guard: GUARD = None,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    limit: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Messages to reply to, drawn at random (default: all).")
    ] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Measure a support folder: intents, refusals, answers, hand-overs. Nothing is kept of the messages.

    Example: memspan support eval shop --data shop-data/test.csv
    """
    from memspan.apps.support.evaluation import evaluate as measure
    from memspan.apps.support.exchanges import read_exchanges

    imported = read_exchanges(data, parse_map(mapping, "message"))
    print_import(imported, data)
    desk = open_desk(folder, model, loading, answering, min_confidence, write, max_new_tokens, guard)
    shares = measure(desk, imported.exchanges, limit)
    if as_json:
        print_json({name: share.to_dict() for name, share in shares.items()})
        return
    print_shares(shares)


# The parameters are the options of the commands that reply.
def open_desk(
    folder: Path,
    model: str | None,
    loading: Loading,
    answering: Answering,
    min_confidence: float | None,
    write: bool,
    max_new_tokens: int,
    guard: list[str] | None = None,
) -> "Desk":
    """The desk of a support folder, with the model that built it."""
    from memspan.apps.support.folder import KNOWLEDGE, Folder
    from memspan.apps.support.reply import Desk, Settings
    from memspan.assistant.confidence import SUPPORTED
    from memspan.assistant.screen import Screen

    screen = Screen(open_guards(guard))
    opened = Folder.open(folder)
    answerer, sampling = answering.answerer(), answering.sampling(max_new_tokens)
    lm = load_language_model(model, loading, folder / KNOWLEDGE, opened=True)
    if write and answerer is None:
        answerer = lm.answerer
    least = SUPPORTED if min_confidence is None else min_confidence
    return Desk(opened, lm, Settings(least, answerer, sampling, screen))
