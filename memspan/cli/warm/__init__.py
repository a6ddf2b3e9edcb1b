"""A model that stays loaded after `memspan ask --keep-warm SECONDS`, in a background process.

Loading torch and the model takes most of a short question. With the option, the question is answered by a background
process, which is started for the first and answers those that follow; without a question for so many seconds it ends.

client      finds or starts the process, and prints what it prints
process     the background process
model       the model that it keeps, and what must be the same for that
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
        help="Keep the model loaded in a background process for so long after the answer: the next question with this option "
        "and the same model is answered at once. 0 ends the process after the answer, and without a question at once "
        "(default: no background process).",
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
    """Leaves the command if the background process has answered it, with its exit status."""
    if seconds is None:
        return
    from memspan.cli.warm.client import ask

    debug = ["--debug"] if getattr(context.obj, "debug", False) else []
    status = ask([*debug, "ask", *context.meta[ARGUMENTS]], seconds, folder, loading, model, answering)
    if status is not None:
        raise typer.Exit(status)
