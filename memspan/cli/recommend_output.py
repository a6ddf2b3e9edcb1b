"""What the commands of `memspan recommend` print."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from memspan.cli.output import count, number_table, print_info, print_json, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from memspan.apps.recommend.choice import Reason, Recommendation
    from memspan.apps.recommend.evaluation import Measured
    from memspan.apps.recommend.folder import Added, Built
    from memspan.apps.recommend.tables import Table


class Progress:
    """A bar on a terminal, for what is computed."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, TextColumn

        self._bar = progress_bar(TextColumn("{task.description}", markup=False), BarColumn())
        self._bar.start()
        self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def report(self, noun: str, done: int, total: int) -> None:
        """So much is done, of so much."""
        self._bar.update(self._task, description=noun, completed=done, total=total)


def print_table_remarks(tables: "Sequence[Table]") -> None:
    """Print which columns were taken, and the rows that are not used."""
    for table in tables:
        print_info(table.columns_in_words())
        if table.problems:
            print_info(table.problems_in_words())


def print_built(folder: Path, built: "Built", as_json: bool) -> None:
    """Print what a recommend folder holds."""
    counts = built.counts
    if built.unknown_types:
        print_info(
            f"Events of the type {', '.join(built.unknown_types[:5])} count 1, because nothing is known of it: set it with "
            f"--weight {built.unknown_types[0]}=2."
        )
    if as_json:
        print_json({"folder": str(folder), **asdict(built)})
        return
    print_line(
        f"{folder} holds {count(counts['users'], 'user')}, {count(counts['events'], 'event')} and "
        f"{count(counts['items'], 'item')}: {counts['fitted']:,} learned, {counts['items'] - counts['fitted']:,} new."
    )
    if built.texts is None:
        print_info("The items have no texts: new items cannot be recommended, and none is like a text.")
    else:
        kind, encoder = built.texts
        print_line(f"Texts are compared by {'their words' if kind == 'words' else f'the sentence encoder {encoder}'}.")


def print_added(added: "Added", as_json: bool) -> None:
    """Print what was added."""
    if as_json:
        print_json(asdict(added))
        return
    print_line(
        f"Added {count(added.events, 'event')} of {count(added.users, 'user')} and {count(added.items, 'item')}; "
        f"{count(added.known, 'event')} known before."
    )
    if added.read_again:
        print_line(f"The history of {count(added.read_again, 'user')} was read again: events came late.")


def print_recommended(user: str | None, found: "Sequence[Recommendation]", as_json: bool) -> None:
    """Print recommendations with their reasons."""
    if as_json:
        print_json({"user": user, "items": [item.to_dict() for item in found]})
        return
    if not found:
        print_line("There is nothing left to recommend.")
    for number, item in enumerate(found, 1):
        details = ", ".join(part for part in (item.genres.replace("|", ", "), "new" if item.is_new else "") if part)
        name = item.title if item.title else item.item
        print_line(f"{number:>2}. {name}  [{item.item}]" + (f"  {details}" if details else ""))
        if item.reason is not None:
            print_line(f"    {reason_in_words(item.reason)}", style="dim")


def reason_in_words(reason: "Reason") -> str:
    """The event for which an item is recommended, and what its rank would be without it."""
    event = reason.step.event
    when = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%d")
    rating = "" if event.rating is None else f"rated {event.rating:g}"
    kind = ", ".join(dict.fromkeys(part for part in (event.type if event.type != "rating" else "", rating) if part))
    return (
        f"because of {reason.title} ({kind}{', ' if kind else ''}{when}): rank {reason.rank:,}, without it "
        f"{reason.rank_without:,}"
    )


def print_measured(measured: "Measured", as_json: bool) -> None:
    """Print what a folder is worth."""
    if as_json:
        print_json(asdict(measured))
        return
    events = measured.events
    print_line(
        f"{events['learned']:,} events learned, {events['predicted']:,} of {count(events['users'], 'user')} predicted, "
        f"{count(events['items'], 'item')}."
    )
    table = number_table(
        ("method", "NDCG@10", "95 % interval", "Recall@10", "coverage", "novelty", "behind by"), labels=1
    )
    for name, method in measured.methods.items():
        low, high = method.interval
        behind = "" if method.behind is None else "{:+.3f} to {:+.3f}".format(*method.behind)
        shares = (f"{value:.3f}" for value in (method.recall, method.coverage))
        table.add_row(name, f"{method.ndcg:.3f}", f"{low:.3f} to {high:.3f}", *shares, f"{method.novelty:.1f}", behind)
    print_table(table)
    new = measured.new_items
    if new:
        print_line(
            f"New items: the right one of {new['items']:,.0f} is among ten for {new['memspan']:.3f} of "
            f"{new['questions']:,.0f} events ({new['from']:.3f} to {new['to']:.3f}); popularity, which knows nothing of them: "
            f"{new['popularity']:.3f}; texts alone: {new['texts alone']:.3f}."
        )
    reasons = measured.reasons
    print_line(
        f"Reasons: without the named event {reasons['changed']:.3f} of {reasons['items']:,.0f} recommended items change their "
        f"rank; without another event, drawn at random, {reasons['changed without a random event']:.3f}."
    )
    for setting, values in measured.diversity.items():
        print_line(
            f"--diversity {setting}: NDCG@10 {values['NDCG@10']:.3f}, similarity of two items {values['similarity']:.3f}"
        )
