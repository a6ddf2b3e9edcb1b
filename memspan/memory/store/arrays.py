"""The arrays of a shard's file, as safetensors holds them: their order, their header, and views into bytes of a file."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memspan.memory.store.files import Bytes
from memspan.memory.store.records import strict_json

Arrays: TypeAlias = Mapping[str, Sequence[NDArray[Any]]]  # by name, each in parts that follow one another

# In the order of the file: the widest first, so that every array is aligned.
ARRAYS: dict[str, tuple[str, np.dtype[Any]]] = {
    "passages": ("I64", np.dtype("<i8")),
    "added": ("F64", np.dtype("<f8")),
    "happened": ("F64", np.dtype("<f8")),
    "ids": ("I32", np.dtype("<i4")),
    "chunks": ("I32", np.dtype("<i4")),
    "scales": ("F16", np.dtype("<f2")),
    "keys": ("I8", np.dtype("<i1")),
    "vectors": ("I8", np.dtype("<i1")),
    "latents": ("I8", np.dtype("<i1")),
    "text": ("U8", np.dtype("<u1")),
    "sources": ("U8", np.dtype("<u1")),
    "marks": ("U8", np.dtype("<u1")),
}
OPTIONAL = ("happened", "chunks", "vectors", "latents", "marks")
_LONGEST_HEADER = 64 * 1024  # bytes; thirteen entries take less than two thousand
_MOST_AXES, _LONGEST_AXIS = 3, 2**40


def content(columns: Arrays) -> Iterator[Bytes]:
    """The file with these arrays, in chunks; array data is passed on without a copy."""
    yield header(columns)
    for name, (_, dtype) in ARRAYS.items():
        for array in columns.get(name, ()):
            if array.size > 0:
                yield np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def header(columns: Arrays) -> bytes:
    """The length and the JSON that begin a safetensors file, padded so that the arrays are aligned to eight bytes."""
    entries: dict[str, Any] = {}
    offset = 0
    for name, (code, dtype) in ARRAYS.items():
        if name not in columns:
            continue
        arrays = columns[name]
        shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
        size = int(np.prod(shape)) * dtype.itemsize
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": (offset, offset + size)}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def arrays_in(raw: Bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays in the bytes of a file, read-only. Raises ValueError, KeyError, TypeError or struct.error for other bytes."""
    (length,) = struct.unpack_from("<Q", raw)
    if length > min(_LONGEST_HEADER, len(raw) - 8):
        raise ValueError(f"its header claims {length} bytes")
    entries = strict_json(bytes(raw[8 : 8 + length]))
    position = 0
    for name, (code, dtype) in ARRAYS.items():
        if name in OPTIONAL and name not in entries:
            continue
        entry = entries[name]
        shape, (first, end) = entry["shape"], entry["data_offsets"]
        if len(shape) > _MOST_AXES or not all(type(axis) is int and 0 <= axis < _LONGEST_AXIS for axis in shape):
            raise ValueError(f"{name} has an impossible shape")
        count = 1
        for axis in shape:
            count *= axis
        expected = {"dtype": code, "shape": shape, "data_offsets": [position, position + count * dtype.itemsize]}
        if entry != expected or 8 + length + end > len(raw):
            raise ValueError(f"{name} is not at its offset")
        yield name, np.frombuffer(raw, dtype, count, 8 + length + first).reshape(shape)
        position = end
    if 8 + length + position != len(raw):
        raise ValueError("bytes follow its last array")
