"""Printing: lines, tables and JSON on standard output, remarks and errors on standard error."""

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memspan.errors import MemspanWarning

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

    from memspan.memory.store.lock import Holder

WIDE = 10_000  # columns where no terminal sets a limit


def make_console(stderr: bool = False) -> "Console":
    """A console that prints text as it is; in a pipe or file its lines are as wide as need be."""
    from rich.console import Console

    colours: Any = {"color_system": None} if is_plain() else {}
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, **colours)
    if not console.is_terminal:
        console.width = WIDE
    return console


def is_plain() -> bool:
    """Whether colours and progress bars are switched off ($NO_COLOR)."""
    return bool(os.environ.get("NO_COLOR"))


def print_table(table: "Table") -> None:
    """Print a table to standard output."""
    make_console().print(table)


def number_table(columns: Sequence[str], labels: int = 0) -> "Table":
    """An empty table whose columns are right-aligned, but for the first `labels` of them."""
    from rich.table import Table

    table = Table(box=None)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index < labels else "right")
    return table


def progress_bar(*columns: "ProgressColumn", hidden: bool = False) -> "Progress":
    """A progress bar on standard error; it is never shown in a pipe or file."""
    from rich.progress import Progress

    return Progress(*columns, console=make_console(stderr=True), disable=hidden or not has_bars())


def has_bars() -> bool:
    """Whether progress bars are shown: standard error is a terminal, and they are not switched off."""
    return make_console(stderr=True).is_terminal and not is_plain()


def print_line(text: str, style: str | None = None) -> None:
    """Print a line to standard output."""
    make_console().print(printable(text), style=style)


def print_part(text: str) -> None:
    """Print part of a line to standard output and flush it."""
    print(printable(text), end="", flush=True)  # noqa: T201


def print_json(value: dict[str, Any]) -> None:
    """Print an object as JSON, in ASCII where the encoding of standard output is not UTF-8."""
    as_unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not as_unicode, indent=2))  # noqa: T201


def print_info(text: str) -> None:
    """Print a remark to standard error."""
    make_console(stderr=True).print(printable(text), style="dim")


@contextmanager
def warnings_as_remarks() -> Iterator[None]:
    """Within, the warnings of memspan are remarks on standard error, each once; all others are shown as Python shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", MemspanWarning)
        show = warnings.showwarning

        def show_remark(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, MemspanWarning):
                print_info(str(message))
            else:
                show(message, category, *where, **more)

        warnings.showwarning = show_remark
        yield


def print_waiting(holder: "Holder | None") -> None:
    """Print which process a writer waits for."""
    waited_for = "another process" if holder is None else f"another process, {holder}"
    print_info(f"waiting for {waited_for}, which writes to this memory; Ctrl-C ends the wait")


def print_error(text: str) -> None:
    """Print an error, as one line, to standard error."""
    make_console(stderr=True).print(" ".join(printable(text).split()), style="red")


def printable(text: str) -> str:
    """The text without control characters, with which a document or an answer could steer the terminal."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def count(number: int, noun: str) -> str:
    """The number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """About this time in words, rounded as an estimate is."""
    if seconds < 90:
        return count(max(1, round(seconds)), "second") if seconds < 10 else f"{round(seconds, -1):.0f} seconds"
    if seconds < 90 * 60:
        return count(round(seconds / 60), "minute")
    return f"{seconds / 3600:,.1f} hours" if seconds < 48 * 3600 else count(round(seconds / 86400), "day")


def format_bytes(nbytes: int) -> str:
    """The size in bytes, kB, MB, GB or TB."""
    amount, unit = float(nbytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"


def print_contents(contents: dict[str, Any]) -> None:
    """Print the result of `Memory.inspect`."""
    fingerprint = contents["fingerprint"]
    print_line(f"{contents['path']}", style="bold")
    encoder = fingerprint.get("encoder")
    vectors = f", vectors by {encoder['name']}" if encoder else ""
    made_by = fingerprint.get("latents")
    latents = f", latents by {made_by['name']}" if made_by else ""
    print_line(f"  made with {fingerprint['name']} in {fingerprint['dtype']}{vectors}{latents}")
    counts = f"{count(contents['tokens'], 'token')}, {count(contents['passages'], 'passage')}"
    size = format_bytes(contents["bytes"])
    print_line(f"  {counts}, {contents['characters']:,} characters, {size} on disk")
    print_line(f"  {count(len(contents['sources']), 'source')}{':' if contents['sources'] else ''}")
    for source in contents["sources"]:
        added = time.strftime("%Y-%m-%d %H:%M", time.localtime(source["added"]))
        unfinished = "" if source["complete"] else ", not read to its end: the same `memspan read` goes on"
        print_line(f"    {source['name']}  {source['characters']:,} characters, {added}{unfinished}")
