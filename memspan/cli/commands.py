"""The application that commands are added to, and the behaviour that all commands share.

A command is a function: its signature is its options and its docstring is its help. Importing a file of commands must
stay cheap (`memspan --help` takes well under a second): torch, transformers and rich are imported by the function that
needs them.
"""

import inspect
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

CommandFunction = Callable[..., None]


ARGUMENTS = "memspan.arguments"  # in the `meta` of a command's context: its command line
INTERRUPTED = 130  # 128 + the number of the signal, as shells count


class Interrupted(Exception):
    """The user pressed Ctrl-C, or the system ended the command; the text is the message to print."""

    def __init__(self, message: str, exit_code: int = INTERRUPTED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """A signal that ends a command as Ctrl-C does, see `stops_in_order`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def stops_in_order() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise `Terminated`, a KeyboardInterrupt: what Ctrl-C leaves in order, they do too.

    A second signal ends the process at once. A signal that is ignored (nohup) stays ignored.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def stop(number: int, frame: object) -> None:
        restore()
        raise Terminated(number)

    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        before |= {
            number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) == signal.SIG_DFL
        }
    try:
        yield
    finally:
        restore()


def _for_help(parameters: list[Any]) -> list[Any]:
    """The parameters without a type for switches, and with --help in the last panel if it had one to itself."""
    options = [parameter for parameter in parameters if isinstance(parameter, TyperOption)]
    for option in options:
        if option.is_flag and option.metavar is None:
            option.metavar = ""
    if len(options) > 1 and all(option.rich_help_panel for option in options[:-1]):
        options[-1].rich_help_panel = options[-2].rich_help_panel
    return parameters


class Command(TyperCommand):
    """A command that reports an interruption as `Interrupted`; typer alone would exit without a message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            number = interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT
            raise Interrupted(str(interrupt), 128 + number) from interrupt

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        return _for_help(super().get_params(ctx))


class Group(TyperGroup):
    """The commands, listed in the order in which they were added."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def get_params(self, ctx: Any) -> list[Any]:
        return _for_help(super().get_params(ctx))


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str | None = None, of: typer.Typer = app) -> Callable[[CommandFunction], CommandFunction]:
    """A decorator that adds a function to the application, or to a group of commands, by default under its own name."""
    return of.command(name, cls=Command)


def group(name: str, about: str) -> typer.Typer:
    """A group of commands, which are called as `memspan NAME COMMAND`; `about` is its help, with an example as the last line."""
    commands = typer.Typer(cls=Group, no_args_is_help=True, pretty_exceptions_enable=False)
    app.add_typer(commands, name=name, help=about, context_settings={"help_option_names": ["-h", "--help"]})
    return commands


def with_parameters(
    function: CommandFunction, call: CommandFunction, parameters: Sequence[inspect.Parameter]
) -> CommandFunction:
    """`call` with the name, module and docstring of `function` and a signature of these parameters, all by keyword."""
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    call.__name__, call.__doc__, call.__module__ = function.__name__, function.__doc__, function.__module__
    call.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return call


def adds_options(group: Callable[..., Any], name: str) -> Callable[[CommandFunction], CommandFunction]:
    """A decorator that adds the fields of a dataclass to a command as options, passed to it as one argument, `name`."""
    shared = inspect.signature(group).parameters

    def decorate(function: CommandFunction) -> CommandFunction:
        own = [parameter for key, parameter in inspect.signature(function).parameters.items() if key != name]

        def call(**arguments: Any) -> None:
            options = group(**{key: arguments.pop(key) for key in shared})
            function(**arguments, **{name: options})

        return with_parameters(function, call, [*own, *shared.values()])

    return decorate
