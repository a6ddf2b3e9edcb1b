"""`memspan export` and `import`: memories as JSON Lines, to look into, to keep, and to give to another model."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from memspan.cli.auditing import audited
from memspan.cli.commands import command, stops_in_order
from memspan.cli.options import MEMORY, MODEL, NEW_OR_OLD_MEMORY, Loading, load_language_model, loads_model
from memspan.cli.output import count, print_info, print_line, print_waiting
from memspan.errors import UsageError


@command("export")
def export_memory(
    folder: MEMORY,
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write, or - for standard output.")],
) -> None:
    """Write the text of a memory with its provenance as JSON Lines, a passage in each line.

    Example: memspan export library.mem library.jsonl
    """
    from memspan.assistant.transfer import exported
    from memspan.memory import load_memory

    memory = load_memory(folder)
    passages = 0
    with audited("export", folder) as event, written(file) as out:
        event.sources = list(memory.sources)
        for record in exported(memory):
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            passages += 1
    if file != "-":
        print_line(f"Wrote {count(passages, 'passage')} of {count(len(memory.sources), 'source')} to {file}.")


@command("import")
@loads_model
def import_memory(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File that `memspan export` wrote, or - for standard input.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=NEW_OR_OLD_MEMORY)],
    loading: Loading,
    model: MODEL = None,
) -> None:
    """Read a file of `memspan export` into a memory, with any model.

    The text is read anew: it may come from a memory of another model. Sources that the memory holds with the same text are
    skipped, and an interrupted import goes on where it stopped.

    Example: memspan import library.jsonl other.mem --model Qwen/Qwen3-1.7B
    """
    from memspan.assistant.transfer import import_lines

    with _opened(file) as lines:
        lm = load_language_model(model, loading, folder)
        memory = lm.new_memory(folder)
        memory.lock_seconds, memory.on_wait = None, print_waiting
        with stops_in_order(), audited("import", folder) as event:
            added = event.sources = import_lines(lm, memory, lines, lambda name: print_info(f"Reading {name}"))
    print_line(
        f"Read {count(len(added), 'source')}. {folder} holds {count(memory.tokens, 'token')} of "
        f"{count(len(memory.sources), 'source')}."
    )


@contextmanager
def written(file: str) -> Iterator[IO[str]]:
    """Standard output, or a new file that has its name only once it is whole. Raises UsageError if it cannot be written."""
    if file == "-":
        yield sys.stdout
        return
    path = Path(file)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as out:
            try:
                yield out
                out.flush()
                os.fsync(out.fileno())
                os.replace(out.name, path)
            except BaseException:
                os.unlink(out.name)
                raise
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error


@contextmanager
def _opened(file: str) -> Iterator[IO[str]]:
    """Raises UsageError if the file is not readable UTF-8."""
    try:
        if file == "-":
            yield sys.stdin
        else:
            with open(file, encoding="utf-8") as lines:
                yield lines
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} must be UTF-8 text, got other bytes ({error}): save it as UTF-8.") from error
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {file}.") from error
