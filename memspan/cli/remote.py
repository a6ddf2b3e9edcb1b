"""`memspan push` and `pull`: a copy of a memory in a remote store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.auditing import audited
from memspan.cli.commands import command
from memspan.cli.options import MEMORY
from memspan.cli.output import count, print_line

if TYPE_CHECKING:
    from memspan.memory.remote import Moved

URL = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        help="A place that fsspec knows: s3://BUCKET/NAME (extra `s3`), gs://..., az://..., sftp://..., or a folder of another "
        "disk; with credentials where their tools keep them.",
    ),
]


@command()
def push(
    folder: MEMORY,
    url: URL,
    replace: Annotated[
        bool, typer.Option("--replace", help="Whatever the store holds there, and whoever has sent it.")
    ] = False,
) -> None:
    """Send a memory to a remote store: what the store has already is not sent again, and what was forgotten is deleted there.

    Example: memspan push library.mem s3://backups/library.mem
    """
    from memspan.memory.remote import Remote

    remote = Remote(url)
    with audited("push", folder):
        moved = remote.push(folder, replace=replace)
    print_line(f"{remote.shown} holds {folder} ({_summary(moved, 'sent')}).")


@command()
def pull(
    url: URL,
    folder: Annotated[Path, typer.Argument(metavar="MEMORY", help="Folder: a new one, or one of this memory.")],
) -> None:
    """Make a folder hold the memory of a remote store: what the folder has already is not received again.

    Example: memspan pull s3://backups/library.mem library.mem
    """
    from memspan.memory.remote import Remote

    remote = Remote(url)
    with audited("pull", folder):
        moved = remote.pull(folder)
    print_line(f"{folder} holds {remote.shown} ({_summary(moved, 'received')}).")


def _summary(moved: "Moved", verb: str) -> str:
    return f"{moved.files} of {count(moved.total, 'file')} {verb}, {moved.nbytes / 1e6:.1f} MB"
