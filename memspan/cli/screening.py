"""The options of the commands that answer about what is not shown, and what a person is to look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.commands import adds_options
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.apps.review.queue import Queue
    from memspan.assistant.guards import Guard
    from memspan.assistant.screen import Flagged, Screen

_PANEL = "Safety"

GUARD = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GUARD",
        help="Withhold answers that show personal data or secrets (secrets, or kinds of them: secrets=email,card), that hold "
        "a word of a list (words=FILE, a word or phrase in each line), or to which a guard of your own objects: a Python file "
        "that registers it, which is run, or the name of an installed one. An answer is then shown once it is complete. May be "
        "repeated.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Screening:
    """What keeps an answer from being shown, and where flagged answers go; the fields are options."""

    guard: GUARD = None
    review: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Queue of answers for a person to look at, see `memspan review`: those that a guard withholds, and those whose "
            "confidence is small. It is made if it does not exist, and holds questions, answers and passages in full.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    review_below: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="C",
            help="With --review: answers whose confidence is smaller go into the queue; they are shown all the same (default: "
            "0.25).",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def screen(self, command: str, memory: Path) -> "Screen | None":
        """What answers pass before they are shown; None without any of the options.

        Args:
            command: which gives the answers.
            memory: from which they come.

        Raises UsageError for what is no guard, and for a file that is no queue.
        """
        if self.review is None and self.review_below is not None:
            raise UsageError("--review-below belongs to --review: give both.")
        if not self.guard and self.review is None:
            return None
        from memspan.assistant.confidence import SUPPORTED
        from memspan.assistant.screen import Screen

        on_flag = None if self.review is None else _into_queue(self.review, command, str(memory))
        return Screen(open_guards(self.guard), on_flag, SUPPORTED if self.review_below is None else self.review_below)


screens = adds_options(Screening, "screening")


def open_guards(names: list[str] | None) -> "list[Guard]":
    """The guards of --guard. Raises UsageError for what is none."""
    if not names:
        return []
    from memspan.assistant.guards import guards_of

    return [guard for name in names for guard in guards_of(name)]


def _into_queue(path: Path, command: str, memory: str) -> "Callable[[Flagged], None]":
    """A function that puts answers into a queue, which is opened at once, so that a wrong file is told before an answer."""
    from memspan.apps.review.queue import Queue

    queue = Queue.open(path, create=True)
    return lambda flagged: _add(queue, flagged, command, memory)


def _add(queue: "Queue", flagged: "Flagged", command: str, memory: str) -> None:
    from memspan.cli.output import print_info

    number = queue.add(flagged, command, memory)
    print_info(f"for review: number {number} in {queue.path} ({flagged.reason})")
