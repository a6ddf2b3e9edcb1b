"""Write a picture of a terminal: commands, and what they really print.

    python -m examples.picture docs/demo.svg build/logbook.mem --question "Where was the chest buried?" --question "..."

Every question is put to the memory with `memspan ask`. The picture needs no font and nothing else from the network.
"""

import argparse
import io
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # those of rich are fetched from the network
_FAMILY = re.compile(r"font-family: Fira Code, monospace")
FAMILY = "font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def transcript(commands: Sequence[Sequence[str]], lines: int) -> list[tuple[str, str]]:
    """Each command as it is typed, and the first `lines` lines of what it prints, errors included."""
    pairs = []
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "memspan", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        wrapped = [part for line in done.stdout.strip().splitlines() for part in textwrap.wrap(line, COLUMNS) or [""]]
        printed = "\n".join(wrapped[:lines])
        pairs.append((typed(["memspan", *arguments]), printed))
    return pairs


def typed(arguments: Sequence[str]) -> str:
    """A command as it is typed, in double quotes where it must be quoted."""
    return " ".join(word if shlex.quote(word) == word else f'"{word}"' for word in arguments)


def picture(pairs: Sequence[tuple[str, str]], title: str = "memspan") -> str:
    """The SVG of a terminal with commands and what they printed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    for command, printed in pairs:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in printed.splitlines():
            console.print(Text(line, style="cyan" if line.startswith(">") else "dim" if line[:1] in " [" else ""))
        console.print()
    svg = console.export_svg(title=title, unique_id="memspan")
    svg = _FAMILY.sub(FAMILY, _FONTS.sub("", svg))
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("memory", type=Path)
    parser.add_argument("--question", action="append", required=True, help="may be repeated")
    parser.add_argument("--lines", type=int, default=9, help="of what a command prints, at most")
    options = parser.parse_args(arguments)
    commands = [["ask", str(options.memory), question] for question in options.question]
    options.picture.write_text(picture(transcript(commands, options.lines)), "utf-8")
    print(f"-> {options.picture}")


if __name__ == "__main__":
    main()
