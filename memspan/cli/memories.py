"""`memspan inspect`, `fork`, `forget`, `retain` and `merge`: what can be done with a memory without its model."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.auditing import audited
from memspan.cli.commands import command
from memspan.cli.evidence import PREVIEW
from memspan.cli.filters import Filters, parse_tags, takes_filters
from memspan.cli.options import AS_JSON, MEMORY, WAIT, open_to_change
from memspan.cli.output import (
    count,
    print_contents,
    print_info,
    print_json,
    print_line,
    printable,
)
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.memory.retention import Rule


@command("inspect")
def show(folder: MEMORY, as_json: AS_JSON = False) -> None:
    """Show the contents of a memory: its sources, its size, and the model that made it.

    Example: memspan inspect library.mem
    """
    from memspan.memory import load_memory

    contents = load_memory(folder).inspect()
    if as_json:
        print_json(contents)
    else:
        print_contents(contents)


@command()
def fork(
    folder: MEMORY,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Folder of the copy; must not exist or be empty.")],
) -> None:
    """Copy a memory; later changes to one do not affect the other. Files are shared where the file system allows it.

    Example: memspan fork library.mem experiment.mem
    """
    from memspan.memory import load_memory

    with audited("fork", folder, new) as event:
        copy = load_memory(folder).fork(new)
        event.sources = list(copy.sources)
    print_line(f"{copy.path} holds {count(copy.tokens, 'token')} of {count(len(copy.sources), 'source')}.")


# Each parameter is an option of the command.
@command()
@takes_filters
def forget(
    folder: MEMORY,
    filters: Filters,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only sources added earlier than 2026-05-31, 2026-05-31T18:00 or, for example, 30d (30 days ago; also m, h, "
            "w).",
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only sources added at that time or later, as for --before.")
    ] = None,
    containing: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only sources whose text contains this, in upper or lower case.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be forgotten and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: WAIT = None,
) -> None:
    """Delete sources that meet all conditions from a memory, its files and its index, for good.

    Forks and copies made before keep theirs. The conditions on passages must hold of every passage of a source.

    Example: memspan forget library.mem --source "drafts/*" --before 30d --dry-run
    """
    from memspan.memory.moments import seconds_of

    memory = open_to_change(folder, wait)
    source = None
    if filters.source is not None and len(filters.source) == 1:
        (source,), filters = filters.source, replace(filters, source=None)
    conditions: dict[str, Any] = {
        "before": None if before is None else seconds_of(before, "--before"),
        "after": None if after is None else seconds_of(after, "--after"),
        "containing": containing,
        "filter": filters.filter(),
    }
    if not dry_run:
        memory.clean()  # an interrupted call may have left what it forgot, and nothing matches any more
    names = memory.matching(source, **conditions)
    shared = memory.shared_files(names)
    if dry_run:
        for name in names:
            print_line(f"Would forget {name}.")
    else:
        if not yes:
            _confirm(f"Forget {count(len(names), 'source')} ({shorten(', '.join(names), PREVIEW)}) for good?")
        with audited("forget", folder) as event:
            event.sources = memory.forget(source, **conditions)
        for name in event.sources:
            print_line(f"Forgot {name}.")
    _print_shared(shared)


# Each parameter is an option of the command.
@command()
def retain(
    folder: MEMORY,
    days: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Days for which sources are kept, from when they were first read (default: as set)."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Only sources with this name, or of this pattern with * and ?; of several any."
        ),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Only sources of this kind: document or exchange.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only sources with this tag (customer=Ann); may be repeated."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the rule with these conditions; nothing is forgotten.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the rules and what would be forgotten, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: WAIT = None,
) -> None:
    """Set how long a memory keeps its sources, and forget, for good, those that are older.

    The rule is kept with the memory, and `memspan read` and `memspan chat` apply it whenever they run; without --days this
    command applies the rules that were set. A document whose file is still there is read again by the next `memspan read`.

    Example: memspan retain diary.mem --days 90 --kind exchange --dry-run
    """
    from memspan.memory.retention import Rule, expired, forget_expired, keep_rules, rules_of
    from memspan.memory.store.folder import Folder

    memory, stored = open_to_change(folder, wait), Folder(folder)
    rules = rules_of(stored)
    tags = parse_tags(where or ())
    rule = Rule(1 if days is None else days, tuple(source or ()), tuple(kind or ()), tags)
    others = [each for each in rules if each.conditions != rule.conditions]
    if remove:
        if days is not None or dry_run:
            raise UsageError("--remove takes no --days and no --dry-run: give the conditions of the rule alone.")
        if len(others) == len(rules):
            raise UsageError(f"There is no rule with these conditions. {_listed(rules)}")
        keep_rules(stored, others)
        print_line(_listed(others))
        return
    if days is None and (source or kind or where):
        raise UsageError("A rule needs --days, the time for which these sources are kept.")
    new = rules if days is None else [*others, rule]
    if not new:
        raise UsageError("This memory has no rule: give --days.")
    names = expired(memory, new)
    print_line(_listed(new))
    if dry_run:
        for name in names:
            print_line(f"Would forget {name}.")
        return
    if names and not yes:
        _confirm(f"Forget {count(len(names), 'source')} ({shorten(', '.join(names), PREVIEW)}) for good?")
    if days is not None:
        keep_rules(stored, new)
    memory.clean()  # an interrupted call may have left what it forgot
    shared = memory.shared_files(names)
    with audited("retain", folder) as event:
        event.sources = forget_expired(memory, new)
    for name in event.sources:
        print_line(f"Forgot {name}.")
    if names:
        _print_shared(shared)


def _listed(rules: "Sequence[Rule]") -> str:
    """The rules in a sentence."""
    if not rules:
        return "This memory keeps everything."
    return f"This memory keeps {'; '.join(str(rule) for rule in rules)}."


def _print_shared(files: int) -> None:
    """Print who may keep the text that is forgotten."""
    known = f" At least one other folder still shares {count(files, 'file')} with that text." if files else ""
    print_info(f"Forks and copies made before keep theirs.{known}")


def _confirm(question: str) -> None:
    """Ask the user and abort unless the reply is yes. Raises UsageError where standard input is no terminal."""
    if not sys.stdin.isatty():
        raise UsageError(f"{printable(question)} Confirm with --yes.")
    typer.confirm(printable(question), abort=True)


@command()
def merge(
    folder: MEMORY,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Folder of the memory whose sources are added.")],
    wait: WAIT = None,
) -> None:
    """Add the sources of another memory that was made with the same model.

    Example: memspan merge library.mem travels.mem
    """
    from memspan.memory import load_memory

    memory = open_to_change(folder, wait)
    others = load_memory(other)
    with audited("merge", folder, other) as event:
        added = event.sources = memory.merge(others)
    number = len(others.sources)
    there = f"all {number} are" if number > 1 else "its only source is"
    why_none = f"{there} there already with the same text" if number > 0 else f"{other} is empty"
    print_line(f"Added {count(len(added), 'source')}: {', '.join(added) if added else why_none}.")
