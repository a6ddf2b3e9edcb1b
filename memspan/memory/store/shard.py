"""A shard: consecutive passages of a memory in one immutable safetensors file (or the same bytes in RAM).

Shapes: T tokens, P passages, G retrieval heads, K numbers per key, E numbers per vector, C latents, Z numbers of a latent, N
bytes of text.

    passages  int64    (P, 7)      the extent of each passage, see the columns below
    added     float64  (P,)        when it was added, unix seconds
    happened  float64  (P,)        when that happened which it is about, unix seconds; NaN where that is not known
    ids       int32    (T,)        token ids
    chunks    int32    (P,)        how many latents each passage has, see `PassageLatents`
    scales    float16  (T, G)      a key is keys * scales[..., None]
    keys      int8     (T, G, K)
    vectors   int8     (P, E)      the direction of each passage's vector by a sentence encoder; zeros for no vector
    latents   int8     (C, Z)      what a trained memory keeps of the passages, one passage after another
    text      uint8    (N,)        UTF-8
    sources   uint8    (M,)        JSON: the record of every source of this shard, as it was after it
    marks     uint8    (J,)        JSON: the marks of the passages, see `PassageMarks`

`happened`, `chunks`, `vectors`, `latents` and `marks` are there only if a passage has one.

Passages tile the tokens and the text of their shard. Many shards joined are again a shard: appending, compacting,
forgetting and merging are all `encode` over a list of shards, copied straight from one mapped file to the next.
"""

import codecs
import hashlib
import json
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memspan.errors import DamagedMemory
from memspan.memory.store.arrays import arrays_in, content
from memspan.memory.store.files import CHUNK, WAY_OUT, Bytes, Directory
from memspan.memory.store.passage_latents import PassageLatents
from memspan.memory.store.passage_marks import PassageMarks
from memspan.memory.store.records import FIRST_YEAR, FIRST_YEAR_BEYOND, parse_records

Ids: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int8]
Scales: TypeAlias = NDArray[np.float16]
Integers: TypeAlias = NDArray[np.int64]
Times: TypeAlias = NDArray[np.float64]
Vectors: TypeAlias = NDArray[np.int8]

# The columns of a shard's passages: a row of its sources; tokens and bytes within the shard; characters of the source.
SOURCE, TOKEN, TOKEN_END, CHARACTER, CHARACTER_END, BYTE, BYTE_END = range(7)

_EXPONENT = 0x7C00  # the exponent's bits of a float16, all set for NaN and infinity
_ROWS_AT_ONCE = 64 * 1024  # that are checked with few temporary bytes


@dataclass(frozen=True)
class SourceRecord:
    """One document, or one exchange of a chat."""

    name: str
    kind: str
    characters: int  # read so far
    sha256: str  # of the text read so far, as UTF-8
    complete: bool
    added: float  # unix seconds of its first append
    meta: Mapping[str, Any]  # JSON values


@dataclass(frozen=True)
class ShardFile:
    """The file that holds a shard."""

    directory: Directory
    name: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.directory.path / self.name


@dataclass(frozen=True, eq=False)
class Shard:
    """The arrays listed above, read-only, and the sources in the order that column `SOURCE` counts."""

    passages: Integers
    added: Times
    ids: Ids
    scales: Scales
    keys: Keys
    text: NDArray[np.uint8]
    sources: Mapping[str, SourceRecord]
    happened: Times | None = None
    vectors: Vectors | None = None
    latents: PassageLatents | None = None
    marks: PassageMarks | None = None
    raw: Bytes | None = None  # the encoded bytes these arrays look into; None for a view made up in RAM
    file: ShardFile | None = None

    @property
    def nbytes(self) -> int:
        """The bytes this shard takes, or will take, encoded (without its header and sources for a view)."""
        if self.raw is not None:
            return len(self.raw)
        arrays = (self.passages, self.added, self.happened, self.ids, self.scales, self.keys, self.vectors, self.text)
        return sum(array.nbytes for array in (*arrays, self.latents) if array is not None)

    @property
    def has_more(self) -> bool:
        """Whether it has an array that format version 1 does not know, and version 2 does."""
        return any(optional is not None for optional in (self.happened, self.vectors, self.marks))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the sources, as column `SOURCE` counts them."""
        return tuple(self.sources)

    @cached_property
    def rows(self) -> Mapping[str, Integers]:
        """The rows of each source's passages, ascending; of sources with passages here only."""
        order = np.argsort(self.passages[:, SOURCE], kind="stable")
        columns, firsts = np.unique(self.passages[order, SOURCE], return_index=True)
        groups = np.split(order, firsts[1:])  # a single empty one if there are no passages
        return {self.names[column]: rows for column, rows in zip(columns, groups, strict=False)}

    def characters(self, row: int) -> bytes:
        """The text of one passage, as UTF-8."""
        return self.text[self.passages[row, BYTE] : self.passages[row, BYTE_END]].tobytes()


def select(shard: Shard, names: Mapping[str, str]) -> list[Shard]:
    """Views of a shard's passages of the sources in `names`, which maps their names to new ones."""
    old = shard.names
    records = {names[name]: replace(shard.sources[name], name=names[name]) for name in old if name in names}
    if not records:
        return []
    selected = np.array([name in names for name in old])[shard.passages[:, SOURCE]]
    edges = np.flatnonzero(np.diff(selected, prepend=False, append=False))
    # The first view has no passages: it keeps the order of the sources, and those without text.
    views = [_view(shard, 0, 0, records)]
    for first, end in edges.reshape(-1, 2):
        used = [names[old[column]] for column in np.unique(shard.passages[first:end, SOURCE])]
        views.append(_view(shard, first, end, {name: records[name] for name in used}))
    return views


def without(shards: Iterable[Shard], names: Collection[str]) -> list[list[Shard]]:
    """The shards without these sources: each shard that holds none of them as it is, of any other the views of the rest."""
    removed = frozenset(names)
    groups = []
    for shard in shards:
        if removed.isdisjoint(shard.sources):
            groups.append([shard])
        elif views := select(shard, {name: name for name in shard.sources if name not in removed}):
            groups.append(views)
    return groups


def _view(shard: Shard, first: int, end: int, records: Mapping[str, SourceRecord]) -> Shard:
    """Passages `first` to `end` of a shard, whose sources are now `records`, in the same order."""
    passages = shard.passages[first:end].copy()
    tokens, characters = slice(0, 0), slice(0, 0)
    if len(passages) > 0:
        tokens = slice(passages[0, TOKEN], passages[-1, TOKEN_END])
        characters = slice(passages[0, BYTE], passages[-1, BYTE_END])
        passages[:, [TOKEN, TOKEN_END]] -= tokens.start
        passages[:, [BYTE, BYTE_END]] -= characters.start
        passages[:, SOURCE] = np.unique(passages[:, SOURCE], return_inverse=True)[1]
    return Shard(
        passages=passages,
        added=shard.added[first:end],
        ids=shard.ids[tokens],
        scales=shard.scales[tokens],
        keys=shard.keys[tokens],
        text=shard.text[characters],
        sources=records,
        happened=None if shard.happened is None else shard.happened[first:end],
        vectors=None if shard.vectors is None else shard.vectors[first:end],
        latents=None if shard.latents is None else shard.latents.part(first, end),
        marks=None if shard.marks is None else shard.marks.part(first, end),
    )


def latest(shards: Iterable[Shard]) -> dict[str, SourceRecord]:
    """The sources of several shards in order of first appearance, each with its latest record."""
    sources: dict[str, SourceRecord] = {}
    for shard in shards:
        sources.update(shard.sources)
    return sources


def encode(shards: Sequence[Shard]) -> Iterator[Bytes]:
    """The safetensors file of several shards joined, in chunks; array data is passed on without a copy."""
    sources = latest(shards)
    records = json.dumps([asdict(source) for source in sources.values()], allow_nan=False).encode()
    columns: dict[str, list[NDArray[Any]]] = {
        "passages": _joined_passages(shards, {name: row for row, name in enumerate(sources)}),
        "sources": [np.frombuffer(records, np.uint8)],
    }
    for name in ("added", "ids", "scales", "keys", "text"):
        columns[name] = [getattr(shard, name) for shard in shards]
    columns.update(_optional_columns(shards))
    yield from content(columns)


def _optional_columns(shards: Sequence[Shard]) -> dict[str, list[NDArray[Any]]]:
    """The optional arrays that one of the shards has; the passages of the others have no time, or no vector."""
    columns: dict[str, list[NDArray[Any]]] = {}
    if any(shard.happened is not None for shard in shards):
        columns["happened"] = [
            np.full(len(shard.passages), np.nan) if shard.happened is None else shard.happened for shard in shards
        ]
    size = max((shard.vectors.shape[1] for shard in shards if shard.vectors is not None), default=0)
    if size > 0:
        columns["vectors"] = [
            np.zeros((len(shard.passages), size), np.int8) if shard.vectors is None else shard.vectors
            for shard in shards
        ]
    columns.update(PassageLatents.columns((shard.latents, len(shard.passages)) for shard in shards))
    marks = PassageMarks.joined((shard.marks, len(shard.passages)) for shard in shards)
    if marks is not None:
        columns["marks"] = [np.frombuffer(marks.encoded(), np.uint8)]
    return columns


def _joined_passages(shards: Sequence[Shard], rows: Mapping[str, int]) -> list[NDArray[Any]]:
    """The passages of each shard, counted from the beginning of the joined shard."""
    tables: list[NDArray[Any]] = []
    tokens = characters = 0
    for shard in shards:
        table = shard.passages.copy()
        table[:, SOURCE] = np.array([rows[name] for name in shard.sources], np.int64)[table[:, SOURCE]]
        table[:, [TOKEN, TOKEN_END]] += tokens
        table[:, [BYTE, BYTE_END]] += characters
        tables.append(table)
        tokens += len(shard.ids)
        characters += len(shard.text)
    return tables


def join(group: Sequence[Shard]) -> Shard:
    """The contents of a group of shards as one shard in RAM."""
    if len(group) == 1 and group[0].raw is not None:
        return group[0]
    return decode(b"".join(encode(group)))


def decode(raw: Bytes, file: ShardFile | None = None) -> Shard:
    """The shard in these bytes; its arrays are read-only views of `raw`.

    Raises:
        DamagedMemory: these are not the bytes of a shard. Checked in time and memory that do not depend on the sizes they
            claim.
    """
    where = "the shard" if file is None else str(file.path)
    try:
        arrays = dict(arrays_in(raw))
        records = parse_records(arrays.pop("sources").tobytes())
        sources = {record["name"]: SourceRecord(**record) for record in records}
        marks = None
        if "marks" in arrays:
            marks = PassageMarks.parsed(arrays.pop("marks").tobytes(), len(arrays["passages"]))
        latents = None
        if "chunks" in arrays or "latents" in arrays:
            latents = PassageLatents(arrays.pop("chunks"), arrays.pop("latents"))
        shard = Shard(**arrays, sources=sources, latents=latents, marks=marks, raw=raw, file=file)
        _check_consistent(shard)
        _check_numbers(shard)
        _check_text(shard)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error) as error:
        raise DamagedMemory(f"{where} is not a shard of a memory: {error}. {WAY_OUT}") from error
    return shard


def _check_consistent(shard: Shard) -> None:
    tokens, rows = len(shard.ids), len(shard.passages)
    if shard.passages.shape != (rows, 7) or shard.added.shape != (rows,):
        raise ValueError("its passages have the wrong shape")
    if shard.happened is not None and shard.happened.shape != (rows,):
        raise ValueError("the times of its passages have the wrong shape")
    if shard.vectors is not None and (shard.vectors.ndim != 2 or len(shard.vectors) != rows):
        raise ValueError("the vectors of its passages have the wrong shape")
    if shard.latents is not None:
        shard.latents.check(rows)
    if shard.scales.shape[:1] != (tokens,) or shard.keys.shape[:2] != shard.scales.shape:
        raise ValueError("its arrays differ in length")
    for first, end, length in ((TOKEN, TOKEN_END, tokens), (BYTE, BYTE_END, len(shard.text))):
        edges = np.concatenate([[0], shard.passages[:, end]])
        if edges[-1] != length or (edges[1:] < edges[:-1]).any() or (shard.passages[:, first] != edges[:-1]).any():
            raise ValueError("its passages do not tile it")
    if rows > 0 and not 0 <= shard.passages[:, SOURCE].min() <= shard.passages[:, SOURCE].max() < len(shard.sources):
        raise ValueError("a passage has no source")


def _check_numbers(shard: Shard) -> None:
    """Refuse numbers that no writer stores: they would surface as wrong scores, or as errors far from here."""
    if len(shard.ids) > 0 and shard.ids.min() < 0:
        raise ValueError("a token id is negative")
    if not ((shard.added >= 0) & (shard.added < FIRST_YEAR_BEYOND)).all():  # NaN is neither
        raise ValueError("a passage was added at an impossible time")
    if shard.happened is not None and not are_times(shard.happened):
        raise ValueError("a passage is about an impossible time")
    for first in range(0, len(shard.scales), _ROWS_AT_ONCE):
        bits = shard.scales[first : first + _ROWS_AT_ONCE].view(np.uint16)
        if ((bits & _EXPONENT) == _EXPONENT).any():  # many times as fast as isfinite, which has no code for float16
            raise ValueError("a scale is NaN or infinite")


def are_times(happened: Times) -> bool:
    """Whether each is unix seconds from the year 1 to 9999, or NaN."""
    return bool((np.isnan(happened) | ((happened >= FIRST_YEAR) & (happened < FIRST_YEAR_BEYOND))).all())


def _check_text(shard: Shard) -> None:
    """Refuse text that is no UTF-8, and passages that cut a character or contradict each other about their place."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for first in range(0, len(shard.text), CHUNK):
        decoder.decode(shard.text[first : first + CHUNK].tobytes())
    decoder.decode(b"", final=True)
    begins = (shard.text & 0xC0) != 0x80  # the bytes that begin a character
    table = shard.passages
    filled = table[:, BYTE] < table[:, BYTE_END]
    starts = table[filled, BYTE]
    if not begins[starts].all():
        raise ValueError("a passage begins within a character")
    lengths = np.zeros(len(table), np.int64)
    if len(starts) > 0:
        lengths[filled] = np.add.reduceat(begins, starts, dtype=np.int64)
    limits = np.array([source.characters for source in shard.sources.values()], np.int64)
    by_source = table[np.argsort(table[:, SOURCE], kind="stable")]
    same_source = by_source[1:, SOURCE] == by_source[:-1, SOURCE]
    follow = by_source[1:, CHARACTER] == by_source[:-1, CHARACTER_END]
    within = (table[:, CHARACTER] >= 0) & (table[:, CHARACTER_END] <= limits[table[:, SOURCE]])
    if not (
        within.all() and follow[same_source].all() and (table[:, CHARACTER_END] - table[:, CHARACTER] == lengths).all()
    ):
        raise ValueError("its passages do not follow one another in their sources")


def hash_text(source: str, shards: Iterable[Shard]) -> "hashlib._Hash":
    """A sha256 fed with all the text of a source."""
    hasher = hashlib.sha256()
    for shard in shards:
        for row in shard.rows.get(source, ()) if source in shard.sources else ():
            hasher.update(shard.characters(row))
    return hasher
