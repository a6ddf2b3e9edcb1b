"""`memspan monitor`: what a stream of texts says about topics, and alerts where negative opinion suddenly rises."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import command, group, stops_in_order
from memspan.cli.fitted import print_fitted
from memspan.cli.monitored import print_alert, print_due, print_rejected, sentence_of
from memspan.cli.options import AS_JSON
from memspan.cli.output import (
    count,
    number_table,
    print_info,
    print_json,
    print_line,
    print_table,
    progress_bar,
)
from memspan.errors import MemspanError, UsageError

if TYPE_CHECKING:
    from memspan.apps.monitor.delivery import Target

MONITOR = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the monitor.")]
NEGATIVE = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Sentiment that counts as negative (default: the one named so).")
]
PERIOD = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Time whose texts are counted together: hour, day or week (from Monday), in UTC."
    ),
]
KEEP = Annotated[
    int | None,
    typer.Option(min=1, metavar="DAYS", help="Days for which texts, counts and alerts are kept (default: for ever)."),
]
LANGUAGE = Annotated[str, typer.Option(metavar="NAME", help="Language: en or zh.")]
MOMENT = "a date or a time (2026-05-31, 2026-05), or a number with h, d or w for so many hours, days or weeks ago"

monitor = group(
    "monitor",
    """Watch what a stream of texts says about topics: classify, store, chart, and alert where negative opinion rises.

    Example: memspan monitor sample demo && memspan monitor train bank --data demo/labelled.csv
    """,
)


@command("sample", of=monitor)
def write_sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into; created if it does not exist.")],
    texts: Annotated[int, typer.Option(min=1, metavar="N", help="Number of texts in the stream.")] = 100_000,
    labelled: Annotated[int, typer.Option(min=40, metavar="N", help="Number of labelled texts.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed.")] = 0,
    language: LANGUAGE = "en",
) -> None:
    """Write a generated sample: labelled texts, and a stream of a simulated year in which negative opinion rises eight times.

    Example: memspan monitor sample demo
    """
    from memspan.apps.monitor import sample

    sample.write(folder, texts, labelled, seed, language)
    print_line(
        f"{folder} holds {sample.LABELLED} ({count(labelled, 'text')}), {sample.STREAM} ({count(texts, 'text')}) and "
        f"{sample.RISES}, which says where negative opinion rises."
    )


# The parameters are the options.
@command("train", of=monitor)
def train_heads(
    folder: MONITOR,
    data: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Table (csv, tsv, json, jsonl, parquet) with text, topic and sentiment."),
    ],
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the text (default: guessed).")
    ] = None,
    topic_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the topic (default: guessed).")
    ] = None,
    sentiment_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the sentiment (default: guessed).")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Kinds of features: words (fast), characters, states, sentences (slower), or auto for those that suit the "
            "texts (default: words).",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Model for `states` (default: $MEMSPAN_MODEL, else smollm2)."),
    ] = None,
    negative: NEGATIVE = None,
    period: PERIOD = "day",
    keep: KEEP = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Train the classifiers of an existing monitor anew; what is stored stays as it is."
        ),
    ] = False,
    as_json: AS_JSON = False,
) -> None:
    """Make a monitor: train its two classifiers, topic and sentiment, on labelled texts.

    Example: memspan monitor train bank --data demo/labelled.csv
    """
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn

    from memspan.apps.monitor import heads
    from memspan.apps.monitor.setup import check_new, create, settings_for

    check_new(folder, again)
    columns = {"text": text_column, heads.TOPIC: topic_column, heads.SENTIMENT: sentiment_column}
    runs = heads.prepare(folder, data, columns, features or ["words"], model, print_info)
    settings = settings_for(folder, runs[heads.SENTIMENT][1].class_names(), negative, period, keep)
    columns_of_bar = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with progress_bar(*columns_of_bar) as bar:
        bars: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = bar.add_task(name, total=total)
            bar.update(bars[name], completed=done, total=total)

        reports = heads.train(runs, advance, again)
    create(folder, settings)
    if as_json:
        print_json({"monitor": str(folder), **{name: report.to_dict() for name, report in reports.items()}})
        return
    for name, report in reports.items():
        print_line(f"{name.capitalize()}:", style="bold")
        print_fitted(report)
        print_line("")
    print_line(f"{folder} is a monitor. Give it a stream: memspan monitor run {folder} SOURCE --once")


@command("init", of=monitor)
def init_monitor(
    folder: MONITOR,
    topic: Annotated[
        Path,
        typer.Option(metavar="RUN", help="Classifier of topics: output folder of `memspan train`, or a model in it."),
    ],
    sentiment: Annotated[Path, typer.Option(metavar="RUN", help="Classifier of sentiments, likewise.")],
    negative: NEGATIVE = None,
    period: PERIOD = "day",
    keep: KEEP = None,
) -> None:
    """Make a monitor of two classifiers that exist; they are copied.

    Example: memspan monitor init bank --topic runs/topic --sentiment runs/sentiment
    """
    from memspan.apps.monitor import heads
    from memspan.apps.monitor.setup import check_new, create, settings_for

    check_new(folder)
    labels = heads.Head(heads.model_in(sentiment)).labels
    settings = settings_for(folder, labels, negative, period, keep)
    heads.copy(topic, folder, heads.TOPIC)
    heads.copy(sentiment, folder, heads.SENTIMENT)
    create(folder, settings)
    print_line(f"{folder} is a monitor: of {', '.join(labels)}, '{settings.negative}' counts as negative.")


# The parameters are the options.
@command("run", of=monitor)
def run_monitor(
    folder: MONITOR,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files of JSON lines (jsonl), lines (txt), RSS or Atom (rss, atom, xml), folders of these, or - for standard "
            "input.",
        ),
    ],
    once: Annotated[
        bool,
        typer.Option("--once", help="Read the sources to their present ends instead of watching them (extra `watch`)."),
    ] = False,
    alerts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of JSON lines to which alerts are appended.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Address to which each alert, with the texts that caused it, is sent by POST."
        ),
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Field of a JSON line with the text (default: guessed).")
    ] = None,
    time_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Field with the time (default: guessed; without one, now).")
    ] = None,
    id_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Field with the id (default: guessed; without one, text and time)."),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Take in texts: classify and store each once, and alert where negative opinion rises.

    It can be ended at any moment: the same command goes on from there.

    Example: memspan monitor run bank demo/stream.jsonl --once
    """
    from memspan.apps.monitor.alerts import Watcher
    from memspan.apps.monitor.delivery import Delivery
    from memspan.apps.monitor.detection import check_installed
    from memspan.apps.monitor.entries import Fields
    from memspan.apps.monitor.heads import Heads
    from memspan.apps.monitor.ingest import Outcome, ingest
    from memspan.apps.monitor.retention import Forgetting
    from memspan.apps.monitor.sources import STANDARD_INPUT, Sources, check_can_watch
    from memspan.apps.monitor.store import Store, writing

    check_installed()
    opened = Sources(sources, Fields(text_field, time_field, id_field), getattr(sys.stdin, "buffer", None))
    if not once and STANDARD_INPUT in sources and len(sources) > 1:
        raise UsageError("Standard input ends, but files are watched: give one of them, or --once.")
    if not once and STANDARD_INPUT not in sources:
        check_can_watch()
    targets, outcome = _targets(alerts, webhook), Outcome()
    with Store(folder) as store, writing(folder), stops_in_order():
        watcher, delivery = Watcher([target.name for target in targets]), Delivery(store, targets)
        forgetting = Forgetting(store)
        heads = Heads(folder)
        if not once and not as_json and not opened.reads_input:
            print_info("watching for texts; Ctrl-C ends it")

        def between() -> None:
            delivery.step()
            forgetting.step()

        try:
            ingest(
                store,
                heads,
                opened,
                watcher,
                once=once,
                on_alert=lambda alert: None if as_json else print_alert(alert),
                between=between,
                outcome=outcome,
            )
        except KeyboardInterrupt as stop:
            stop.args = (f"interrupted: {sentence_of(outcome, store)} The same command goes on from there.",)
            raise
        finally:
            print_due(delivery)
        if as_json:
            print_json({**outcome.to_dict(), "texts": store.texts, "monitor": str(folder)})
        else:
            print_line(sentence_of(outcome, store))
        print_rejected(outcome)


def _targets(alerts: Path | None, webhook: str | None) -> "list[Target]":
    from memspan.apps.monitor.delivery import LinesFile, Webhook

    file = [] if alerts is None else [LinesFile(alerts)]
    return [*file, *([] if webhook is None else [Webhook(webhook)])]


# The parameters are the options.
@command("report", of=monitor)
def write_report(
    folder: MONITOR,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page to write (html); without it the figures are printed.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help=f"Only periods from here on: {MOMENT}.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Only periods up to here, likewise.")
    ] = None,
    texts: Annotated[
        int, typer.Option(min=0, metavar="N", help="Maximum texts that are listed for a period; 0 lists none.")
    ] = 10,
    language: LANGUAGE = "en",
    as_json: AS_JSON = False,
) -> None:
    """Show the share of negative texts and their number over time, per topic, with the alerts and the texts behind them.

    The page needs no network and no script.

    Example: memspan monitor report bank --output bank.html
    """
    from memspan.apps.monitor import report as reports
    from memspan.apps.monitor.page_words import words_of
    from memspan.apps.monitor.store import Store
    from memspan.memory.moments import seconds_of
    from memspan.memory.moments import until as until_

    words_of(language)
    bounds = (
        None if since is None else seconds_of(since, "--from"),
        None if until is None else until_(until, "--to").of_clock - 1,
    )
    with Store(folder) as store:
        report = reports.made(store, *bounds, texts=texts if output is not None else 0)
    if output is not None:
        try:
            output.write_text(reports.render(report, language), "utf-8")
        except OSError as error:
            raise MemspanError(f"The page cannot be written to {output}: {error.strerror}.") from error
    if as_json:
        print_json(report.to_dict())
        return
    table = number_table(("topic", "texts", "negative", "share", "alerts"), labels=1)
    for topic in report.topics:
        numbers = (f"{topic.texts:,}", f"{topic.negative:,}", f"{topic.share:.1%}", str(len(topic.alerts)))
        table.add_row(topic.name, *numbers)
    print_line(f"{count(report.texts, 'text')} from {report.first} to {report.last}, by {report.period}.")
    print_table(table)
    if output is not None:
        print_line(f"{output} is the page.")


@command("replay", of=monitor)
def replay_stored(folder: MONITOR, as_json: AS_JSON = False) -> None:
    """Find, with hindsight, all rises of negative opinion in what is stored, and how long each lasted.

    Example: memspan monitor replay bank
    """
    from memspan.apps.monitor.alerts import replay
    from memspan.apps.monitor.detection import check_installed
    from memspan.apps.monitor.store import Store

    check_installed()
    with Store(folder) as store:
        found = replay(store)
    if as_json:
        print_json({"rises": found})
        return
    table = number_table(("topic", "from", "to", "texts", "negative", "before", "alert"), labels=3)
    for rise in found:
        shares = (f"{rise['share']:.1%}", f"{rise['expected']:.1%}")
        alert = "none" if rise["alert"] is None else str(rise["alert"])
        table.add_row(rise["topic"], rise["from"], rise["to"], f"{rise['texts']:,}", *shares, alert)
    print_line(f"{count(len(found), 'rise')} of negative opinion.")
    if found:
        print_table(table)


@command("forget", of=monitor)
def forget_texts(
    folder: MONITOR,
    before: Annotated[
        str, typer.Option(metavar="TIME", help=f"Forget the whole periods before this moment, for good: {MOMENT}.")
    ],
) -> None:
    """Delete texts, counts and alerts of the time before a moment. Texts of that time are not taken in again.

    Example: memspan monitor forget bank --before 90d
    """
    from memspan.apps.monitor.store import Store, writing
    from memspan.memory.moments import seconds_of

    moment = seconds_of(before, "--before")
    with Store(folder) as store, writing(folder):
        forgotten = store.forget(store.periods.number(moment), shrink=True)
        print_line(f"{count(forgotten, 'text')} forgotten, {count(store.texts, 'text')} left.")
