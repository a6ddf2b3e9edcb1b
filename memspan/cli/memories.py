"""`memspan inspect`, `fork`, `forget` and `merge`: what can be done with a memory without its model."""

import sys
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON, MEMORY
from memspan.cli.output import PREVIEW, count, print_contents, print_json, print_line, printable
from memspan.errors import UsageError


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

    copy = load_memory(folder).fork(new)
    print_line(f"{copy.path} holds {count(copy.tokens, 'token')} of {count(len(copy.sources), 'source')}.")


@command()
def forget(
    folder: MEMORY,
    source: Annotated[
        str, typer.Option(metavar="PATTERN", help="Name of a source, or a pattern with the wildcards * and ?.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete sources from a memory, its files and its index, for good. Forks keep their copies.

    Example: memspan forget library.mem --source "drafts/*"
    """
    from memspan.memory import load_memory
    from memspan.memory.source_names import matching

    memory = load_memory(folder)
    names = matching(source, memory.sources)
    if not yes:
        _confirm(f"Forget {count(len(names), 'source')} ({shorten(', '.join(names), PREVIEW)}) for good?")
    for name in memory.forget(source):
        print_line(f"Forgot {name}.")


def _confirm(question: str) -> None:
    """Ask the user and abort unless the reply is yes. Raises UsageError where standard input is no terminal."""
    if not sys.stdin.isatty():
        raise UsageError(f"{printable(question)} Confirm with --yes.")
    typer.confirm(printable(question), abort=True)


@command()
def merge(
    folder: MEMORY,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Folder of the memory whose sources are added.")],
) -> None:
    """Add the sources of another memory that was made with the same model.

    Example: memspan merge library.mem travels.mem
    """
    from memspan.memory import load_memory

    memory = load_memory(folder)
    added = memory.merge(load_memory(other))
    print_line(f"Added {count(len(added), 'source')}{': ' if added else ''}{', '.join(added)}.")
