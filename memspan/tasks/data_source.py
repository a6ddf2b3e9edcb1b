"""Where the records of a task come from: files, the Hugging Face hub, a public corpus, or a generated sample."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from memspan.data.corpora import Record
from memspan.data.datasets import TABLE, TextDataset, read
from memspan.errors import UsageError

Item = TypeVar("Item")

SAMPLE = 600  # records of the generated sample that stands in where no files are named


def _paths(files: str | Sequence[str] | None) -> list[str]:
    return [files] if isinstance(files, str) else list(files or ())


@dataclass(frozen=True)
class DataSource:
    """Files to train on and files held out, and how they are read.

    Attributes:
        data: files to train on; empty for the sample that memspan generates; None for no records at all, where a saved
            task is only to predict.
        test: held-out files; empty for a part of `data`.
        format: of the files: table (csv, tsv, json, jsonl, parquet), hub, or the name of a public corpus.
        test_format: format of `test`, if it differs.
        rename: columns with other names, {theirs: ours}.
        held_out: fraction of the records that is held out where `test` is empty.
        split_seed: random seed of the choice of those records, and of those that `limit` keeps.
        limit: maximum number of records to train on, and of held-out records; they are drawn with `split_seed`.

    Raises UsageError for a value out of range, or options on reading files where no file is named.
    """

    data: str | Sequence[str] | None = ()
    test: str | Sequence[str] = ()
    format: str = TABLE
    test_format: str | None = None
    rename: Mapping[str, str] | None = None
    held_out: float = 0.1
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out must be between 0 and 1, got held_out={self.held_out}.")
        if self.limit is not None and self.limit < 2:
            raise UsageError(f"limit must be at least 2, got limit={self.limit}.")
        reads_files = _paths(self.data) or _paths(self.test) or self.data is None
        if not reads_files and (self.format != TABLE or self.test_format is not None or self.rename):
            raise UsageError("`format`, `test_format` and `rename` describe files: name the files with `data`.")

    def read(
        self,
        columns: Sequence[str],
        sample: Callable[[int], Sequence[dict[str, Any]]],
        guess: Callable[[Sequence[Record]], Mapping[str, str]] | None = None,
    ) -> tuple[TextDataset, TextDataset | None]:
        """The records of `data`, and those of `test`: None where no such file is named.

        Args:
            columns: that every record must have.
            sample: generates that many records, for use where `data` is empty.
            guess: the columns to rename by the rows of a table, see `memspan.data.datasets.read`.

        Raises UsageError for a file that cannot be read, or lacks a column.
        """
        paths, tests = _paths(self.data), _paths(self.test)
        records = (
            read(paths, columns, self.format, self.rename, guess)
            if paths
            else TextDataset(sample(SAMPLE), columns, name="the generated sample")
        )
        return records, read(tests, columns, self.test_format or self.format, self.rename, guess) if tests else None


def drawn(records: Sequence[Item], limit: int | None, seed: int = 0) -> Sequence[Item]:
    """At most `limit` of the records, drawn at random and always the same, in their order: files are often sorted by label."""
    if limit is None or len(records) <= limit:
        return records
    return [records[index] for index in sorted(random.Random(seed).sample(range(len(records)), limit))]


GENERATED = DataSource()  # no files: the sample that memspan generates
