"""Past exchanges with customers: a table of dialogues or tickets, a message with its reply in each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memspan.data.columns import columns_by_name
from memspan.data.dates import unix_seconds
from memspan.data.rows import SHOWN, Row, is_empty, read_rows
from memspan.errors import UsageError

# The names by which a column is guessed, in the order in which columns are looked for. An exact name comes before a part of one.
NAMES = {
    "reply": ("reply", "answer", "response", "resolution", "回复", "答复", "回答", "答案"),
    "intent": ("intent", "label", "category", "topic", "意图", "标签", "类别"),
    "source": ("source", "document", "来源", "文档"),
    "message": ("message", "question", "utterance", "text", "query", "request", "body", "问题", "咨询", "消息", "内容"),
    "customer": ("customer", "user", "client", "contact", "sender", "account", "客户", "顾客", "用户"),
    "time": ("time", "date", "created", "when", "时间", "日期"),
}


@dataclass(frozen=True)
class Exchange:
    """What a customer wrote, and what was replied.

    Attributes:
        row: its number, see `memspan.data.rows`.
        customer, reply, intent, source: empty where the table says nothing; `source` is a document that holds the answer.
        time: unix seconds; None where the table has no times.
    """

    row: int
    message: str
    customer: str = ""
    time: float | None = None
    reply: str = ""
    intent: str = ""
    source: str = ""


@dataclass(frozen=True)
class Imported:
    """The rows of a file.

    Attributes:
        columns: {ours: theirs}, as guessed or named.
        problems: the numbers of the rows that are not used, and why.
        total: rows of the file.
    """

    exchanges: list[Exchange]
    columns: dict[str, str]
    problems: dict[int, str]
    total: int

    def columns_in_words(self) -> str:
        """A sentence about which column is which."""
        pairs = [f"{ours} is '{theirs}'" for ours, theirs in self.columns.items()]
        return f"Columns: {', '.join(pairs)} (others: --map {next(iter(self.columns))}=COLUMN)."

    def problems_in_words(self, name: str) -> str:
        """A sentence that counts the rows that are not used and names the first of them."""
        named = "; ".join(f"row {number} {problem}" for number, problem in list(self.problems.items())[:SHOWN])
        more = "; ..." if len(self.problems) > SHOWN else ""
        return f"{len(self.problems):,} of {self.total:,} rows of {name} are not used: {named}{more}."


def read_exchanges(path: Path, mapping: Mapping[str, str] | None = None) -> Imported:
    """The exchanges of a csv, tsv or jsonl file.

    Args:
        mapping: {ours: theirs} for columns that are named; the others are guessed. An empty name leaves a column out.

    Raises UsageError for a file that cannot be read, a column that does not exist, and where no row can be used.
    """
    mapping = {} if mapping is None else mapping
    rows = read_rows(path)
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    columns = _columns(names, mapping, path)
    exchanges, problems = [], {}
    for row in rows:
        found = row.problem or _exchange(row, columns)
        if isinstance(found, str):
            problems[row.number] = found
        else:
            exchanges.append(found)
    imported = Imported(exchanges, columns, problems, len(rows))
    if not exchanges:
        raise UsageError(imported.problems_in_words(str(path)))
    return imported


def _columns(names: Sequence[str], mapping: Mapping[str, str], path: Path) -> dict[str, str]:
    """{ours: theirs}. Raises UsageError for a mapping to what is no column, and without a column of messages."""
    found = columns_by_name(names, NAMES, mapping, path)
    if "message" not in found:
        raise UsageError(
            f"In {path} no column is called like a message ({', '.join(NAMES['message'][:5])}), only "
            f"{', '.join(names) or 'unreadable rows'}: name it with --map message=COLUMN."
        )
    return {ours: found[ours] for ours in sorted(found, key=("customer", "time", "message", *NAMES).index)}


def _exchange(row: Row, columns: Mapping[str, str]) -> Exchange | str:
    """The exchange in a row, or why there is none."""
    values = {ours: row.values.get(theirs) for ours, theirs in columns.items()}
    if is_empty(values["message"]):
        return f"has no {columns['message']}"
    strange = [ours for ours in ("message", "reply") if not isinstance(values.get(ours) or "", str)]
    if strange:
        return f"has a {columns[strange[0]]} that is no text"
    texts = {ours: "" if is_empty(value) else str(value).strip() for ours, value in values.items() if ours != "time"}
    time = values.get("time")
    seconds = None if is_empty(time) else unix_seconds(time)
    if seconds is None and not is_empty(time):
        return f"has a {columns['time']} that is no time: {str(time)[:40]}"
    return Exchange(row=row.number, time=seconds, **texts)
