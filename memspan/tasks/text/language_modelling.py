"""Language modelling: the next byte of a long text, or the next token of a pretrained model's tokenizer."""

import bz2
import lzma
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.pretrained import hub
from memspan.tasks.base import Batch, Guide, Task
from memspan.tasks.samples import word_lists

BYTES = 256
YEARS = 800  # of the generated chronicle
PRIMED, COMPRESSED = (
    2**19,
    2**18,
)  # bytes that a compressor reads first, and then compresses: one block of bz2 holds both


class LanguageModelling(Task):
    """The next byte of text files, read one after the other as one stream. Bits are counted per byte.

    `next_batch` reads the text in as many lanes as a batch has rows, each lane a part of the text from its beginning to
    its end: every batch continues the one before, and after the last all lanes begin again. `batch` takes excerpts from
    anywhere.

    The baselines are the bits per byte that two compressors of Python's standard library need for the held-out text, its
    first 2^18 bytes at most, after the last 2^19 bytes of the training text.

    Args:
        data: the text files; empty for a chronicle that memspan generates.
        segment: tokens of a segment: bytes, or ids of the tokenizer.
        valid: fraction of the text, at its end, that is held out.
        tokenizer: name of a pretrained model whose tokenizer is used; the text must then be UTF-8.

    Raises UsageError for a text that cannot be read or is empty, and for a value out of range.
    """

    metric, lower_is_better = "bits", True
    is_text, answer_last = True, False
    guide = Guide(
        columns="plain text files",
        metrics="accuracy",
        note="a byte, lower is better",
        on_sample="--mechanism rnn --task-settings segment=32 --segments 8 --batch-size 16 --learning-rate 4e-3 --seconds 30",
        on_files="--mechanism rnn --data book.txt --task-settings segment=16 --segments 32 --batch-size 8 "
        "--learning-rate 3e-3 --seconds 30 --seeds 1",
    )

    def __init__(
        self, data: str | Sequence[str] = (), segment: int = 128, valid: float = 0.1, tokenizer: str | None = None
    ) -> None:
        if segment < 1:
            raise UsageError(f"segment must be at least 1, got segment={segment}.")
        if not 0 < valid < 1:
            raise UsageError(f"valid must be between 0 and 1, got valid={valid}.")
        paths = [data] if isinstance(data, str) else list(data)
        self.segment, self.vocabulary = segment, BYTES
        content = b"".join(read_text(Path(path)) for path in paths) if paths else self.sample(YEARS).encode()
        cut = len(content) - int(len(content) * valid)
        self._primed, self._compressed = content[:cut][-PRIMED:], content[cut:][:COMPRESSED]
        if tokenizer is None:
            ids = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
            self.text, self.held_out_text = ids[:cut], ids[cut:]
        else:
            learned = Tokenizer.of_pretrained(hub.tokenizer_of(tokenizer))
            self.vocabulary = learned.size
            self.text, self.held_out_text = _ids(content[:cut], learned), _ids(content[cut:], learned)
            self.bytes_per_token = (len(content) - cut) / max(1, len(self.held_out_text))

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        self._check_length(length, f"a stream of {segments} segments")
        starts = torch.randint(0, len(self.text) - length, (batch_size, 1), generator=generator)
        return _batch(self.text[starts + torch.arange(length + 1)], fresh=True)

    def next_batch(
        self, position: int, batch_size: int, segments: int, generator: torch.Generator
    ) -> tuple[Batch, int]:
        """The batch at `position`, which counts the tokens read of each lane, and the position of the next."""
        length, lane = segments * self.segment, (len(self.text) - 1) // batch_size
        self._check_length(batch_size * length, f"{batch_size} rows of {segments} segments")
        if position + length > lane:
            position = 0
        starts = torch.arange(batch_size)[:, None] * lane + position
        return _batch(self.text[starts + torch.arange(length + 1)], fresh=position == 0), position + length

    def held_out(self) -> Self:
        return self.copy_with(text=self.held_out_text)

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        compressors: dict[str, Callable[[bytes], bytes]] = {"lzma": lzma.compress, "bz2": bz2.compress}
        bits = {}
        for name, compress in compressors.items():
            size = len(compress(self._primed + self._compressed)) - len(compress(self._primed))
            bits[f"{name} after the text trained on"] = 8 * size / len(self._compressed)
        return bits

    @staticmethod
    def sample(years: int) -> str:
        """The chronicle of a town, a paragraph for each year: its newcomer, their trade, home and luggage recur in it."""
        draw, lists = random.Random(0), word_lists("language_modelling")
        return "".join(_year(1000 + number, draw, lists) for number in range(years))

    def _check_length(self, length: int, noun: str) -> None:
        if len(self.text) <= length:
            raise UsageError(
                f"The text is too short: {noun} of {self.segment} tokens needs more than {length:,} tokens, but there are "
                f"{len(self.text):,}. Give more text, or fewer rows or segments."
            )


def _year(year: int, draw: random.Random, lists: dict[str, Any]) -> str:
    nouns = (("name", "names"), ("trade", "trades"), ("home", "homes"), ("thing", "things"))
    words = {slot: draw.choice(lists[name]) for slot, name in nouns}
    arrival = f"In {year} there came {words['name']}, a {words['trade']} from {words['home']}, with {words['thing']}."
    events = [template.format(**words) for template in draw.sample(lists["events"], draw.randint(5, 9))]
    events += draw.sample(lists["weather"], draw.randint(2, 4))
    draw.shuffle(events)
    return " ".join([arrival, *events]) + "\n"


def _batch(tokens: Tensor, fresh: bool) -> Batch:
    """Tokens (B, T + 1): each is the target at the one before."""
    ids = tokens.long()
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), fresh)


def _ids(content: bytes, tokenizer: Tokenizer) -> Tensor:
    """The ids of a text that may begin or end within a character, (T,) int64."""
    lines = content.decode("utf-8", "ignore").splitlines(keepends=True)
    return torch.tensor([token for ids in tokenizer.encode_all(lines) for token in ids], dtype=torch.int64)


def read_text(path: Path) -> bytes:
    """The bytes of a text file. Raises UsageError for one that cannot be read or is empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The text {path} cannot be read: {error.strerror or error}.") from error
    if not content:
        raise UsageError(f"The text {path} is empty.")
    return content
