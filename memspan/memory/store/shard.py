"""A part: consecutive passages of a memory in one immutable safetensors file (or the same bytes in RAM).

Shapes: T tokens, P passages, G retrieval heads, K numbers per key, N bytes of text.

    passages  int64    (P, 7)      where each passage lies, see the columns below
    added     float64  (P,)        when it was added, unix seconds
    ids       int32    (T,)        token ids
    scales    float16  (T, G)      a key is keys * scales[..., None]
    keys      int8     (T, G, K)
    text      uint8    (N,)        UTF-8
    sources   uint8    (M,)        JSON: the record of every source the part touches, as it stood after this part

Passages tile the tokens and the text of their part. Many parts joined are again a part: appending, compacting,
forgetting and merging are all `encode` over a list of parts, copied straight from one mapped file to the next.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memspan.errors import DamagedMemory, MemspanError, UsageError
from memspan.memory.store.files import WAY_OUT, Bytes

Ids: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int8]
Scales: TypeAlias = NDArray[np.float16]
Places: TypeAlias = NDArray[np.int64]

# The columns of a part's passages: a row of its sources; tokens and bytes within the part; characters of the source.
SOURCE, TOKEN, TOKEN_END, CHARACTER, CHARACTER_END, BYTE, BYTE_END = range(7)

# In the order of the file: the widest first, so that every array is aligned.
_ARRAYS: dict[str, tuple[str, np.dtype[Any]]] = {
    "passages": ("I64", np.dtype("<i8")),
    "added": ("F64", np.dtype("<f8")),
    "ids": ("I32", np.dtype("<i4")),
    "scales": ("F16", np.dtype("<f2")),
    "keys": ("I8", np.dtype("<i1")),
    "text": ("U8", np.dtype("<u1")),
    "sources": ("U8", np.dtype("<u1")),
}
_LONGEST_HEADER = 64 * 1024  # bytes; eight entries take less than two thousand


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


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Consecutive text of one source, encoded by a model: what `Memory.append` takes.

    Attributes:
        source: the name of the source.
        start: the character of the source at which `text` begins.
        text: may be empty, with no tokens and no passages, to mark a source as complete.
        ids: int32 (T,), the token ids.
        keys: int8 (T, G, K), the keys of the retrieval heads.
        scales: float16 (T, G); a key is `keys * scales[..., None]`.
        passages: int64 (P, 4): first token, end token, first character, end character, relative to this piece. They
            tile it, and each has at least one token.
        kind: "document" or "exchange"; the same for every piece of a source.
        complete: nothing of this source will follow.
        meta: JSON values, added to what earlier pieces of the source gave.
        added: unix seconds; `None` for now.
    """

    source: str
    start: int
    text: str
    ids: Ids
    keys: Keys
    scales: Scales
    passages: Places
    kind: str = "document"
    complete: bool = True
    meta: Mapping[str, Any] = field(default_factory=dict)
    added: float | None = None


@dataclass(frozen=True)
class Stored:
    """The file that holds a part."""

    path: Path
    sha256: str


@dataclass(frozen=True, eq=False)
class Shard:
    """The arrays listed above, read-only, and the sources in the order that column `SOURCE` counts."""

    passages: Places
    added: NDArray[np.float64]
    ids: Ids
    scales: Scales
    keys: Keys
    text: NDArray[np.uint8]
    sources: Mapping[str, SourceRecord]
    raw: Bytes | None = None  # the encoded bytes these arrays look into; None for a view made up in RAM
    stored: Stored | None = None

    @property
    def nbytes(self) -> int:
        """The bytes this part takes, or will take, encoded (without its header and sources for a view)."""
        if self.raw is not None:
            return len(self.raw)
        arrays = (self.passages, self.added, self.ids, self.scales, self.keys, self.text)
        return sum(array.nbytes for array in arrays)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the sources, as column `SOURCE` counts them."""
        return tuple(self.sources)

    @cached_property
    def places(self) -> Mapping[str, Places]:
        """For each source with passages here, their rows in ascending order."""
        order = np.argsort(self.passages[:, SOURCE], kind="stable")
        columns, firsts = np.unique(self.passages[order, SOURCE], return_index=True)
        groups = np.split(order, firsts[1:])  # a single empty one if there are no passages
        return {self.names[column]: rows for column, rows in zip(columns, groups, strict=False)}

    def characters(self, row: int) -> bytes:
        """The text of one passage, as UTF-8."""
        return self.text[self.passages[row, BYTE] : self.passages[row, BYTE_END]].tobytes()


def check(piece: EncodedText, heads: int, head_size: int) -> None:
    """Refuse a piece that contradicts itself or does not fit a memory of G=`heads` and K=`head_size`.

    Raises:
        UsageError: a shape, a type, the tiling, or a value that cannot be written as JSON or UTF-8.
        MemspanError: a number that is not finite.
    """
    tokens = len(piece.ids)
    expected = {
        "ids": (np.int32, (tokens,)),
        "keys": (np.int8, (tokens, heads, head_size)),
        "scales": (np.float16, (tokens, heads)),
        "passages": (np.int64, (len(piece.passages), 4)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(piece, name)
        if array.dtype != dtype or array.shape != shape:
            raise UsageError(
                f"{piece.source!r}: {name} must be {np.dtype(dtype)} {shape}, not {array.dtype} {array.shape}"
            )
    _check_words(piece)
    _check_tiling(piece)
    if not np.isfinite(piece.scales).all():
        raise MemspanError(
            f"{piece.source!r}: scales hold NaN or infinity, so the model's keys overflowed. Nothing was stored; "
            "load the model with another dtype (bfloat16 or float32) and read the source again."
        )


def _check_words(piece: EncodedText) -> None:
    for name in ("source", "text", "kind"):
        try:
            getattr(piece, name).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{piece.source!r}: its {name} cannot be written as UTF-8: {error.reason}") from error
    if not piece.source:
        raise UsageError("a source needs a name; it is empty")
    if len(piece.ids) > 0 and piece.ids.min() < 0:
        raise UsageError(f"{piece.source!r}: token ids cannot be negative")
    try:
        json.dumps({"meta": dict(piece.meta), "added": piece.added}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{piece.source!r}: its meta and added must be JSON values: {error}") from error


def _check_tiling(piece: EncodedText) -> None:
    """First token, end token, first character, end character: each passage begins where the one before it ends."""
    edges = np.vstack([np.zeros((1, 2), np.int64), piece.passages[:, [1, 3]]])
    ends_with_piece = (edges[-1] == (len(piece.ids), len(piece.text))).all()
    follow_each_other = (piece.passages[:, [0, 2]] == edges[:-1]).all()
    grow = (np.diff(edges[:, 0]) > 0).all() and (np.diff(edges[:, 1]) >= 0).all()
    if not (ends_with_piece and follow_each_other and grow):
        raise UsageError(
            f"{piece.source!r}: its passages must tile its {len(piece.ids)} tokens and {len(piece.text)} characters, "
            "each with at least one token"
        )


def of_piece(piece: EncodedText, record: SourceRecord, added: float) -> Shard:
    """A view of one checked piece; `record` is its source as it stands after it."""
    texts = [piece.text[first:end].encode() for first, end in piece.passages[:, 2:]]
    byte_edges = np.cumsum([0, *map(len, texts)])
    rows = len(piece.passages)
    passages = np.column_stack(
        [
            np.zeros(rows, np.int64),
            piece.passages[:, :2],
            piece.passages[:, 2:] + piece.start,
            byte_edges[:-1],
            byte_edges[1:],
        ]
    )
    return Shard(
        passages=passages,
        added=np.full(rows, added, np.float64),
        ids=piece.ids,
        scales=piece.scales,
        keys=piece.keys,
        text=np.frombuffer(b"".join(texts), np.uint8),
        sources={record.name: record},
    )


def select(part: Shard, names: Mapping[str, str]) -> list[Shard]:
    """Views of what a part holds of the sources in `names`, which maps their names to new ones."""
    old = part.names
    records = {names[name]: replace(part.sources[name], name=names[name]) for name in old if name in names}
    if not records:
        return []
    wanted = np.array([name in names for name in old])[part.passages[:, SOURCE]]
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    # The first view has no passages: it keeps the order of the sources, and those without text.
    views = [_run(part, 0, 0, records)]
    for first, end in edges.reshape(-1, 2):
        used = [names[old[column]] for column in np.unique(part.passages[first:end, SOURCE])]
        views.append(_run(part, first, end, {name: records[name] for name in used}))
    return views


def _run(part: Shard, first: int, end: int, records: Mapping[str, SourceRecord]) -> Shard:
    """Passages `first` to `end` of a part, whose sources are now `records`, in the same order."""
    passages = part.passages[first:end].copy()
    tokens, characters = slice(0, 0), slice(0, 0)
    if len(passages) > 0:
        tokens = slice(passages[0, TOKEN], passages[-1, TOKEN_END])
        characters = slice(passages[0, BYTE], passages[-1, BYTE_END])
        passages[:, [TOKEN, TOKEN_END]] -= tokens.start
        passages[:, [BYTE, BYTE_END]] -= characters.start
        passages[:, SOURCE] = np.unique(passages[:, SOURCE], return_inverse=True)[1]
    return Shard(
        passages=passages,
        added=part.added[first:end],
        ids=part.ids[tokens],
        scales=part.scales[tokens],
        keys=part.keys[tokens],
        text=part.text[characters],
        sources=records,
    )


def latest(parts: Iterable[Shard]) -> dict[str, SourceRecord]:
    """The sources of several parts in order of first appearance, each as the last part that touches it records it."""
    sources: dict[str, SourceRecord] = {}
    for part in parts:
        sources.update(part.sources)
    return sources


def encode(parts: Sequence[Shard]) -> Iterator[Bytes]:
    """The safetensors file that holds several parts as one, in chunks; array data is handed on without a copy."""
    sources = latest(parts)
    records = json.dumps([asdict(source) for source in sources.values()], allow_nan=False).encode()
    columns: dict[str, list[NDArray[Any]]] = {
        "passages": _joined_passages(parts, {name: row for row, name in enumerate(sources)}),
        "sources": [np.frombuffer(records, np.uint8)],
    }
    for name in ("added", "ids", "scales", "keys", "text"):
        columns[name] = [getattr(part, name) for part in parts]
    yield _header(columns)
    for name, (_, dtype) in _ARRAYS.items():
        for array in columns[name]:
            if array.size > 0:
                yield np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def _joined_passages(parts: Sequence[Shard], rows: Mapping[str, int]) -> list[NDArray[Any]]:
    """The passages of each part, counted from the beginning of the joined part."""
    tables: list[NDArray[Any]] = []
    tokens = characters = 0
    for part in parts:
        table = part.passages.copy()
        table[:, SOURCE] = np.array([rows[name] for name in part.sources], np.int64)[table[:, SOURCE]]
        table[:, [TOKEN, TOKEN_END]] += tokens
        table[:, [BYTE, BYTE_END]] += characters
        tables.append(table)
        tokens += len(part.ids)
        characters += len(part.text)
    return tables


def _header(columns: Mapping[str, Sequence[NDArray[Any]]]) -> bytes:
    """The length and the JSON that begin a safetensors file, padded so that the arrays are aligned to eight bytes."""
    entries: dict[str, Any] = {}
    offset = 0
    for name, (code, dtype) in _ARRAYS.items():
        arrays = columns[name]
        shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
        size = int(np.prod(shape)) * dtype.itemsize
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": (offset, offset + size)}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def decode(raw: Bytes, stored: Stored | None = None) -> Shard:
    """Look into the bytes of an encoded part; the arrays are read-only views of `raw`.

    Raises:
        DamagedMemory: these are not the bytes of a part. Found in time and memory that do not depend on their claims.
    """
    where = "the part" if stored is None else str(stored.path)
    try:
        arrays = dict(_views(raw))
        sources = [SourceRecord(**record) for record in json.loads(arrays.pop("sources").tobytes())]
        part = Shard(**arrays, sources={source.name: source for source in sources}, raw=raw, stored=stored)
        _check_consistent(part)
    except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        raise DamagedMemory(f"{where} is not a part of a memory: {error}. {WAY_OUT}") from error
    return part


def _views(raw: Bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    (length,) = struct.unpack_from("<Q", raw)
    if length > min(_LONGEST_HEADER, len(raw) - 8):
        raise ValueError(f"its header claims {length} bytes")
    entries = json.loads(bytes(raw[8 : 8 + length]))
    position = 0
    for name, (code, dtype) in _ARRAYS.items():
        entry = entries[name]
        shape, (first, end) = entry["shape"], entry["data_offsets"]
        count = 1
        for axis in shape:
            count *= axis
        expected = {"dtype": code, "shape": shape, "data_offsets": [position, position + count * dtype.itemsize]}
        if entry != expected or min(shape) < 0 or 8 + length + end > len(raw):
            raise ValueError(f"{name} is not where it should be")
        yield name, np.frombuffer(raw, dtype, count, 8 + length + first).reshape(shape)
        position = end
    if 8 + length + position != len(raw):
        raise ValueError("bytes follow its last array")


def _check_consistent(part: Shard) -> None:
    tokens, rows = len(part.ids), len(part.passages)
    if part.passages.shape != (rows, 7) or part.added.shape != (rows,):
        raise ValueError("its passages have the wrong shape")
    if part.scales.shape[:1] != (tokens,) or part.keys.shape[:2] != part.scales.shape:
        raise ValueError("its arrays differ in length")
    for first, end, length in ((TOKEN, TOKEN_END, tokens), (BYTE, BYTE_END, len(part.text))):
        edges = np.concatenate([[0], part.passages[:, end]])
        if edges[-1] != length or (np.diff(edges) < 0).any() or (part.passages[:, first] != edges[:-1]).any():
            raise ValueError("its passages do not tile it")
    if rows > 0 and not 0 <= part.passages[:, SOURCE].min() <= part.passages[:, SOURCE].max() < len(part.sources):
        raise ValueError("a passage names no source")


def hash_text(source: str, parts: Iterable[Shard]) -> "hashlib._Hash":
    """A sha256 fed with all the text of a source."""
    hasher = hashlib.sha256()
    for part in parts:
        for row in part.places.get(source, ()):
            hasher.update(part.characters(row))
    return hasher
