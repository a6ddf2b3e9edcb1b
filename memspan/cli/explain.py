"""`memspan trace` and `memspan explain`: what happens inside a mechanism, and what an answer rests on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.commands import command
from memspan.cli.options import (
    AS_JSON,
    MODEL,
    Loading,
    check_text,
    load_language_model,
    loads_model,
    model_of,
    open_memory,
    read_text,
    whole_numbers,
)
from memspan.cli.output import format_bytes, print_json, print_line, print_table, printable
from memspan.errors import UsageError
from memspan.training.config import parse_settings

if TYPE_CHECKING:
    from memspan import explain


@command("trace")
def show_steps(
    mechanism: Annotated[
        str | None, typer.Argument(metavar="MECHANISM", help="Its name, e.g. lstm, or transformer for attention.")
    ] = None,
    numbers: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="N,N,...",
            help="What it reads, a number a step (default: 1,0,1,0,1); token ids of a model.",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="A trained model instead: `best` of a run.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model reads.")] = None,
    hidden: Annotated[int, typer.Option(min=1, metavar="N", help="Hidden size of the mechanism.")] = 2,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of its random weights.")] = 0,
    settings: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Settings of the mechanism.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw a picture: png or svg.")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Show step by step what happens inside a memory mechanism: gates, cells, scores, weights, outputs.

    By itself it has random weights; of a trained model every mechanism is shown, one after the other.

    Example: memspan trace lstm --input 1,0,1,0,1 --plot lstm.svg
    """
    if (mechanism is None) == (model is None):
        raise UsageError("Name either a mechanism, like lstm, or a trained model with --model.")
    if mechanism is not None and text is not None:
        raise UsageError("A mechanism by itself reads numbers: give --input, or a trained model with --model.")
    if model is not None and settings:
        raise UsageError("A trained model has its settings: leave out --settings.")
    from memspan.explain import trace

    if picture is not None:
        trace.check_picture(picture)
    if mechanism is not None:
        read = {} if numbers is None else {"numbers": _decimals(numbers)}
        chosen = parse_settings(settings or [])
        traces = [trace.trace_mechanism(mechanism, hidden=hidden, seed=seed, settings=chosen, **read)]
        about = {"mechanism": mechanism, "hidden": hidden, "seed": seed}
    else:
        assert model is not None
        traces = trace.trace_model(model, text, None if numbers is None else whole_numbers(numbers))
        about = {"model": str(model)}
    if picture is not None:
        trace.plot(traces, picture)
    if as_json:
        print_json({**about, "traces": [one.to_dict() for one in traces]})
        return
    for shown in traces:
        print_table(shown.table())
        print_line(f"carried on: {format_bytes(shown.state_bytes)}\n")


def _decimals(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is no list of numbers like 1,0,1,0,1.") from error


@command("explain")
@loads_model
def explain_answer(
    what: Annotated[Path, typer.Argument(metavar="CHECKPOINT|DIR", help="`best` of a run, or the folder of a memory.")],
    loading: Loading,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What the trained model reads; what the memory is asked.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="The text, in a file.")] = None,
    question: Annotated[str, typer.Option(metavar="TEXT", help="Asked behind the text.")] = "",
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="gradients (the default), attention, gates or occlusion; not for memories."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that shows it all.")] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show which earlier tokens, segments or memories an answer rests on.

    Example: memspan explain runs/letters/best "We cannot come on Friday after all." --html why.html
    """
    if (text is None) == (file is None):
        raise UsageError("Give one text to explain: on the command line, or with --file.")
    given = read_text(file) if file is not None else str(text).encode("utf-8", "replace").decode()
    from memspan import explain
    from memspan.memory.store.folder import Folder

    found: explain.Explanation | explain.RecallExplanation
    if Folder.is_memory(what):
        if method is not None or question:
            raise UsageError(
                "A memory is explained by what it recalls for one question: leave out --method and --question."
            )
        check_text("question", given)
        lm = load_language_model(model or model_of(what), loading)
        found = explain.explain_recall(lm, open_memory(lm, what), given)
    else:
        found = explain.explain(what, given, question, method or "gradients")
    if html is not None:
        explain.write(found.page(), html)
    if as_json:
        print_json(found.to_dict())
        return
    print_line(found.said, style="bold")
    for name, value in found.page().facts:
        print_line(f"{name}: {value}")
    for shown in found.page().tables:
        _print_bars(shown)
    if html is not None:
        print_line(f"{html} shows it in the text.")


def _print_bars(shown: "explain.Table") -> None:
    """A table of the page, its bars as numbers."""
    from rich.table import Table

    table = Table(title=shown.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(shown.columns):
        number = any(row[place].bar is not None for row in shown.rows)
        table.add_column(printable(name), justify="right" if number else "left")
    for row in shown.rows:
        table.add_row(*(printable(one.text) if one.bar is None else f"{one.bar.value:.4f}" for one in row))
    print_table(table)
