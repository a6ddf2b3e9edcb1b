"""The options that filter the passages of a memory, and the tags of what is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.commands import adds_options
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.memory import Filter

_PANEL = "Filter"

TAGS = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="KEY=VALUE", help="Tag of what is read, by which searches can be filtered; may be repeated."
    ),
]
ALSO = Annotated[
    list[Path] | None,
    typer.Option(
        "--also",
        metavar="DIR",
        help="Folder of another memory of the same model to search with the first; may be repeated.",
    ),
]


@dataclass(frozen=True)
class Filters:
    """The conditions on passages; the fields are options."""

    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Name of a source, or a pattern with the wildcards * and ?; of several any.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what happened, or else was read, from 2026-05-31, 2026-05, 2026-05-31T18:00 or, for example, 30d "
            "(30 days ago; also m, h, w) on.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what happened, or else was read, up to and including then, as for --since.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Kind of source: document or exchange; of several any.", rich_help_panel=_PANEL
        ),
    ] = None
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only passages with this mark (page=3, speaker=Ann) or of sources with this tag; may be repeated.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def filter(self) -> "Filter | None":
        """The filter; None without any condition. Raises UsageError for a time or a tag that is none."""
        if self == Filters():
            return None
        from memspan.memory import Filter
        from memspan.memory.moments import since, until

        if self.since is not None:
            since(self.since, "--since")
        if self.until is not None:
            until(self.until, "--until")
        return Filter(self.source or (), self.since, self.until, self.kind or (), parse_tags(self.where or ()))


def parse_tags(pairs: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key of pairs such as "page=3". Raises UsageError for a text without key or value."""
    tags: dict[str, list[str]] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key.strip() or not value.strip():
            raise UsageError(f"--where must be a name and a value, such as page=3 or speaker=Ann, got {pair!r}.")
        tags.setdefault(key.strip(), []).append(value.strip())
    return tags


takes_filters = adds_options(Filters, "filters")
