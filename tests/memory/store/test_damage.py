"""Whatever happens to the files, a memory gives what was written or an error that says which file it was."""

import hashlib
import json
import os
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from memspan.errors import DamagedMemory
from memspan.memory import Memory, load_memory
from memspan.memory.store.shard import decode, encode
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores

WORDS = ["one", "seven", "ü"]


@pytest.fixture
def path(quick_path: Path) -> Path:
    """A small memory of three parts with a stored word index."""
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one two three four", added=1.0)])
    memory.append([encoded("five six ", source="b", complete=False, added=2.0)])
    memory.append([encoded("seven ü", source="b", start=9, added=3.0), encoded("one", source="c", added=3.0)])
    word_scores(memory, WORDS)
    return quick_path / "m"


def all_of(path: Path) -> dict[str, Any]:
    """Everything a fresh look finds; reading every byte of it."""
    memory = load_memory(path)
    return {**contents_of(memory), "found": word_scores(memory, WORDS)}


def truth_of(path: Path) -> list[Path]:
    """The files that are no cache."""
    return [path / "manifest.json", *sorted((path / "parts").iterdir())]


@contextmanager
def replaced(file: Path, content: bytes) -> Iterator[None]:
    """Give a file other bytes for a while."""
    before = file.read_bytes()
    file.write_bytes(content)
    yield
    file.write_bytes(before)


def test_no_byte_can_flip_unseen(path: Path) -> None:
    for file in truth_of(path):
        content = file.read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            with replaced(file, flipped), pytest.raises(DamagedMemory, match=file.name):
                load_memory(path)
    all_of(path)


def test_a_flip_in_the_word_index_changes_no_search(path: Path) -> None:
    expected = all_of(path)
    shutil.copytree(path, path.with_name("intact"))
    for name in ("search.json", "search.sqlite"):
        content = (path / name).read_bytes()
        for position in range(0, len(content), max(1, len(content) // 150)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            (path / name).write_bytes(flipped)
            assert all_of(path) == expected
            for cache in ("search.json", "search.sqlite"):
                shutil.copy(path.with_name("intact") / cache, path / cache)


def test_files_cut_short_or_grown(path: Path) -> None:
    for file in truth_of(path):
        content = file.read_bytes()
        for length in range(0, len(content), 17):
            with replaced(file, content[:length]), pytest.raises(DamagedMemory, match=file.name):
                load_memory(path)
        for extra in (b"\0", b" ", b"\n", content):
            with replaced(file, content + extra), pytest.raises(DamagedMemory, match=file.name):
                load_memory(path)


def test_swapped_and_missing_parts(path: Path) -> None:
    first, second, third = sorted((path / "parts").iterdir())
    with replaced(first, second.read_bytes()), pytest.raises(DamagedMemory, match=first.name):
        load_memory(path)
    content = third.read_bytes()
    third.unlink()
    with pytest.raises(DamagedMemory, match=f"{third.name} is missing"):
        load_memory(path)
    third.write_bytes(content)
    manifest = (path / "manifest.json").read_bytes()
    (path / "manifest.json").unlink()
    for use in (lambda: load_memory(path), lambda: Memory.open(path, FINGERPRINT)):
        with pytest.raises(DamagedMemory, match=r"manifest\.json is missing"):
            use()
    assert len(list((path / "parts").iterdir())) == 3  # nothing was taken for a leftover
    (path / "manifest.json").write_bytes(manifest)
    all_of(path)


def fifo(file: Path) -> None:
    os.mkfifo(file)


def link_to_the_original(file: Path) -> None:
    file.symlink_to(file.with_name("moved"))


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def loop(file: Path) -> None:
    file.symlink_to(file)


def huge(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(2**40)  # without holding a byte


@pytest.mark.parametrize("thing", [fifo, link_to_the_original, endless, loop, huge, Path.mkdir])
def test_things_that_are_no_files_are_refused_at_once(path: Path, thing: Callable[[Path], None]) -> None:
    for file in truth_of(path)[:2]:
        moved = file.rename(file.with_name("moved"))
        thing(file)
        start = time.perf_counter()
        with pytest.raises(DamagedMemory, match=file.name):
            load_memory(path)
        assert time.perf_counter() - start < 1
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        moved.rename(file)
    expected = all_of(path)
    for name in ("search.json", "search.sqlite"):
        (path / name).unlink()
        thing(path / name)
        assert all_of(path) == expected


MANIFESTS = {
    "nothing": b"",
    "text": b"dear diary",
    "zeros": bytes(5000),
    "a list": b"[]",
    "a word": b'"x"',
    "an object": b"{}",
    "another object": b'{"sha256": "0", "format": 1}',
    "deep": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 200_000,
    "a long number": b"9" * 1_000_000,
    "not UTF-8": b'{"sha256": "\xff"}',
    "large": b" " * (65 * 1024 * 1024),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_manifests_that_are_none(path: Path, kind: str) -> None:
    (path / "manifest.json").write_bytes(MANIFESTS[kind])
    start = time.perf_counter()
    with pytest.raises(DamagedMemory, match=r"manifest\.json"):
        load_memory(path)
    assert time.perf_counter() - start < 2


def signed(path: Path, **changes: Any) -> None:
    """Alter the manifest and sign it, as somebody may who knows how."""
    body = json.loads((path / "manifest.json").read_bytes())
    body.pop("sha256")
    body.update(changes)

    def canonical(value: dict[str, Any]) -> bytes:
        return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()

    body["sha256"] = hashlib.sha256(canonical(body)).hexdigest()
    (path / "manifest.json").write_bytes(canonical(body))


def test_a_signed_manifest_that_says_something_else_is_refused(path: Path) -> None:
    body = json.loads((path / "manifest.json").read_bytes())
    first = body["parts"][0]
    shutil.copy(path / "parts" / f"{first['name']}.safetensors", path / "outside.safetensors")
    for changes in (
        {"parts": [{**first, "name": "../outside"}]},
        {"parts": [{**first, "name": ""}]},
        {"parts": [{**first, "name": "x" * 32}]},
        {"parts": [{**first, "passages": first["passages"] + 1}]},
        {"parts": [{**first, "tokens": first["tokens"] + 1}]},
        {"parts": [{"name": first["name"]}]},
        {"parts": {"a": 1}},
        {"parts": 5},
        {"more": 1},
        {"fingerprint": {**body["fingerprint"], "head_size": 8}},
        {"fingerprint": {**body["fingerprint"], "heads": [[1, 0]]}},
        {"fingerprint": {**body["fingerprint"], "heads": [[1]]}},
        {"fingerprint": {**body["fingerprint"], "heads": 3}},
        {"fingerprint": {}},
    ):
        with replaced(path / "manifest.json", (path / "manifest.json").read_bytes()):
            signed(path, **changes)
            with pytest.raises(DamagedMemory):
                load_memory(path)


# ---- the inside of a part, for whoever forges a checksum too


def part_bytes() -> bytes:
    memory = Memory(FINGERPRINT)
    memory.append([encoded("one two three four five"), encoded("six", source="b")])
    (part,) = memory.snapshot.shards
    return bytes(part.raw)


def taken_apart(raw: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<Q", raw)
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def put_together(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def forged_headers() -> Iterator[bytes]:
    raw = part_bytes()
    header, data = taken_apart(raw)
    for length in (0, 1, 7, len(raw), len(raw) - 8, 2**31, 2**63, 2**64 - 1):
        yield struct.pack("<Q", length) + raw[8:]
    yield from (b"", b"\0" * 7, b"\0" * 8, raw[:8], b"\xff" * 5000)
    yield from (put_together(other, data) for other in ([], 5, "x", None, {}, {"ids": 1}))
    yield struct.pack("<Q", 60_000) + b"[" * 60_000 + data
    yield struct.pack("<Q", 4_000_000) + b'{"ids":[' + b"[]," * 1_333_330 + b"[]" + data  # 80 MB of empty lists
    for name in header:
        entry = header[name]
        for changed in (
            None,
            {},
            [],
            {**entry, "shape": [2**40]},
            {**entry, "shape": [2**31, 2**31, 2**31]},
            {**entry, "shape": [-1]},
            {**entry, "shape": [-1, -1]},
            {**entry, "shape": []},
            {**entry, "shape": ["9"]},
            {**entry, "shape": [1.5]},
            {**entry, "shape": 5},
            {**entry, "dtype": "F64" if entry["dtype"] != "F64" else "I8"},
            {**entry, "dtype": "object"},
            {**entry, "data_offsets": [0, 2**62]},
            {**entry, "data_offsets": [entry["data_offsets"][0], entry["data_offsets"][1] + 8]},
            {**entry, "data_offsets": [entry["data_offsets"][1], entry["data_offsets"][0]]},
            {**entry, "data_offsets": [-8, entry["data_offsets"][1]]},
            {**entry, "data_offsets": [0]},
            {**entry, "data_offsets": "01"},
            {**entry, "data_offsets": None},
        ):
            yield put_together({**header, name: changed}, data)
        yield put_together({other: header[other] for other in header if other != name}, data)
    yield raw + b"\0"
    yield raw[:-1]


def forged_contents() -> Iterator[bytes]:
    """Parts whose arrays contradict each other, though each is well formed."""
    part = decode(part_bytes())
    arrays = {name: getattr(part, name) for name in ("passages", "added", "ids", "scales", "keys", "text")}
    records = safetensors.numpy.load(part_bytes())["sources"].tobytes()

    def forge(sources: bytes = records, **changed: np.ndarray) -> bytes:
        everything = {**arrays, "sources": np.frombuffer(sources, np.uint8), **changed}
        header, position = {}, 0
        for name, (code) in zip(everything, ("I64", "F64", "I32", "F16", "I8", "U8", "U8"), strict=True):
            array = everything[name]
            header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [position, position + array.nbytes]}
            position += array.nbytes
        return put_together(header, b"".join(array.tobytes() for array in everything.values()))

    assert decode(forge()).ids.tolist() == part.ids.tolist()
    for column in (1, 2, 5, 6):
        for value in (-1, 10**12):
            passages = part.passages.copy()
            passages[1, column] = value
            yield forge(passages=passages)
    for value in (-1, 2, 2**62):
        passages = part.passages.copy()
        passages[0, 0] = value
        yield forge(passages=passages)
    yield forge(passages=part.passages[:-1], added=part.added[:-1])
    yield forge(passages=part.passages[:, :6])
    yield forge(added=part.added[:-1])
    yield forge(scales=part.scales[:-1])
    yield forge(keys=part.keys[:, :1])
    yield forge(ids=part.ids[:-1], scales=part.scales[:-1], keys=part.keys[:-1])
    yield forge(text=part.text[:-1])
    for sources in (b"", b"{", b"[]", b"5", b"[5]", b"[{}]", b'[{"name": "a"}]', b"\xff", b"[" * 100_000):
        yield forge(sources=sources)


@pytest.mark.parametrize("forged", [forged_headers, forged_contents])
def test_forged_parts_are_refused_in_bounded_time_and_memory(forged: Callable[[], Iterator[bytes]]) -> None:
    assert decode(part_bytes()).names == ("a", "b")
    count = 0
    for raw in forged():
        count += 1
        tracemalloc.start()
        start = time.perf_counter()
        with pytest.raises(DamagedMemory, match="is not a shard of a memory"):
            decode(raw)
        assert time.perf_counter() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
    assert count > 20


def test_a_part_is_a_safetensors_file_like_any_other(path: Path) -> None:
    memory = load_memory(path)
    for part in memory.snapshot.shards:
        arrays = safetensors.numpy.load_file(part.file.path)
        assert sorted(arrays) == ["added", "ids", "keys", "passages", "scales", "sources", "text"]
        for name in arrays.keys() - {"sources"}:
            assert arrays[name].dtype == getattr(part, name).dtype
            assert arrays[name].tobytes() == getattr(part, name).tobytes()
        assert getattr(part, name).flags.aligned
        assert b"".join(encode([part])) == bytes(part.raw)
