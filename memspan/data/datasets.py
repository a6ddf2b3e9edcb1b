"""Records on disk -> records in order: tables through `datasets`, which leaves them on disk, and public corpora.

A record is a mapping from the columns that a task names to texts, numbers or lists of them.
"""

import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memspan.errors import UsageError

Record = Mapping[str, Any]
TABLES = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
TABLE = "table"


class TextDataset(Sequence[Record]):
    """Records that all have the columns asked for.

    Args:
        records: any sequence of them, e.g. of the `datasets` library, whose rows stay on disk until they are asked for.
        columns: that each must have.
        rename: columns that are called otherwise: {their name: ours}.
        name: what errors call it.

    Raises UsageError where a column is absent or there is no record at all.
    """

    def __init__(
        self,
        records: Sequence[Record],
        columns: Sequence[str],
        rename: Mapping[str, str] | None = None,
        name: str = "the data",
    ) -> None:
        self.records, self.rename = records, dict(rename or {})
        if not len(records):
            raise UsageError(f"There is no record in {name}.")
        there = [self.rename.get(column, column) for column in records[0]]
        missing = [column for column in columns if column not in there]
        if missing:
            raise UsageError(
                f"In {name} there is no column '{missing[0]}', only {', '.join(sorted(there))}: this task needs "
                f"{', '.join(columns)}. Name the format, or rename columns: rename={{theirs: {missing[0]}}}."
            )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        record = self.records[place]
        return {self.rename.get(key, key): value for key, value in record.items()} if self.rename else record

    def __iter__(self) -> Iterator[Record]:
        return (self[place] for place in range(len(self)))


def read(
    paths: Sequence[str | Path], columns: Sequence[str], format: str = TABLE, rename: Mapping[str, str] | None = None
) -> TextDataset:
    """The records of these files, one after the other.

    Args:
        paths: files; or with `format` "hub" one name of a data set on the Hugging Face hub, e.g. "imdb:train".
        format: "table" (csv, tsv, json, jsonl, parquet by the ending), "hub", or a public corpus that memspan knows.

    Raises UsageError for a file that cannot be read, is in another format, or lacks a column.
    """
    from memspan.data.corpora import CORPORA

    name = ", ".join(str(path) for path in paths)
    if format == TABLE:
        return TextDataset(_tables([Path(path) for path in paths]), columns, rename, name)
    if format == "hub":
        return TextDataset(_hub(str(paths[0])), columns, rename, name)
    if format not in CORPORA:
        raise UsageError(f"There is no format '{format}'. Known: {', '.join(sorted([TABLE, 'hub', *CORPORA]))}.")
    records: list[Record] = []
    for path in paths:
        try:
            records.extend(CORPORA[format](Path(path)))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start:,}.") from error
        except _NOT_IN_THE_FORMAT as error:
            raise UsageError(f"{path} is not in the format {format}: {type(error).__name__} {error}.") from error
    return TextDataset(records, columns, rename, name)


_NOT_IN_THE_FORMAT = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, EOFError, StopIteration, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _tables(paths: Sequence[Path]) -> Sequence[Record]:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    kinds = {TABLES.get(path.suffix.lower()) for path in paths}
    absent = next((path for path in paths if not path.is_file()), None)
    if absent is not None and absent.is_dir():
        raise UsageError(f"{absent} is a folder: name the files in it, or the `format` of a corpus that is a folder.")
    if absent is not None:
        raise UsageError(f"There is no file {absent}.")
    if len(kinds) != 1 or None in kinds:
        raise UsageError(
            f"{', '.join(str(path) for path in paths)}: a table is a csv, tsv, json, jsonl or parquet file, and all "
            "files are of one kind; other formats are named by `format`."
        )
    kind = next(iter(kinds))
    options: dict[str, Any] = {"sep": "\t"} if paths[0].suffix.lower() == ".tsv" else {}
    if kind == "csv":
        options["keep_default_na"] = False  # an empty cell is an empty text
    told = datasets.utils.logging.get_verbosity()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs an error beside raising it
    try:
        return datasets.load_dataset(kind, data_files=[str(path) for path in paths], split="train", **options)  # type: ignore[no-any-return]
    except (DatasetGenerationError, ValueError, OSError) as error:
        cause = error.__cause__ or error
        if "corresponds to no data" in str(cause):
            raise UsageError(f"There is no record in {paths[0]}.") from error
        if isinstance(cause, UnicodeDecodeError):
            raise UsageError(f"{_not_utf8(paths)} is not UTF-8 text: save it as UTF-8.") from error
        raise UsageError(f"{paths[0]} cannot be read as a table: {str(cause).splitlines()[0]}") from error
    finally:
        datasets.utils.logging.set_verbosity(told)


def _not_utf8(paths: Sequence[Path]) -> Path:
    """The first of the files that is in another encoding."""
    for path in paths:
        try:
            path.read_text("utf-8")
        except UnicodeDecodeError:
            return path
    return paths[0]


def _hub(name: str) -> Sequence[Record]:
    import datasets

    place, _, split = name.partition(":")
    try:
        return datasets.load_dataset(place, split=split or "train")  # type: ignore[no-any-return]
    except Exception as error:  # whatever the network, the hub or the data set may raise
        raise UsageError(
            f"The data set '{place}' cannot be fetched from the hub: {str(error).splitlines()[0]}"
        ) from error


def divide(count: int, share: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """The places below `count` to train on, and the part `share` of them, at least one, that is held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    cut = max(1, round(count * share))
    return sorted(order[cut:]), sorted(order[:cut])


def divide_groups(groups: Sequence[str], share: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """As `divide`, but all places of a group go to the same side: nothing is learned from what is held out.

    Both sides are in random order: files are often sorted, and the first records then stand for no others.
    """
    names = sorted(set(groups))
    held_out = {names[place] for place in divide(len(names), share, seed)[1]}
    sides: tuple[list[int], list[int]] = ([], [])
    for place in torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist():
        sides[groups[place] in held_out].append(place)
    return sides


def pad(rows: Sequence[Sequence[int]], multiple: int, value: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as one tensor (B, T) int64, and where it is filled, (B, T) bool. T is a multiple of `multiple`.

    Filled up on the left, so that all rows end together: what is asked stands at the end.
    """
    length = -(-max(map(len, rows)) // multiple) * multiple
    ids = torch.full((len(rows), length), value, dtype=torch.int64)
    for row, known in zip(ids, rows, strict=True):
        row[length - len(known) :] = torch.tensor(known, dtype=torch.int64)
    filled = torch.arange(length) >= length - torch.tensor([len(row) for row in rows])[:, None]
    return ids, filled
