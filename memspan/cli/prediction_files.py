"""Predictions for the rows of a file, and the file that they are written to."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspan.data.columns import text_column
from memspan.data.rows import TEXT, Row, is_empty, read_rows
from memspan.errors import MemspanError, UsageError

if TYPE_CHECKING:
    from memspan.tasks import Prediction

WRITTEN = (".csv", ".tsv", ".jsonl")
PREDICTION, PROBABILITY, ABSTAINED, PROBLEM = "prediction", "probability", "abstained", "problem"


@dataclass(frozen=True)
class PredictedFile:
    """The rows of a file with their predictions.

    Attributes:
        column: that holds the text.
        rows: with the four columns of this module behind their own.
        problems: the numbers of the rows without a prediction, and why.
        abstained: number of rows whose probability is too low.
    """

    column: str
    rows: list[dict[str, Any]]
    problems: dict[int, str]
    abstained: int


def predicted_rows(
    path: Path,
    column: str | None,
    predict: Callable[[Sequence[str]], "Sequence[Prediction]"],
    min_probability: float,
) -> PredictedFile:
    """The rows of a file with the prediction for each; one that is less probable than `min_probability` is left out.

    Args:
        column: that holds the text; None guesses it.

    Raises UsageError for a file that cannot be read, or without such a column.
    """
    rows = read_rows(path)
    readable = [row.values for row in rows if row.problem is None]
    column = column or (text_column(readable) if readable else TEXT)
    if column is None or not any(column in values for values in readable):
        names = ", ".join(dict.fromkeys(name for values in readable for name in values))
        raise UsageError(
            f"In {path} there is no column '{column or TEXT}', only {names or 'rows that cannot be read'}."
        )
    problems = {row.number: problem for row in rows if (problem := _problem(row, column)) is not None}
    used = [row for row in rows if row.number not in problems]
    found = dict(zip((row.number for row in used), predict([row.values[column] for row in used]), strict=True))
    written = [_written(row, found.get(row.number), problems.get(row.number), min_probability) for row in rows]
    return PredictedFile(column, written, problems, sum(row[ABSTAINED] for row in written))


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to a csv, tsv or jsonl file. Raises MemspanError where that fails."""
    check_output(path)
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
            if path.suffix.lower() == ".jsonl":
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                return
            table = csv.DictWriter(file, names, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            table.writeheader()
            table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    except OSError as error:
        raise MemspanError(f"The predictions cannot be written to {path}: {error.strerror}.") from error


def check_output(path: Path) -> None:
    """Raise UsageError for a file of another kind than `write_rows` writes, or in a folder that does not exist."""
    if path.suffix.lower() not in WRITTEN:
        raise UsageError(f"--output must be a file of {', '.join(WRITTEN)}, got {path}.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for --output: create it.")


def _problem(row: Row, column: str) -> str | None:
    if row.problem is not None:
        return row.problem
    value = row.values.get(column)
    if is_empty(value):
        return f"has no {column}"
    return None if isinstance(value, str) else f"has a {column} that is no text"


def _written(row: Row, prediction: "Prediction | None", problem: str | None, min_probability: float) -> dict[str, Any]:
    probability = None if prediction is None else prediction.probability
    abstained = probability is not None and probability < min_probability
    return {
        **row.values,
        PREDICTION: None if prediction is None or abstained else prediction.text,
        PROBABILITY: None if probability is None else round(probability, 4),
        ABSTAINED: abstained,
        PROBLEM: problem,
    }


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
