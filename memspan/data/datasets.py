"""Records of tasks on texts: from tables (by the `datasets` library, which leaves them on disk) and public corpora.

A record is a mapping from the columns of a task to texts, numbers or lists of them.

Letters: B rows of a batch, T tokens of a row.
"""

import logging
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memspan.data.columns import GuessedColumns, names_are_values
from memspan.data.corpora import CORPORA, Record
from memspan.data.formats.csv import DELIMITERS, SAMPLE, delimiter_of
from memspan.data.formats.parsing import MAX_COLUMNS, MAX_NESTED, MAX_PAGE
from memspan.data.rows import SUFFIXES, first_number, read_rows
from memspan.errors import UsageError
from memspan.plugins import require_installed

TABLES = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SPREADSHEETS = (".xlsx", ".xls", ".ods")
TABLE = "table"
MOST_BROKEN = 0.1  # share of rows that cannot be read: with more of them the file is in another encoding, or no table
PACKED = b"PK\x03\x04"  # the first bytes of a spreadsheet


class TextDataset(Sequence[Record]):
    """A sequence of records with the columns of a task.

    Args:
        records: any sequence of records, e.g. of the `datasets` library, whose rows stay on disk until they are used.
        columns: the columns that each record must have.
        rename: the columns to rename: {name in the records: name of the task}.
        name: the name of the data in errors.
        problems: the numbers of the rows that could not be read, whose values are None, and why.
        first: number of the first row.

    Raises UsageError if a column is absent or there is no record at all.
    """

    def __init__(
        self,
        records: Sequence[Record],
        columns: Sequence[str],
        rename: Mapping[str, str] | None = None,
        name: str = "the data",
        problems: Mapping[int, str] | None = None,
        first: int = 1,
    ) -> None:
        self.records, self.rename, self.name = records, dict(rename or {}), name
        self.problems, self.first = dict(problems or {}), first
        if not len(records):
            raise UsageError(f"There is no record in {name}.")
        present = [self.rename.get(column, column) for column in records[0]]
        missing = [column for column in columns if column not in present]
        if missing:
            raise UsageError(
                f"In {name} there is no column '{missing[0]}', only {', '.join(sorted(present))}: this task needs "
                f"{', '.join(columns)}. Name the format, or rename columns: rename={{theirs: {missing[0]}}}."
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        record = self.records[index]
        return {self.rename.get(key, key): value for key, value in record.items()} if self.rename else record

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))


def read(
    paths: Sequence[str | Path],
    columns: Sequence[str],
    format: str = TABLE,
    rename: Mapping[str, str] | None = None,
    guess: Callable[[Sequence[Record]], Mapping[str, str]] | None = None,
) -> TextDataset:
    """The records of all files, file after file.

    Args:
        paths: files; with `format` "hub" a single name of a data set on the Hugging Face hub, e.g. "imdb:train", or
            "imdb@revision:train".
        columns: the columns that each record must have.
        format: "table" (TABLES, by suffix), "hub", or the name of a public corpus (CORPORA).
        rename: the columns to rename: {name in the files: name of the task}.
        guess: the columns to rename by the rows of a table that lacks a column, where `rename` is not given; a
            `GuessedColumns` warning says which they are.

    Raises UsageError for a file that is not readable, is in another format, or lacks a column.
    """
    name = ", ".join(str(path) for path in paths)
    if format == TABLE:
        rows, problems = _tables([Path(path) for path in paths])
        if guess is not None and not rename and len(rows) and not set(columns) <= set(rows[0]):
            rename = guess(rows)
            if names_are_values(rows, rename):
                raise UsageError(
                    f"{name} must begin with the names of its columns, got a row of values: put a line like "
                    f"{','.join(columns)} before it."
                )
            if rename:
                shown = ", ".join(f"{ours} is '{theirs}'" for theirs, ours in rename.items())
                example = ", ".join(f"{theirs}: {ours}" for theirs, ours in rename.items())
                warnings.warn(
                    f"The columns of {name} are guessed: {shown}. If they are others, name them, as in --task-settings "
                    f"'rename={{{example}}}'.",
                    GuessedColumns,
                    stacklevel=2,
                )
        return TextDataset(rows, columns, rename, name, problems, first_number(Path(paths[0])))
    if format == "hub":
        return TextDataset(_hub(str(paths[0])), columns, rename, name)
    if format not in CORPORA:
        raise UsageError(f"There is no format '{format}'. Known: {', '.join(sorted([TABLE, 'hub', *CORPORA]))}.")
    records: list[Record] = []
    for path in paths:
        try:
            records.extend(CORPORA[format](Path(path)))
        except OSError as error:
            raise UsageError(f"{path} must be a readable file, got: {error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start:,}.") from error
        except _NOT_IN_THE_FORMAT as error:
            raise UsageError(f"{path} is not in the format {format}: {type(error).__name__} {error}.") from error
    return TextDataset(records, columns, rename, name)


_NOT_IN_THE_FORMAT = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, EOFError, StopIteration, RuntimeError,
    zipfile.BadZipFile, zlib.error, MemoryError,
)  # fmt: skip


def _tables(paths: Sequence[Path]) -> tuple[Sequence[Record], dict[int, str]]:
    """The rows of table files of the same kind, and the numbers of those that cannot be read."""
    require_installed("Reading tables needs", "datasets")
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    kinds = {TABLES.get(path.suffix.lower()) for path in paths}
    absent = next((path for path in paths if not path.is_file()), None)
    if absent is not None and absent.is_dir():
        raise UsageError(f"{absent} is a folder: name the files in it, or the `format` of a corpus that is a folder.")
    if absent is not None:
        raise UsageError(f"There is no file {absent}.")
    if any(path.suffix.lower() in SPREADSHEETS for path in paths):
        raise UsageError(f"{paths[0]} is a spreadsheet: save its sheet as csv (UTF-8), and give that file.")
    if len(kinds) != 1 or None in kinds:
        raise UsageError(
            f"Tables must be files of the same kind ({', '.join(TABLES)}), got {', '.join(str(path) for path in paths)}: "
            "name any other format by `format`."
        )
    kind = next(iter(kinds))
    options: dict[str, Any] = {}
    if kind == "csv":  # an empty cell is an empty text
        options = {"sep": _delimiter(paths[0]), "keep_default_na": False}
    verbosity = datasets.utils.logging.get_verbosity()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs an error beside raising it
    try:
        for path in paths:
            _check_table(path)
        # Local files, read by the library's own code, have no revision.
        rows = datasets.load_dataset(kind, data_files=list(map(str, paths)), split="train", **options)  # nosec B615
        return rows, {}
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise UsageError(f"There is no record in {paths[0]}.") from error
        if len(paths) == 1 and (readable := _readable(paths[0])) is not None:
            return readable
        if isinstance(cause, UnicodeDecodeError):
            raise UsageError(f"{_not_utf8(paths)} is not UTF-8 text: save it as UTF-8.") from error
        raise UsageError(f"{paths[0]} must be a readable table, got: {str(cause).splitlines()[0]}") from error
    finally:
        datasets.utils.logging.set_verbosity(verbosity)


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return delimiter_of(path, file.read(SAMPLE))


def _readable(path: Path) -> tuple[Sequence[Record], dict[int, str]] | None:
    """The rows of a table of which a few cannot be read, as texts; None where those are many.

    A row may hold other bytes than UTF-8, or another number of cells than the head.
    """
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        rows = read_rows(path)
    except UsageError:
        return None
    problems = {row.number: row.problem for row in rows if row.problem is not None}
    if len(problems) > MOST_BROKEN * len(rows):
        return None
    names = dict.fromkeys(name for row in rows for name in row.values)
    return [{name: row.values.get(name) for name in names} for row in rows], problems


def _check_table(path: Path) -> None:
    """Raise UsageError for what Arrow takes too far: values nested so deeply that it crashes, or too many columns."""
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl") and _depth_of_json(path) > MAX_NESTED:
        raise UsageError(f"{path} must have at most {MAX_NESTED} values within one another, got more: flatten it.")
    if suffix in (".csv", ".tsv"):
        with path.open("rb") as file:
            head = file.readline(MAX_PAGE)
        if head.startswith(PACKED):
            raise UsageError(f"{path} must be a text file, got a spreadsheet: save it as csv (UTF-8) in its program.")
        columns = 1 + max(head.count(mark) for mark in DELIMITERS.encode())
        if columns > MAX_COLUMNS:
            raise UsageError(f"{path} must have at most {MAX_COLUMNS:,} columns, got {columns:,}: leave out some.")


_STEPS = np.zeros(256, np.int8)  # what a byte of JSON outside of strings adds to the depth
_STEPS[[ord("["), ord("{")]], _STEPS[[ord("]"), ord("}")]] = 1, -1


def _depth_of_json(path: Path) -> int:
    """The greatest number of arrays and objects within one another, without parsing them."""
    depth = deepest = in_string = 0
    with path.open("rb") as file:
        while block := file.read(4 * 1024 * 1024):
            if (len(block) - len(block.rstrip(b"\\"))) % 2:
                block += file.read(1)  # the character that is escaped
            marks = np.frombuffer(block.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
            if len(marks) == 0:
                continue
            strings = (np.cumsum(marks == ord('"')) + in_string) % 2
            depths = depth + np.cumsum(np.where(strings, 0, _STEPS[marks]), dtype=np.int64)
            deepest = max(deepest, int(depths.max()))
            depth, in_string = int(depths[-1]), int(strings[-1])
    return deepest


def _not_utf8(paths: Sequence[Path]) -> Path:
    """The first of the files that is in another encoding."""
    for path in paths:
        try:
            path.read_text("utf-8")
        except UnicodeDecodeError:
            return path
    return paths[0]


def _hub(name: str) -> Sequence[Record]:
    """The rows of a data set on the Hugging Face hub, "name", "name:split" or "name@revision:split"."""
    require_installed("Data sets of the hub need", "datasets")
    import datasets

    pinned, _, split = name.partition(":")
    repository, _, revision = pinned.partition("@")
    try:
        return datasets.load_dataset(  # type: ignore[no-any-return]
            repository, split=split or "train", revision=revision or None
        )
    except Exception as error:  # whatever the network, the hub or the data set may raise
        raise UsageError(
            f"Fetching the data set '{repository}' from the hub failed: {str(error).splitlines()[0]}"
        ) from error


def split_indices(count: int, fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """The indices below `count` to train on, and the `fraction` of them, at least one index, that is held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    cut = max(1, round(count * fraction))
    return sorted(order[cut:]), sorted(order[:cut])


def split_indices_by_group(groups: Sequence[str], fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """The indices of `groups` to train on and those held out, a `fraction` of the groups, each as a whole.

    What is held out has therefore no record in common with the group of any training record. Both sides are in random
    order: files are often sorted, so that their first records do not represent the rest.
    """
    names = sorted(set(groups))
    held_out = {names[index] for index in split_indices(len(names), fraction, seed)[1]}
    sides: tuple[list[int], list[int]] = ([], [])
    for index in torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist():
        sides[groups[index] in held_out].append(index)
    return sides


def pad(rows: Sequence[Sequence[int]], multiple: int, value: int) -> tuple[Tensor, Tensor]:
    """Rows of token ids, padded with `value` on the left to the length of the longest rounded up to a `multiple`.

    Returns the ids (B, T) int64, and the mask (B, T) bool of what is not padding. Rows end together, because the
    prediction is read at the end.
    """
    length = -(-max(map(len, rows)) // multiple) * multiple
    padded = torch.full((len(rows), length), value, dtype=torch.int64)
    for target, ids in zip(padded, rows, strict=True):
        target[length - len(ids) :] = torch.tensor(ids, dtype=torch.int64)
    mask = torch.arange(length) >= length - torch.tensor([len(row) for row in rows])[:, None]
    return padded, mask
