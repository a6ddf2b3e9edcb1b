"""`memspan recommend`: what a user may like next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.commands import command, group, stops_in_order
from memspan.cli.options import AS_JSON, parse_map, require_text
from memspan.cli.output import count, print_json, print_line
from memspan.cli.recommend_output import (
    Progress,
    print_added,
    print_built,
    print_measured,
    print_recommended,
    print_table_remarks,
)
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.apps.recommend.tables import EventRow, ItemRow

recommend = group(
    "recommend",
    "Recommendations: what a user may like next, from what all users did, with the reason for each.\n\n"
    'Example: memspan recommend for library --user "reader 07" --top 5',
)

FOLDER = Annotated[Path, typer.Argument(metavar="DIR", help="Recommend folder, made by `memspan recommend build`.")]
EVENTS = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Table of events with user, item and time, or also type and rating: csv, tsv or jsonl."
    ),
]
ITEMS = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Table of items, or also with titles, texts and genres: csv, tsv or jsonl."),
]
MAP = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="COLUMN=NAME",
        help="Column of the events that holds the user, item, time, type or rating, as in --map user=reader; without a name it "
        "is left out (default: guessed by its name, and shown).",
    ),
]
MAP_ITEMS = Annotated[
    list[str] | None,
    typer.Option(
        "--map-items",
        metavar="COLUMN=NAME",
        help="Column of the items that holds the item, title, text or genres, as in --map-items text=plot (default: guessed by "
        "its name, and shown).",
    ),
]


@command(of=recommend)
def sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the sample.")], as_json: AS_JSON = False
) -> None:
    """Write a small sample: books of a library, what its readers did, and some of both that came later.

    Example: memspan recommend sample library-data
    """
    from memspan.apps.recommend.sample import write_sample

    files = write_sample(folder)
    if as_json:
        print_json({name: str(path) for name, path in files.items()})
        return
    for name, path in files.items():
        print_line(f"{name}: {path}")


# The parameters are the options.
@command(of=recommend)
def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Recommend folder; made, or built again.")],
    events: EVENTS = None,
    items: ITEMS = None,
    mapping: MAP = None,
    item_mapping: MAP_ITEMS = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPE=W",
            help="How much events of a type count, from 0, as in --weight share=5 (default: those of before, else view 1, "
            "comment 2, share 3, and so on; of a rating the share of the highest).",
        ),
    ] = None,
    min_events: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Events of an item from which on it is learned; others are new items (default: that of before, else 5).",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sentence encoder of the items' texts: minilm, a folder, a Hugging Face id, or none, which counts their words "
            "(default: that of before, else $MEMSPAN_ENCODER, else minilm; words where it does not know the language).",
        ),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Build a recommend folder from tables of events and items; one that exists keeps its own beside them.

    Example: memspan recommend build library --events library-data/events.csv --items library-data/books.csv
    """
    from memspan.apps.recommend.folder import Choices, check_path
    from memspan.apps.recommend.folder import build as build_folder
    from memspan.apps.recommend.store import FILE
    from memspan.apps.recommend.weights import parse_weights

    check_path(folder)
    if not events and not (folder / FILE).exists():
        raise UsageError("A new folder needs events: name their table with --events.")
    choices = Choices(None if weight is None else parse_weights(weight), min_events, encoder)
    event_rows, item_rows = read_tables(events, items, mapping, item_mapping)
    with stops_in_order(), Progress() as progress:
        built = build_folder(folder, event_rows, item_rows, choices, progress.report)
    print_built(folder, built, as_json)


@command(of=recommend)
def add(
    folder: FOLDER,
    events: EVENTS = None,
    items: ITEMS = None,
    mapping: MAP = None,
    item_mapping: MAP_ITEMS = None,
    as_json: AS_JSON = False,
) -> None:
    """Add events and items that came later: the memories of the users are carried on, nothing is learned anew.

    Example: memspan recommend add library --events library-data/later.csv --items library-data/new-books.csv
    """
    from memspan.apps.recommend.folder import Folder

    opened = Folder.open(folder)
    if not events and not items:
        raise UsageError("There is nothing to add: name a table with --events or --items.")
    event_rows, item_rows = read_tables(events, items, mapping, item_mapping)
    with stops_in_order():
        added = opened.add(event_rows, item_rows)
    print_added(added, as_json)


# The parameters are the options.
@command("for", of=recommend)
def recommend_for(
    folder: FOLDER,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="User; one without events, and none, get what was popular lately (default: none)."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many items.")] = 10,
    new: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="How many of them are new items, which are known by their texts alone."),
    ] = 0,
    diversity: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="D",
            help="From 0, the best items whatever they are, to 1, items that are little alike.",
        ),
    ] = 0.0,
    like: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Text that the items are to be like (default: none).")
    ] = None,
    no_reasons: Annotated[bool, typer.Option("--no-reasons", help="Leave out the reasons.")] = False,
    as_json: AS_JSON = False,
) -> None:
    """Recommend items to a user, each with the event that it is recommended for.

    Example: memspan recommend for library --user "reader 07" --top 5 --diversity 0.3
    """
    from memspan.apps.recommend.choice import Wish
    from memspan.apps.recommend.folder import Folder

    if like is not None:
        require_text("text", like)
    opened = Folder.open(folder)
    query = None if like is None else opened.query(like)
    found = opened.recommend(user, Wish(top, new, diversity, query, not no_reasons))
    print_recommended(user, found, as_json)


@command(of=recommend)
def forget(
    folder: FOLDER,
    user: Annotated[str, typer.Option(metavar="ID", help="User whose events and memory are deleted.")],
    as_json: AS_JSON = False,
) -> None:
    """Delete the events and the memory of a user.

    The model keeps the share that they had in what it learned from all users, until the folder is built again.

    Example: memspan recommend forget library --user "reader 07"
    """
    from memspan.apps.recommend.store import Store

    events = Store.open(folder).forget(user)
    if as_json:
        print_json({"user": user, "events": events})
        return
    print_line(f"Forgot {user}: {count(events, 'event')}.")


@command("eval", of=recommend)
def evaluate(
    folder: FOLDER,
    held_out: Annotated[
        float,
        typer.Option(min=0.01, max=0.9, metavar="SHARE", help="Share of the events, the newest, that are predicted."),
    ] = 0.2,
    network: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="CPU time of the network that is trained for comparison; 0 leaves it out."
        ),
    ] = 100.0,
    as_json: AS_JSON = False,
) -> None:
    """Measure the recommendations on the events after a date, beside other methods, all learned from those before it.

    Example: memspan recommend eval library --network 30
    """
    from memspan.apps.recommend.evaluation import evaluate as measure
    from memspan.apps.recommend.store import Store

    store = Store.open(folder)
    with Progress() as progress:
        measured = measure(store, held_out, network, progress.report)
    print_measured(measured, as_json)


def read_tables(
    events: list[Path] | None, items: list[Path] | None, mapping: list[str] | None, item_mapping: list[str] | None
) -> "tuple[list[EventRow], list[ItemRow]]":
    """The events and items of tables; which columns were taken is shown, and rows that are not used."""
    from memspan.apps.recommend.tables import read_events, read_items

    renamed, item_renamed = parse_map(mapping, "user"), parse_map(item_mapping, "title", "--map-items")
    event_tables = [read_events(path, renamed) for path in events or ()]
    item_tables = [read_items(path, item_renamed) for path in items or ()]
    print_table_remarks([*event_tables, *item_tables])
    return [row for table in event_tables for row in table.rows], [row for table in item_tables for row in table.rows]
