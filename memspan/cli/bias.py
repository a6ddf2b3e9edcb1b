"""`memspan bias`: how far a classifier's predictions depend on the gender or the origin of a name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON, CHECKPOINT, ENSEMBLE, PLUGIN
from memspan.cli.output import count, number_table, print_info, print_json, print_line, print_table
from memspan.errors import UsageError
from memspan.plugins import load_files

if TYPE_CHECKING:
    from memspan.evaluation.bias import Attribute, Bias, Difference, OwnTexts

SHOWN = 8  # rows of a table, those with the largest differences


# The parameters are the options.
@command()
def bias(
    checkpoint: CHECKPOINT,
    language: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE", help="Language of the templates, en or zh; may be repeated (default: both)."),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Sentences of your own, one in each line, with {name} and perhaps {they}, {their}, {them} (default: 24 that come "
            "with memspan, for each language).",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table (csv, tsv, jsonl) or lines (txt) of texts of your own, in which words and names of a gender are swapped.",
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of --data with the texts (default: guessed).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Rows of --data, the first ones (default: all).")
    ] = None,
    ensemble: ENSEMBLE = None,
    plugin: PLUGIN = None,
    as_json: AS_JSON = False,
) -> None:
    """Measure how far a classifier's predictions depend on the gender or the origin of a name, on counterfactual texts.

    Each sentence is filled with 50 or 60 names, so that texts differ in the name and its pronouns alone. What groups of names
    differ by is shown with 95 % intervals, beside what names of one group differ by among themselves. It is for models of
    `memspan train --task classification` or `regression`; read the language that the model was trained on.

    Example: memspan bias runs/reviews --language en --data reviews.csv
    """
    load_files(plugin or [])
    measured = _measured(checkpoint, language, templates, _texts(data, column, limit), ensemble or [])
    if as_json:
        print_json({"checkpoint": str(checkpoint), **measured.to_dict()})
        return
    for attribute in measured.attributes:
        _print_attribute(attribute)
    if measured.own is not None:
        _print_own(measured.own)


def _measured(
    checkpoint: Path,
    language: list[str] | None,
    templates: Path | None,
    texts: Sequence[str] | None,
    others: Sequence[Path],
) -> "Bias":
    """What was measured. Raises UsageError for a language without templates, and for a model of another task."""
    from memspan.evaluation.bias import Bias, of_templates, of_texts
    from memspan.evaluation.counterfactuals import LANGUAGES, read_templates
    from memspan.evaluation.counterfactuals import templates as written
    from memspan.evaluation.predict import outputs_of

    for each in language or ():
        if each not in LANGUAGES:
            raise UsageError(f"--language must be {' or '.join(LANGUAGES)}, got '{each}'.")
    sentences = {each: written(each) for each in LANGUAGES} if templates is None else read_templates(templates)
    chosen = [each for each in LANGUAGES if each in sentences and (not language or each in language)]
    if not chosen:
        raise UsageError(f"{templates} holds no sentence in the language {' or '.join(language or ())}.")
    labels, predict = outputs_of(checkpoint, others)
    attributes = [found for each in chosen for found in of_templates(predict, labels, each, sentences[each])]
    measured = Bias(labels, attributes)
    return measured if texts is None else replace(measured, own=of_texts(predict, labels, texts))


def _texts(path: Path | None, column: str | None, limit: int | None) -> list[str] | None:
    """The texts of --data; None without it. Raises UsageError for a file or a column that cannot be read."""
    if path is None:
        return None
    from memspan.data.columns import text_column
    from memspan.data.rows import TEXT, read_rows

    rows = [row.values for row in read_rows(path) if row.problem is None]
    named = column or (text_column(rows) if rows else None) or TEXT
    texts = [str(row[named]) for row in rows if row.get(named)]
    if not texts:
        raise UsageError(f"In {path} there is no text in a column '{named}': name the column with --column.")
    if column is None:
        print_info(f"The text is read from the column '{named}' of {path}; --column names another.")
    return texts[:limit]


def _print_attribute(found: "Attribute") -> None:
    """Print the flips and the largest differences."""
    print_line(f"{found.language}, {found.attribute}: {count(found.texts, 'text')}", style="bold")
    if found.flips is not None:
        flips = found.flips
        print_line(
            f"  The label differs in {flips.between:.2%} of pairs of names of different groups, and in {flips.within:.2%} of "
            f"pairs within a group: {flips.excess:+.2%} ({flips.interval[0]:+.2%} to {flips.interval[1]:+.2%})"
        )
    _print_differences(found.differences, "less the others")


def _print_differences(differences: "Sequence[Difference]", what: str) -> None:
    """Print a table of the largest differences."""
    from memspan.evaluation.bias import SMALLEST

    table = number_table(("group", "value", f"mean, {what}", "95 % interval", ""), labels=2)
    largest = sorted(differences, key=lambda each: -abs(each.difference))[:SHOWN]
    for each in largest:
        low, high = each.interval
        mark = "clear" if each.is_clear and abs(each.difference) >= SMALLEST else ""
        table.add_row(each.group, each.value, f"{each.difference:+.4f}", f"{low:+.4f} to {high:+.4f}", mark)
    print_table(table)
    if len(differences) > len(largest):
        print_info(f"{len(differences) - len(largest)} smaller differences are in --json.")


def _print_own(own: "OwnTexts") -> None:
    """Print what the swap of gender changes in texts of the user's own."""
    print_line(f"your texts: {own.texts:,} of {own.of:,} hold a word or name of a gender", style="bold")
    if own.changed is not None:
        share, low, high = own.changed
        print_line(f"  The label changes in {share:.2%} of them when it is swapped ({low:.2%} to {high:.2%})")
    if own.differences:
        print_line(f"  {count(own.one_gender, 'text')} about one gender:")
        _print_differences(own.differences, "less male")
    for text, other in own.examples:
        print_line(f"  {text[:160]}", style="dim")
        print_line(f"  {other[:160]}", style="dim")
