"""Tables of events and of items: which column is which, and the rows that can be used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memspan.data.columns import columns_by_name
from memspan.data.dates import unix_seconds
from memspan.data.rows import Row, described, is_empty, read_rows
from memspan.errors import UsageError

_ITEM = ("item", "movie", "film", "book", "product", "article", "song", "track", "video", "post", "sku", "isbn")
_ITEM_ZH = ("物品", "商品", "电影", "图书", "文章", "视频")
# The names by which a column is guessed, in the order in which columns are looked for. An exact name comes before a part of one.
EVENT_NAMES = {
    "time": ("time", "timestamp", "date", "created", "when", "时间", "日期"),
    "rating": ("rating", "stars", "score", "grade", "评分"),
    "type": ("type", "event", "action", "kind", "behavior", "behaviour", "类型", "行为"),
    "user": (
        *("user", "customer", "client", "member", "reader", "viewer", "visitor", "account", "用户", "读者"),
        *("顾客", "客户"),
    ),
    "item": (*_ITEM, *_ITEM_ZH),
}
ITEM_NAMES = {
    "title": ("title", "name", "headline", "标题", "名称", "书名", "片名"),
    "genres": ("genres", "genre", "categories", "category", "tags", "tag", "topic", "keyword", "类别", "标签", "分类"),
    "text": (
        "text",
        "description",
        "summary",
        "overview",
        "abstract",
        "plot",
        "body",
        "content",
        "简介",
        "描述",
        "内容",
    ),
    "item": (*_ITEM, "id", *_ITEM_ZH, "编号"),
}
SEPARATOR = "|"  # between the genres of an item, as they are kept


class ItemRow(NamedTuple):
    """An item of a table; what the table does not tell is empty. Genres are separated by `SEPARATOR`."""

    id: str
    title: str = ""
    text: str = ""
    genres: str = ""


class EventRow(NamedTuple):
    """An event of a table.

    Attributes:
        time: unix seconds.
        type: in lower case; empty where the table has no types.
        rating: None where there is none.
    """

    user: str
    item: str
    time: float
    type: str = ""
    rating: float | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        rows: those that can be used, of `EventRow` or `ItemRow`.
        columns: {ours: theirs}, as guessed or named.
        problems: the numbers of the rows that are not used, and why.
        total: rows of the file.
    """

    path: Path
    rows: list[Any]
    columns: dict[str, str]
    problems: dict[int, str]
    total: int

    def columns_in_words(self) -> str:
        """A sentence about which column is which."""
        pairs = ", ".join(f"{ours} is '{theirs}'" for ours, theirs in self.columns.items())
        return f"Columns of {self.path}: {pairs}."

    def problems_in_words(self) -> str:
        """A sentence that counts the rows that are not used and names the first of them."""
        return described(self.problems, self.total, str(self.path))


def read_events(path: Path, mapping: Mapping[str, str] | None = None) -> Table:
    """The events of a csv, tsv or jsonl file.

    Args:
        mapping: {ours: theirs} for columns that are named; the others are guessed. An empty name leaves a column out.

    Raises UsageError for a file that cannot be read, a column that is absent, and where no row can be used.
    """
    return _table(path, EVENT_NAMES, ("user", "item", "time"), mapping or {}, _event, "--map")


def read_items(path: Path, mapping: Mapping[str, str] | None = None) -> Table:
    """The items of a csv, tsv or jsonl file; arguments and errors as of `read_events`."""
    return _table(path, ITEM_NAMES, ("item",), mapping or {}, _item, "--map-items")


# The parameters are those of both kinds of tables.
def _table(
    path: Path,
    known: Mapping[str, Sequence[str]],
    required: Sequence[str],
    mapping: Mapping[str, str],
    read: Any,
    option: str,
) -> Table:
    rows = read_rows(path)
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    columns = columns_by_name(names, known, mapping, path)
    absent = [ours for ours in required if ours not in columns]
    if absent:
        raise UsageError(
            f"In {path} no column is called like '{absent[0]}' ({', '.join(known[absent[0]][:4])}, ...), only "
            f"{', '.join(names) or 'unreadable rows'}: name it with {option} {absent[0]}=COLUMN."
        )
    columns = {ours: columns[ours] for ours in sorted(columns, key=[*required, *known].index)}
    found, problems = [], dict[int, str]()
    for row in rows:
        value = row.problem or read(row, columns)
        if isinstance(value, str):
            problems[row.number] = value
        else:
            found.append(value)
    table = Table(path, found, columns, problems, len(rows))
    if not found:
        raise UsageError(table.problems_in_words())
    return table


def _event(row: Row, columns: Mapping[str, str]) -> EventRow | str:
    """The event in a row, or why there is none."""
    values = {ours: row.values.get(theirs) for ours, theirs in columns.items()}
    for ours in ("user", "item", "time"):
        if is_empty(values[ours]):
            return f"has no {columns[ours]}"
    user, item = _name(values["user"]), _name(values["item"])
    time, rating = unix_seconds(values["time"]), values.get("rating")
    if time is None or not math.isfinite(time):
        return f"has a {columns['time']} that is no time: {str(values['time'])[:40]}"
    if is_empty(rating):
        return EventRow(user, item, time, _name(values.get("type")).casefold())
    try:
        number = float(str(rating))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        return f"has a {columns['rating']} that is no number from 0: {str(rating)[:40]}"
    return EventRow(user, item, time, _name(values.get("type")).casefold(), number)


def _item(row: Row, columns: Mapping[str, str]) -> ItemRow | str:
    """The item in a row, or why there is none."""
    values = {ours: row.values.get(theirs) for ours, theirs in columns.items()}
    if is_empty(values["item"]):
        return f"has no {columns['item']}"
    title, text = _name(values.get("title")), _name(values.get("text"))
    return ItemRow(_name(values["item"]), title, text, _genres(values.get("genres")))


def _name(value: Any) -> str:
    """A value as text in one line; empty for none."""
    return "" if is_empty(value) else " ".join(str(value).split())


def _genres(value: Any) -> str:
    """Genres as they are kept: from a list, or from a text that separates them by a bar, a semicolon or a comma."""
    if is_empty(value):
        return ""
    parts = [str(part) for part in value] if isinstance(value, list) else _parts(str(value))
    return SEPARATOR.join(" ".join(part.split()) for part in parts if part.strip())


def _parts(text: str) -> list[str]:
    mark = next((mark for mark in (SEPARATOR, ";", "；", ",", "，", "、") if mark in text), SEPARATOR)
    return text.split(mark)
