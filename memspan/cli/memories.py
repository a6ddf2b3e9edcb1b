"""`memspan inspect`, `fork`, `forget` and `merge`: what can be done with a memory without its model."""

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON, MEMORY
from memspan.cli.output import SHOWN, count, print_contents, print_json, print_line, printable
from memspan.errors import UsageError


@command("inspect")
def show(folder: MEMORY, as_json: AS_JSON = False) -> None:
    """Show what a memory holds: its sources, size, and the model that made it.

    Example: memspan inspect library.mem
    """
    from memspan.memory import load_memory

    contents = load_memory(folder).inspect()
    if as_json:
        print_json(contents)
    else:
        print_contents(contents)


@command()
def fork(folder: MEMORY, new: Annotated[Path, typer.Argument(metavar="NEW", help="The folder of the copy.")]) -> None:
    """Copy a memory; both then go their own ways. Where the file system can, nothing is really copied.

    Example: memspan fork library.mem experiment.mem
    """
    from memspan.memory import load_memory

    twin = load_memory(folder).fork(new)
    print_line(f"{twin.path} holds {count(twin.tokens, 'token')} of {count(len(twin.sources), 'source')}.")


@command()
def forget(
    folder: MEMORY,
    source: Annotated[str, typer.Option(metavar="PATTERN", help="A source, or a pattern with * and ? for several.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget sources for good: they leave the memory, its files and its index. Forks keep theirs.

    Example: memspan forget library.mem --source "drafts/*"
    """
    from memspan.memory import load_memory

    memory = load_memory(folder)
    matching = [name for name in memory.sources if name == source or fnmatchcase(name, source)]
    if matching and not yes:
        _confirm(f"Forget {count(len(matching), 'source')} ({shorten(', '.join(matching), SHOWN)}) for good?")
    for name in memory.forget(source):
        print_line(f"Forgot {name}.")


def _confirm(question: str) -> None:
    """Raises UsageError where nobody is there to answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{printable(question)} Say --yes to do it without being asked.")
    typer.confirm(printable(question), abort=True)


@command()
def merge(
    folder: MEMORY, other: Annotated[Path, typer.Argument(metavar="OTHER", help="The memory to take from.")]
) -> None:
    """Add the sources of another memory that was made with the same model.

    Example: memspan merge library.mem travels.mem
    """
    from memspan.memory import load_memory

    memory = load_memory(folder)
    added = memory.merge(load_memory(other))
    print_line(f"Added {count(len(added), 'source')}{': ' if added else ''}{', '.join(added)}.")
