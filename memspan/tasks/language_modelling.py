"""What comes next in a long text, byte by byte."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.tasks.base import Batch, Task

BYTES = 256


class LanguageModelling(Task):
    """The next byte of text files, read one after the other as one stream.

    `follow` reads the text in as many lanes as there are rows, each a part of the text from its beginning to its end:
    every batch goes on where the one before ended, and after the last all begin anew. `batch` takes excerpts anywhere.

    Args:
        data: the text files.
        segment: tokens, here bytes, of a segment.
        valid: the part of the text, its end, that is held out.
    """

    metric, lower_is_better = "bits", True

    def __init__(self, data: str | Sequence[str] = (), segment: int = 128, valid: float = 0.1) -> None:
        if segment < 1 or not 0 < valid < 1:
            raise UsageError(f"segment={segment}, valid={valid} cannot be: at least 1, and between 0 and 1.")
        paths = [data] if isinstance(data, str) else list(data)
        if not paths:
            raise UsageError("Language modelling needs text: name at least one file as `data`.")
        self.segment, self.vocabulary = segment, BYTES
        text = torch.from_numpy(np.concatenate([_read(Path(path)) for path in paths]))
        cut = len(text) - int(len(text) * valid)
        self.text, self._rest = text[:cut], text[cut:]

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        self._check(length, f"a stream of {segments} segments")
        starts = torch.randint(0, len(self.text) - length, (rows, 1), generator=generator)
        return _batch(self.text[starts + torch.arange(length + 1)], fresh=True)

    def follow(self, place: int, rows: int, segments: int, generator: torch.Generator) -> tuple[Batch, int]:
        """`place` counts the bytes of each lane that were read."""
        length, lane = segments * self.segment, (len(self.text) - 1) // rows
        self._check(rows * length, f"{rows} rows of {segments} segments")
        if place + length > lane:
            place = 0
        starts = torch.arange(rows)[:, None] * lane + place
        return _batch(self.text[starts + torch.arange(length + 1)], fresh=place == 0), place + length

    def held_out(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, text=self._rest)
        return twin

    def _check(self, length: int, what: str) -> None:
        if len(self.text) <= length:
            raise UsageError(
                f"The text is too short: {what} of {self.segment} bytes needs more than {length:,} bytes, but there are "
                f"{len(self.text):,}. Give more text, or fewer rows or segments."
            )


def _batch(bytes_: Tensor, fresh: bool) -> Batch:
    """Bytes (B, T + 1) uint8: each is asked for at the one before."""
    ids = bytes_.long()
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), fresh)


def _read(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(f"The text {path} cannot be read: {error.strerror or error}.") from error
    if not content.size:
        raise UsageError(f"The text {path} is empty.")
    return content
