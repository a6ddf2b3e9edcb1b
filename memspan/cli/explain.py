"""`memspan trace` and `memspan explain`: the inside of a mechanism step by step, and the evidence for an answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.options import (
    AS_JSON,
    MODEL,
    PLUGIN,
    Loading,
    load_language_model,
    loads_model,
    open_memory,
    parse_numbers,
    read_text,
    require_text,
)
from memspan.cli.output import format_bytes, print_json, print_line, print_table, printable
from memspan.errors import UsageError
from memspan.plugins import load_files
from memspan.training.options import parse_settings

if TYPE_CHECKING:
    from memspan import explain


# The parameters are the options.
@command("trace")
def show_steps(
    mechanism: Annotated[
        str | None,
        typer.Argument(metavar="MECHANISM", help="Name of a mechanism, e.g. lstm, or transformer for attention."),
    ] = None,
    numbers: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="N,N,...",
            help="Input, one number per step (default: 1,0,1,0,1); for a trained model, token ids.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", help="Folder of a trained model to trace instead: `best` of a run."),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Input text of the trained model.")] = None,
    hidden: Annotated[int, typer.Option(min=1, metavar="N", help="Hidden size of the mechanism.")] = 2,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the mechanism's weights.")] = 0,
    mechanism_settings: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Settings of the mechanism.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Picture of the steps to write: png or svg.")
    ] = None,
    plugin: PLUGIN = None,
    as_json: AS_JSON = False,
) -> None:
    """Show step by step the internal values of a memory mechanism: gates, cells, scores, weights, outputs.

    A mechanism given by name has random weights; of a trained model, every mechanism is shown in order.

    Example: memspan trace lstm --input 1,0,1,0,1 --plot lstm.svg
    """
    _check_subject(mechanism, model, text, mechanism_settings)
    load_files(plugin or [])
    from memspan.explain import trace

    if picture is not None:
        trace.check_picture(picture)
    if model is not None:
        ids = None if numbers is None else parse_numbers(numbers, int, "--input")
        traces = trace.trace_model(model, text, ids)
        about: dict[str, Any] = {"model": str(model)}
    else:
        inputs = {} if numbers is None else {"numbers": parse_numbers(numbers, float, "--input")}
        values = parse_settings(mechanism_settings or [])
        traces = [trace.trace_mechanism(str(mechanism), hidden=hidden, seed=seed, settings=values, **inputs)]
        about = {"mechanism": mechanism, "hidden": hidden, "seed": seed}
    if picture is not None:
        trace.plot(traces, picture)
    if as_json:
        print_json({**about, "traces": [result.to_dict() for result in traces]})
        return
    for result in traces:
        print_table(result.table())
        print_line(f"carried on: {format_bytes(result.state_bytes)}\n")


def _check_subject(mechanism: str | None, model: Path | None, text: str | None, settings: list[str] | None) -> None:
    """Raises UsageError unless either a mechanism or a trained model is named, with inputs that fit it."""
    if (mechanism is None) == (model is None):
        raise UsageError("Name either a mechanism, like lstm, or a trained model with --model.")
    if mechanism is not None and text is not None:
        raise UsageError("A mechanism by itself reads numbers: give --input, or a trained model with --model.")
    if model is not None and settings:
        raise UsageError("A trained model has its settings: leave out --mechanism-settings.")


# The parameters are the options.
@command("explain")
@loads_model
def explain_answer(
    folder: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT|DIR", help="Folder of a trained model (`best` of a run) or a memory.")
    ],
    loading: Loading,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="Input text of the trained model, or a question to the memory."),
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="File that holds the text.")] = None,
    question: Annotated[
        str, typer.Option(metavar="TEXT", help="Question appended to the text, for a trained model.")
    ] = "",
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Method for a trained model: gradients, attention, gates or occlusion (default: gradients).",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML page to write, with the text shaded.")] = None,
    plugin: PLUGIN = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show the earlier tokens, segments or passages that an answer is based on.

    Example: memspan explain runs/letters/best "We cannot come on Friday after all." --html why.html
    """
    from memspan.models.folders import find

    if find(folder) is None:
        raise UsageError(
            f"There is no folder {folder}: name one of a trained model, like `best` of a run, or a memory."
        )
    if (text is None) == (file is None):
        raise UsageError("Give one text to explain: on the command line, or with --file.")
    load_files(plugin or [])
    content = read_text(file) if file is not None else str(text).encode("utf-8", "replace").decode()
    from memspan import explain
    from memspan.memory.store.folder import Folder

    explanation: explain.Explanation | explain.LabelExplanation | explain.RecallExplanation
    if Folder.is_memory(folder):
        if method is not None or question:
            raise UsageError(
                "A memory is explained by its passages for one question: leave out --method and --question."
            )
        require_text("question", content)
        lm = load_language_model(model, loading, folder)
        explanation = explain.explain_recall(lm, open_memory(lm, folder), content)
    elif explain.is_over_features(folder):
        if method is not None or question:
            raise UsageError(
                "A classifier over features is explained by what they add: leave out --method and --question."
            )
        explanation = explain.explain_label(folder, content)
    else:
        explanation = explain.explain(folder, content, question, method or "gradients")
    if html is not None:
        explain.write(explanation.page(), html)
    if as_json:
        print_json(explanation.to_dict())
        return
    _print_explanation(explanation)
    if html is not None:
        print_line(f"{html} shows it in the text.")


def _print_explanation(
    explanation: "explain.Explanation | explain.LabelExplanation | explain.RecallExplanation",
) -> None:
    """Print the answer, and the facts and tables of the page."""
    page = explanation.page()
    print_line(explanation.answer, style="bold")
    for name, value in page.facts:
        print_line(f"{name}: {value}")
    for table in page.tables:
        _print_page_table(table)


def _print_page_table(page_table: "explain.Table") -> None:
    """Print a table of the page, with its bars as numbers."""
    from rich.table import Table

    table = Table(title=page_table.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(page_table.columns):
        has_bars = any(row[index].bar is not None for row in page_table.rows)
        table.add_column(printable(name), justify="right" if has_bars else "left")
    for row in page_table.rows:
        table.add_row(*(printable(cell.text) if cell.bar is None else f"{cell.bar.value:.4f}" for cell in row))
    print_table(table)
