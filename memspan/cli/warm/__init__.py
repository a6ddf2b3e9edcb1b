"""A model that stays loaded: in a server, or after `memspan ask --keep-warm SECONDS` in a background process.

Loading torch and the model takes most of a short question. A question of the command line is therefore answered by a process
that holds the same model, if one runs: a server of this user, or a background process, which --keep-warm starts and which
ends when there has been no question for so many seconds.

client      finds the process, and prints what it prints
starting    starts a process in the background
process     the process: it runs the questions that arrive, with what they print going back
model       the model that it keeps, and what must be the same for that
served      a server as such a process
detached    a server in the background: started and ended
sockets     how the two speak, and who may
"""

from pathlib import Path
from typing import Annotated

import typer

from memspan.cli.answering import Answering
from memspan.cli.commands import ARGUMENTS
from memspan.cli.options import Loading

_OPTION = "--keep-warm"


def _end_all(context: typer.Context, seconds: float | None) -> float | None:
    """`memspan ask --keep-warm 0`, without a question, ends the background processes."""
    if seconds == 0 and context.meta.get(ARGUMENTS) in ([_OPTION, "0"], [f"{_OPTION}=0"]):
        from memspan.cli.output import print_info
        from memspan.cli.warm.client import end_all

        if end_all() == 0:
            print_info("There is no background process.")
        raise typer.Exit
    return seconds


KEEP_WARM = Annotated[
    float | None,
    typer.Option(
        _OPTION,
        min=0,
        max=86400,
        metavar="SECONDS",
        callback=_end_all,
        is_eager=True,
        help="Keep the model loaded in a background process for so long after the answer: the next question to the same model is "
        "answered at once. 0 ends the process after the answer, and without a question at once (default: no background process "
        "is started; one that runs, or a server, answers).",
    ),
]


def answer(
    context: typer.Context,
    seconds: float | None,
    folder: Path,
    loading: Loading,
    model: str | None,
    answering: Answering,
) -> None:
    """Leaves the command if a process that holds the model has answered it, with its exit status."""
    from memspan.cli.warm.client import ask

    debug = ["--debug"] if getattr(context.obj, "debug", False) else []
    command = [*debug, str(context.info_name), *context.meta[ARGUMENTS]]
    status = ask(command, seconds, folder, loading, model, answering)
    if status is not None:
        raise typer.Exit(status)
