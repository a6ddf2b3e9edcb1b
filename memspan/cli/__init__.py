"""The command line: the application, its exit codes, and the files with its commands.

The files are imported when a command is run: all of them, or that of the command alone where it is one that a process which
runs already may answer, and every tenth of a second counts.
"""

import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.models import CommandInfo, TyperInfo

from memspan import __version__
from memspan.cli.auditing import logging_to
from memspan.cli.commands import INTERRUPTED, Interrupted, app
from memspan.cli.output import print_error, warnings_as_remarks
from memspan.errors import MemspanError

__all__ = ["ORDER", "all_commands", "command_files", "main", "run"]

PANELS = {
    "Memories": ("read", "ask", "history", "chat", "memories", "transfer", "remote", "audit", "models", "mcp", "serve"),
    "Training and evaluation": ("train", "evaluate", "explain", "bias"),
    "Programs for one purpose": ("desk", "monitor", "support", "review", "recommend"),
}
"""The files of commands in the order of the help, by the heading under which their commands stand there."""

ORDER = tuple(name for names in PANELS.values() for name in names)
"""The same without the headings; the commands of a file that is not named here come last, without one."""

_ALONE = {"ask": "ask", "search": "ask"}  # commands that a running process may answer, and their files

_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}
"""How many kernels of oneDNN a process keeps, by the variables of oneDNN and of torch's bridge to it, which are read once.

There is one kernel for each shape of a product, so for each length of a text. Left to themselves both keep 1,024: a server of a
tiny model grew by a hundred megabytes in a minute of conversations, see LOG.md. The shapes that return with every token are fewer."""

_ClickError: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, of click or of typer's own copy of it


@dataclass
class _Invocation:
    """What holds for all commands."""

    debug: bool = False


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave: 0 done, 1 failed, 2 a wrong request, 128 + n ended by
    signal n (130: Ctrl-C)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that the terminal does not know must not end the program
            stream.reconfigure(errors="backslashreplace")
    for name, value in _KERNELS.items():
        os.environ.setdefault(name, value)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code, as `main` does; an error is printed, not raised."""
    invocation = _Invocation()
    application = _with_commands_for(arguments)
    try:
        with warnings_as_remarks():
            code = application(list(arguments), prog_name="memspan", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except _ClickError as error:
        error.show()  # type: ignore[attr-defined]
        return 2
    except (Interrupted, typer.Abort) as interrupt:
        print_error(str(interrupt) or "interrupted")
        return interrupt.exit_code if isinstance(interrupt, Interrupted) else INTERRUPTED
    except BrokenPipeError:  # the reader has closed its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered must go somewhere
        return 1
    except Exception as error:
        if invocation.debug:
            traceback.print_exc()
        if isinstance(error, MemspanError):
            print_error(f"error: {error}")
            return error.exit_code
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        print_error(f"error: unexpected {what} - run it as `memspan --debug ...` to see where")
        return 1


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"memspan {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Log to which a line is added for each read, search, question, turn of a chat and change of a memory, see "
            "`memspan audit` (default: $MEMSPAN_AUDIT; none without it).",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A long-range memory for language models: read documents once, then ask, search and chat.

    Example: memspan read book.txt --into book.mem && memspan ask book.mem "Who is the captain?"
    """
    context.ensure_object(_Invocation).debug = debug
    context.with_resource(logging_to(audit))


def command_files() -> list[str]:
    """The names of this package's modules, those in `ORDER` first; a module without commands adds none."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def all_commands() -> typer.Typer:
    """The application with the commands of all files, in the order of the help."""
    for name in command_files():
        import_module(f"{__name__}.{name}")  # adds the commands of the file to `app`
    order = {f"{__name__}.{name}": index for index, name in enumerate(command_files())}
    app.registered_commands.sort(key=lambda command: order.get(_module_of(command), len(order)))
    app.registered_groups.sort(key=lambda group: order.get(_module_of(group), len(order)))
    entries: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for entry in entries:
        name = _module_of(entry).rpartition(".")[2]
        if not isinstance(entry.rich_help_panel, str):
            entry.rich_help_panel = next((panel for panel, names in PANELS.items() if name in names), None)
    return app


def _with_commands_for(arguments: Sequence[str]) -> typer.Typer:
    """The application with at least the command that is called."""
    own = [argument for argument in arguments[:2] if argument != "--debug"]
    if not own or own[0] not in _ALONE:
        return all_commands()
    import_module(f"{__name__}.{_ALONE[own[0]]}")
    return app


def _module_of(entry: CommandInfo | TyperInfo) -> str:
    """The module of a command; of a group, that of its first command."""
    if isinstance(entry, TyperInfo):
        assert entry.typer_instance is not None
        return _module_of(entry.typer_instance.registered_commands[0])
    return str(getattr(entry.callback, "__module__", ""))
