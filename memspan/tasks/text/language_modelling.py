"""What comes next in a long text, byte by byte, or token by token of a pretrained model."""

import bz2
import lzma
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.pretrained import hub
from memspan.tasks.base import Batch, Task

BYTES = 256
YEARS = 800  # of the chronicle that memspan generates
KNOWN, ASKED = 2**19, 2**18  # bytes that a compressor knows, and that it adds, at most: one block of bz2 holds both

NAMES = (
    "Adela", "Bertram", "Cuthbert", "Dorothea", "Edmund", "Frideswide", "Godfrey", "Hawise", "Isolde", "Jocelyn",
    "Kendrick", "Lambert", "Mabel", "Nicholas", "Osbert", "Petronilla", "Quentin", "Rosamund", "Sabina", "Tobias",
)  # fmt: skip
TRADES = ("baker", "cooper", "dyer", "farrier", "glazier", "mason", "potter", "saddler", "tanner", "weaver")
HOMES = ("Ashwell", "Birchover", "Cold Norton", "Dunwich", "Elmham", "Fordingbridge", "Grimsay", "Hexworthy",
         "Kilnsea", "Longnor")  # fmt: skip
THINGS = ("a brass bell", "a grey donkey", "a silver cup", "a box of maps", "a blind hound", "an old fiddle",
          "a cask of honey", "a painted chest", "a stone lion", "a book of songs")  # fmt: skip
TOLD = (
    "{name} the {trade} built a house by the mill.", "The news from {home} pleased {name}.",
    "Nobody but {name} had seen {home}.", "The {trade} lent out {thing} for a penny.",
    "On the feast day {name} brought {thing} to the church.", "A thief came for {thing}, and {name} woke up.",
    "The council asked {name} for advice.", "Two cousins of {name} came from {home}.",
    "The {trade} from {home} fell ill and was well again.", "{name} would not part with {thing}.",
)  # fmt: skip
WEATHER = (
    "The river rose to the bridge.", "Bread was dear that winter.", "Wolves were heard in the hills.",
    "The harvest was better than the last.", "A comet stood over the tower for nine nights.",
    "The old wall was mended.", "It rained until midsummer.", "The fair lasted a week.",
)  # fmt: skip


class LanguageModelling(Task):
    """The next byte of text files, read one after the other as one stream. Bits are counted per byte.

    `next_batch` reads the text in as many lanes as there are rows, each a part of the text from its beginning to its end:
    every batch goes on where the one before ended, and after the last all begin anew. `batch` takes excerpts anywhere.

    The baselines are the bits a byte that two compressors of Python's standard library need for the text held out, at most
    its first 2^18 bytes, after the last 2^19 bytes of the text trained on.

    Args:
        data: the text files; without any, a chronicle that memspan generates.
        segment: tokens of a segment: bytes, or what the tokenizer makes of them.
        valid: the part of the text, its end, that is held out.
        tokenizer: of this pretrained model; the text is then UTF-8.

    Raises UsageError for a text that cannot be read, or is empty, and for numbers that cannot be.
    """

    metric, lower_is_better = "bits", True
    is_text, answer_last = True, False

    def __init__(
        self, data: str | Sequence[str] = (), segment: int = 128, valid: float = 0.1, tokenizer: str | None = None
    ) -> None:
        if segment < 1 or not 0 < valid < 1:
            raise UsageError(f"segment={segment}, valid={valid} cannot be: at least 1, and between 0 and 1.")
        paths = [data] if isinstance(data, str) else list(data)
        self.segment, self.vocabulary = segment, BYTES
        content = b"".join(_read(Path(path)) for path in paths) if paths else self.sample(YEARS).encode()
        cut = len(content) - int(len(content) * valid)
        self._known, self._asked = content[:cut][-KNOWN:], content[cut:][:ASKED]  # what compressors are given
        if tokenizer is None:
            ids = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
            self.text, self._rest = ids[:cut], ids[cut:]
        else:
            learned = Tokenizer.of_pretrained(hub.resolve(tokenizer))
            self.vocabulary = learned.size
            self.text, self._rest = _ids(content[:cut], learned), _ids(content[cut:], learned)
            self.bytes_each = (len(content) - cut) / max(1, len(self._rest))

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        self._check(length, f"a stream of {segments} segments")
        starts = torch.randint(0, len(self.text) - length, (rows, 1), generator=generator)
        return _batch(self.text[starts + torch.arange(length + 1)], fresh=True)

    def next_batch(self, place: int, rows: int, segments: int, generator: torch.Generator) -> tuple[Batch, int]:
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

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        ways: dict[str, Callable[[bytes], bytes]] = {"lzma": lzma.compress, "bz2": bz2.compress}
        told = {}
        for name, way in ways.items():
            added = len(way(self._known + self._asked)) - len(way(self._known))
            told[f"{name} after the text trained on"] = 8 * added / len(self._asked)
        return told

    @staticmethod
    def sample(years: int) -> str:
        """The chronicle of a town: who comes in a year, and what they are and bring, matters to its end."""
        draw = random.Random(0)
        return "".join(_year(1000 + number, draw) for number in range(years))

    def _check(self, length: int, what: str) -> None:
        if len(self.text) <= length:
            raise UsageError(
                f"The text is too short: {what} of {self.segment} tokens needs more than {length:,} tokens, but there are "
                f"{len(self.text):,}. Give more text, or fewer rows or segments."
            )


def _year(year: int, draw: random.Random) -> str:
    told = {"name": draw.choice(NAMES), "trade": draw.choice(TRADES)}
    told |= {"home": draw.choice(HOMES), "thing": draw.choice(THINGS)}
    lines = [f"In {year} there came {told['name']}, a {told['trade']} from {told['home']}, with {told['thing']}."]
    events = [one.format(**told) for one in draw.sample(TOLD, draw.randint(5, 9))]
    events += draw.sample(WEATHER, draw.randint(2, 4))
    draw.shuffle(events)
    return " ".join([*lines, *events]) + "\n"


def _batch(tokens: Tensor, fresh: bool) -> Batch:
    """Tokens (B, T + 1): each is asked for at the one before."""
    ids = tokens.long()
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), fresh)


def _ids(content: bytes, tokenizer: Tokenizer) -> Tensor:
    """Of a text that may begin or end within a character, (T,) int64."""
    lines = content.decode("utf-8", "ignore").splitlines(keepends=True)
    return torch.tensor([one for ids in tokenizer.encode_all(lines) for one in ids], dtype=torch.int64)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The text {path} cannot be read: {error.strerror or error}.") from error
    if not content:
        raise UsageError(f"The text {path} is empty.")
    return content
