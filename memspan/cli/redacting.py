"""The option of the commands that store texts without personal data."""

from typing import Annotated

import typer

from memspan.data.redaction import KINDS

REDACT = Annotated[
    str | None,
    typer.Option(
        metavar="KINDS",
        help="Store placeholders such as [EMAIL] instead of personal data and secrets: all, or some of "
        f"{', '.join(KINDS)}, separated by commas.",
    ),
]
