"""Which columns of a table hold the texts and their labels, guessed from its first rows."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from memspan.data.corpora import Record
from memspan.errors import MemspanWarning, UsageError

ROWS = 1000  # that are looked at
_LABELS = ("label", "class", "category", "intent", "sentiment", "topic", "target", "tag", "标签", "类别", "分类")
_NUMBERS = ("score", "rating", "stars", "grade", "price", "value", "target", "分数", "评分", "价格")
_TEXTS = ("text", "sentence", "utterance", "message", "body", "content", "review", "question", "文本", "内容", "句子")


class GuessedColumns(MemspanWarning):
    """The columns of a table were guessed."""


def text_and_label(records: Sequence[Record]) -> dict[str, str]:
    """The columns to rename, {theirs: ours}, so that a table has the columns "text" and "label"; {} where none fit.

    The label is a column with a name such as "category", else the one with the fewest different values, of at least two and
    at most half as many as there are rows. The text is a column with a name such as "message", else the one with the longest
    values on average.
    """
    rows = [records[index] for index in range(min(ROWS, len(records)))]
    names = list(rows[0])
    rows = [row for row in rows if any(value is not None for value in row.values())]  # those that could be read
    values: Mapping[str, list[Any]] = {name: [row[name] for row in rows] for name in names}
    different = {name: len({str(value) for value in values[name] if value is not None}) for name in names}
    labels = [name for name in names if 2 <= different[name] <= max(2, len(rows) // 2)]
    texts = [name for name in names if _are_texts(values[name])]
    label = _named(labels, "label", _LABELS) or min(labels, key=lambda name: different[name], default=None)
    texts = [name for name in texts if name != label]
    lengths = {name: sum(len(value or "") for value in values[name]) for name in texts}
    text = _named(texts, "text", _TEXTS) or max(texts, key=lambda name: lengths[name], default=None)
    if text is None or label is None:
        return {}
    return {theirs: ours for theirs, ours in ((text, "text"), (label, "label")) if theirs != ours}


def text_and_number(records: Sequence[Record]) -> dict[str, str]:
    """As `text_and_label`, but the label is a column of numbers: with a name such as "rating", else the first that does not
    count the rows."""
    rows = [records[index] for index in range(min(ROWS, len(records)))]
    rows = [row for row in rows if any(value is not None for value in row.values())]
    numbers = [name for name in rows[0] if sum(_is_number(row[name]) for row in rows) * 2 > len(rows)]
    counting = [name for name in numbers if len({str(row[name]) for row in rows}) == len(rows)]
    label = _named(numbers, "label", _NUMBERS) or next((name for name in numbers if name not in counting), None)
    text = text_column([{name: value for name, value in row.items() if name != label} for row in rows])
    if text is None or label is None:
        return {}
    return {theirs: ours for theirs, ours in ((text, "text"), (label, "label")) if theirs != ours}


def names_are_values(records: Sequence[Record], rename: Mapping[str, str]) -> bool:
    """Whether the name of the column that is the label stands among its values, as in a table without a row of names."""
    column = next((theirs for theirs, ours in rename.items() if ours == "label"), None)
    rows = (records[index] for index in range(min(ROWS, len(records))))
    return column is not None and any(row[column] == column for row in rows)


def _are_texts(values: Sequence[Any]) -> bool:
    """Whether these are texts, of which some may be absent."""
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(value, str) for value in present)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def text_column(records: Sequence[Record]) -> str | None:
    """The column that holds the text, as `text_and_label` finds it; None where no column holds texts."""
    rows = [records[index] for index in range(min(ROWS, len(records)))]
    names = dict.fromkeys(name for row in rows for name in row)
    texts = [name for name in names if _are_texts([row.get(name) for row in rows])]
    lengths = {name: sum(len(row.get(name) or "") for row in rows) for name in texts}
    return _named(texts, "text", _TEXTS) or max(texts, key=lambda name: lengths[name], default=None)


def _named(columns: Sequence[str], exact: str, names: Sequence[str]) -> str | None:
    """The column with the name `exact`, else the first whose name has one of `names` in it."""
    if exact in columns:
        return exact
    return next((column for column in columns if any(name in column.casefold() for name in names)), None)


def columns_by_name(
    names: Sequence[str], known: Mapping[str, Sequence[str]], mapping: Mapping[str, str], path: Path
) -> dict[str, str]:
    """Which column of a table is which, {ours: theirs}, by names that are known for each of ours.

    Columns are looked for in the order of `known`; an exact name comes before one that holds a known name.

    Args:
        names: of the table's columns.
        mapping: {ours: theirs} for columns that are named; an empty name leaves a column out.
        path: of the table, for errors.

    Raises UsageError for a mapping of what is none of ours, or to what is no column.
    """
    unknown = [ours for ours in mapping if ours not in known]
    if unknown:
        raise UsageError(f"--map must name one of {', '.join(sorted(known))}, got '{unknown[0]}'.")
    absent = [theirs for theirs in mapping.values() if theirs and theirs not in names]
    if absent:
        raise UsageError(f"In {path} there is no column '{absent[0]}', only {', '.join(names) or 'unreadable rows'}.")
    found = {ours: theirs for ours, theirs in mapping.items() if theirs}
    exact = [(ours, [name for name in names if name.casefold() in known[ours]]) for ours in known]
    partly = [
        (ours, [name for name in names if any(part in name.casefold() for part in known[ours])]) for ours in known
    ]
    for ours, candidates in (*exact, *partly):
        free = [name for name in candidates if name not in found.values()]
        if free and ours not in mapping and ours not in found:
            found[ours] = min(free, key=partial(_rank, known[ours]))
    return found


def _rank(known: Sequence[str], name: str) -> int:
    return next(number for number, part in enumerate(known) if part in name.casefold())
