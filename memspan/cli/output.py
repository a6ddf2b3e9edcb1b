"""Printing: lines, tables and JSON on standard output, remarks and errors on standard error."""

import json
import os
import sys
import time
from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from memspan.assistant.retriever import RetrievedPassage


SHOWN = 160  # characters of a passage in a list
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
    """Whether the user wants nothing but text."""
    return bool(os.environ.get("NO_COLOR"))


def print_table(table: "Table") -> None:
    """A table on standard output."""
    make_console().print(table)


def print_line(text: str, style: str | None = None) -> None:
    """A line on standard output."""
    make_console().print(printable(text), style=style)


def print_part(text: str) -> None:
    """Part of a line, seen at once."""
    print(printable(text), end="", flush=True)  # noqa: T201


def print_json(value: dict[str, Any]) -> None:
    as_unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not as_unicode, indent=2))  # noqa: T201


def print_info(text: str) -> None:
    """A remark beside the result."""
    make_console(stderr=True).print(printable(text), style="dim")


def print_error(text: str) -> None:
    """One line about what went wrong."""
    make_console(stderr=True).print(" ".join(printable(text).split()), style="red")


def printable(text: str) -> str:
    """Without what could steer a terminal: documents and models may say anything."""
    return "".join(one if one.isprintable() or one == "\n" else " " for one in text)


def count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def format_bytes(nbytes: int) -> str:
    amount, unit = float(nbytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"


def print_passages(passages: "Sequence[RetrievedPassage]") -> None:
    for number, one in enumerate(passages, start=1):
        print_line(f"{number}. {one.source}, characters {one.start:,}-{one.end:,}, score {one.score:.2f}", style="bold")
        print_line(f"   {shorten(printable(one.text), SHOWN, placeholder=' ...')}")


def print_contents(contents: dict[str, Any]) -> None:
    """What `Memory.inspect` tells, for people."""
    made_with = contents["fingerprint"]
    print_line(f"{contents['path']}", style="bold")
    print_line(f"  made with {made_with['name']} in {made_with['dtype']}")
    counts = (count(contents["tokens"], "token"), count(contents["passages"], "passage"))
    print_line(
        f"  {counts[0]}, {counts[1]}, {contents['characters']:,} characters, {format_bytes(contents['bytes'])} on disk"
    )
    print_line(f"  {count(len(contents['sources']), 'source')}{':' if contents['sources'] else ''}")
    for source in contents["sources"]:
        added = time.strftime("%Y-%m-%d %H:%M", time.localtime(source["added"]))
        unfinished = "" if source["complete"] else ", not read to its end: the same `memspan read` goes on"
        print_line(f"    {source['name']}  {source['characters']:,} characters, {added}{unfinished}")
