"""The application that commands are added to, and what all of them have in common.

A subcommand is a function: its signature is its options and its docstring is its help. Importing a file of commands must
stay cheap (`memspan --help` takes well under a second): torch, transformers and rich are imported by the function that
needs them.
"""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Interrupted(Exception):
    """The user pressed Ctrl-C; the text says what that means."""


class Command(TyperCommand):
    """A command that can be interrupted: otherwise typer leaves without a word, or with one of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(str(interrupt)) from interrupt


class Group(TyperGroup):
    """The commands in the order in which they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that adds a function to the application, by default under its own name."""
    return app.command(name, cls=Command)
