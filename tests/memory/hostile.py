"""Memory folders as an enemy may send them: right checksums, wrong everything else.

`HOSTILE` lists (name, function), where the function damages the folder of a memory that `prepare` made. Opening the result
must end in a MemspanError or in the contents that `prepare` stored, and touch nothing outside the folder.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import safetensors.numpy

from memspan.memory import Memory
from memspan.memory.index.bm25 import WordIndex
from tests.memory.make import FINGERPRINT, encoded, word_scores

Attack: TypeAlias = Callable[[Path], object]

CODES = {
    "passages": "I64", "added": "F64", "happened": "F64", "ids": "I32", "chunks": "I32", "scales": "F16", "keys": "I8",
    "vectors": "I8", "latents": "I8", "text": "U8", "sources": "U8", "marks": "U8"
}  # fmt: skip
SOURCE, TOKEN, TOKEN_END, CHARACTER, CHARACTER_END, BYTE, BYTE_END = range(7)


def prepare(path: Path) -> None:
    """A memory of two shards with a stored word index; the first has two sources, and text of more than one byte."""
    memory = Memory.open(path, FINGERPRINT)
    memory.append([encoded("öne two three four five", added=1.0), encoded("six", source="b", added=1.0)])
    memory.append([encoded("seven eight", source="c", added=2.0, meta={"by": ["x"]})])
    word_scores(memory, ["two"])


# ---- tools


def canonical(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest without its checksum."""
    body: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    del body["sha256"]
    return body


def sign_manifest(folder: Path, body: dict[str, Any]) -> None:
    """Write a manifest with its checksum."""
    (folder / "manifest.json").write_bytes(canonical({**body, "sha256": hashlib.sha256(canonical(body)).hexdigest()}))


def manifest(**changes: Any) -> Attack:
    """Other fields in the manifest."""
    return lambda folder: sign_manifest(folder, {**manifest_of(folder), **changes})


def fingerprint(**changes: Any) -> Attack:
    """Other fields in the fingerprint."""
    return lambda folder: sign_manifest(
        folder, {**(body := manifest_of(folder)), "fingerprint": {**body["fingerprint"], **changes}}
    )


def entry(**changes: Any) -> Attack:
    """Other fields in the manifest's entry of the first shard."""
    return lambda folder: sign_manifest(
        folder,
        {**(body := manifest_of(folder)), "parts": [{**body["parts"][0], **changes}, *body["parts"][1:]]},
    )


def first_shard(folder: Path) -> Path:
    return folder / "parts" / f"{manifest_of(folder)['parts'][0]['name']}.safetensors"


def store_shard(folder: Path, raw: bytes, **changes: Any) -> None:
    """Replace the first shard, and its size and checksum in the manifest."""
    first_shard(folder).write_bytes(raw)
    entry(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest(), **changes)(folder)


def joined(header: Any, data: bytes) -> bytes:
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def arrays_joined(arrays: dict[str, np.ndarray]) -> bytes:
    """A shard with these arrays, in their order."""
    header, position = {}, 0
    for name, array in ((name, arrays[name]) for name in CODES if name in arrays):
        end = position + array.nbytes
        header[name] = {"dtype": CODES[name], "shape": array.shape, "data_offsets": [position, end]}
        position = end
    return joined(header, b"".join(arrays[name].tobytes() for name in CODES if name in arrays))


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the first shard, in the order of the file, to be changed."""
    arrays = safetensors.numpy.load(first_shard(folder).read_bytes())
    return {name: arrays[name].copy() for name in CODES if name in arrays}


def shard(change: Callable[[dict[str, np.ndarray]], object]) -> Attack:
    """Other arrays in the first shard; `change` alters them in place."""

    def attack(folder: Path) -> None:
        arrays = arrays_of(folder)
        change(arrays)
        store_shard(folder, arrays_joined(arrays), passages=len(arrays["passages"]), tokens=len(arrays["ids"]))

    return attack


def number(array: str, index: Any, value: float) -> Attack:
    """Another number in an array of the first shard."""
    return shard(lambda arrays: arrays[array].__setitem__(index, value))


def extended(change: Callable[[dict[str, np.ndarray]], object]) -> Attack:
    """Vectors, times and marks in the first shard, which `change` alters in place, of an encoder that the manifest names."""

    def attack(folder: Path) -> None:
        encoder = {"identity": "e" * 64, "name": "small", "size": 3}
        body = manifest_of(folder)
        sign_manifest(folder, {**body, "format": 2, "fingerprint": {**body["fingerprint"], "encoder": encoder}})
        arrays = arrays_of(folder)
        rows = len(arrays["passages"])
        arrays.update(happened=np.zeros(rows), vectors=np.ones((rows, 3), np.int8))
        arrays["marks"] = np.frombuffer(b'{"page":[[0,2],[1,null]],"title":[[1],["x"]]}', np.uint8)
        change(arrays)
        store_shard(folder, arrays_joined(arrays), passages=rows, tokens=len(arrays["ids"]))

    return attack


def latent(change: Callable[[dict[str, np.ndarray]], object], **fields: Any) -> Attack:
    """Latents in the first shard, which `change` alters in place, by a trained memory that the manifest names: one for each
    two tokens. `fields` are others of its fingerprint."""

    def attack(folder: Path) -> None:
        made_by = {"identity": "c" * 64, "name": "small", "size": 3, "rate": 2, **fields}
        body = manifest_of(folder)
        sign_manifest(folder, {**body, "format": 3, "fingerprint": {**body["fingerprint"], "latents": made_by}})
        arrays = arrays_of(folder)
        tokens = arrays["passages"][:, TOKEN_END] - arrays["passages"][:, TOKEN]
        arrays["chunks"] = -(-tokens // 2).astype(np.int32)
        arrays["latents"] = np.ones((arrays["chunks"].sum(), 3), np.int8)
        change(arrays)
        store_shard(folder, arrays_joined(arrays), passages=len(arrays["passages"]), tokens=len(arrays["ids"]))

    return attack


def marks(content: Any) -> Attack:
    """Other marks of the passages of the first shard: bytes, or JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return extended(lambda arrays: arrays.update(marks=np.frombuffer(raw, np.uint8)))


def times(value: float) -> Attack:
    """Another time that the first passage is about."""
    return extended(lambda arrays: arrays["happened"].__setitem__(0, value))


def text(index: int, content: bytes) -> Attack:
    """Other bytes of text, from this byte."""
    return shard(lambda arrays: arrays["text"].__setitem__(slice(index, index + len(content)), list(content)))


def sources(raw: bytes | Callable[[list[dict[str, Any]]], Any]) -> Attack:
    """Other records of sources: bytes, or what a function makes of them."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        content = raw if isinstance(raw, bytes) else json.dumps(raw(json.loads(arrays["sources"].tobytes()))).encode()
        arrays["sources"] = np.frombuffer(content, np.uint8)

    return shard(change)


def record(**changes: Any) -> Attack:
    """Other fields in the record of the first source."""
    return sources(lambda records: [{**records[0], **changes}, *records[1:]])


def header(change: Callable[[dict[str, Any]], Any]) -> Attack:
    """Another header of the first shard before the same data."""

    def attack(folder: Path) -> None:
        raw = first_shard(folder).read_bytes()
        (length,) = struct.unpack_from("<Q", raw)
        store_shard(folder, joined(change(json.loads(raw[8 : 8 + length])), raw[8 + length :]))

    return attack


def header_entry(array: str, **changes: Any) -> Attack:
    """Other fields of one array in the header of the first shard."""
    return header(lambda entries: {**entries, array: {**entries[array], **changes}})


def instead(name: str, put: Callable[[Path], object]) -> Attack:
    """Something else under the name of a file, or of the first shard."""

    def attack(folder: Path) -> None:
        path = first_shard(folder) if name == "a shard" else folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        put(path)

    return attack


def index(content: Callable[[], bytes], **changes: Any) -> Attack:
    """Another word index, with its size and checksum beside it."""

    def attack(folder: Path) -> None:
        raw = content()
        (folder / "search.sqlite").write_bytes(raw)
        stamp = json.loads((folder / "search.json").read_bytes())
        stamp.update(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest(), **changes)
        (folder / "search.json").write_bytes(json.dumps(stamp).encode())

    return attack


def endless_view() -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(
            "CREATE VIEW words AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS text FROM n"
        )
        return database.serialize()


def lying_index() -> bytes:
    words = WordIndex()
    words.extend(["nothing", "two two two", "two", "two"])
    return b"".join(words.dump())


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def outside(path: Path) -> Path:
    """A file next to the folder of the memory, for links; made if it is missing."""
    victim = next(parent for parent in path.parents if not (parent / "manifest.json").exists()) / "victim.safetensors"
    victim.touch()
    return victim


def many_shards(folder: Path) -> None:
    body = manifest_of(folder)
    body["parts"] = [{**body["parts"][0], "name": f"{count:032x}"} for count in range(300)]
    sign_manifest(folder, body)


def duplicate_shard(folder: Path) -> None:
    body = manifest_of(folder)
    sign_manifest(folder, {**body, "parts": [*body["parts"], body["parts"][0]]})


def linked_parts(folder: Path) -> None:
    (folder / "parts").rename(folder.with_name("elsewhere"))
    (folder / "parts").symlink_to("../elsewhere")


def record_with_a_field_twice(folder: Path) -> None:
    raw = arrays_of(folder)["sources"].tobytes()
    sources(raw.replace(b'"kind":', b'"kind": "other", "kind":', 1))(folder)


# ---- the cases

THINGS: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to(outside(path)),
    "a dangling link": lambda path: path.symlink_to("../nowhere"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "1 TiB of nothing": lambda path: (path.touch(), os.truncate(path, 2**40)),
}
NAMES = ("manifest.json", "a shard", "lock", "search.sqlite", "search.json", "unfinished", "parts")

FILES: list[tuple[str, Attack]] = [
    (f"{thing} for {name}", instead(name, put))
    for name in NAMES
    for thing, put in THINGS.items()
    if (name, thing) != ("parts", "a folder")
]

MANIFESTS: list[tuple[str, Attack]] = [
    ("a generation of text", manifest(generation="x")),
    ("a generation below zero", manifest(generation=-1)),
    ("a generation that is true", manifest(generation=True)),
    ("a fractional generation", manifest(generation=1.5)),
    ("a generation of a thousand digits", manifest(generation=10**1000)),
    ("a lineage that is a number", manifest(lineage=5)),
    ("a lineage that is a path", manifest(lineage="../" * 10)),
    ("an endless lineage", manifest(lineage="a" * 100_000)),
    ("no lineage", manifest(lineage=None)),
    ("a fingerprint of text", manifest(fingerprint="x")),
    ("an unknown field", manifest(more=1)),
    ("parts that are an object", manifest(parts={"a": 1})),
    ("parts of numbers", manifest(parts=[1, 2])),
    ("a shard listed twice", duplicate_shard),
    ("hundreds of missing shards", many_shards),
    ("a head size of zero", fingerprint(head_size=0)),
    ("a head size below zero", fingerprint(head_size=-4)),
    ("a huge head size", fingerprint(head_size=2**62)),
    ("a head size of text", fingerprint(head_size="4")),
    ("no heads", fingerprint(heads=[])),
    ("heads twice", fingerprint(heads=[[1, 0], [1, 0]])),
    ("heads that descend", fingerprint(heads=[[3, 2], [1, 0]])),
    ("heads below zero", fingerprint(heads=[[-1, 0], [3, 2]])),
    ("heads of fractions", fingerprint(heads=[[1.5, 0], [3, 2]])),
    ("heads of text", fingerprint(heads=["10", "32"])),
    ("heads of three numbers", fingerprint(heads=[[1, 0, 0], [3, 2, 0]])),
    ("a model that is a list", fingerprint(model=[])),
    ("a tokenizer that is a number", fingerprint(tokenizer=1)),
    ("a dtype that is nothing", fingerprint(dtype=None)),
    ("an endless name", fingerprint(name="x" * 100_000)),
    ("an unknown field of the fingerprint", fingerprint(more=1)),
    ("a shard outside the folder", entry(name="../../victim")),
    ("a short name of a shard", entry(name="ab")),
    ("a name of a shard that is a number", entry(name=5)),
    ("a size below zero", entry(bytes=-1)),
    ("a size of text", entry(bytes="1000")),
    ("a huge size", entry(bytes=2**64)),
    ("a checksum that is a number", entry(sha256=5)),
    ("tokens that are true", entry(tokens=True)),
    ("passages of text", entry(passages="3")),
    ("tokens below zero", entry(tokens=-6)),
]

SHARDS: list[tuple[str, Attack]] = [
    ("a scale that is NaN", number("scales", (0, 0), np.nan)),
    ("a scale that is infinite", number("scales", (-1, -1), np.inf)),
    ("a scale that is minus infinity", number("scales", (1, 1), -np.inf)),
    ("an id below zero", number("ids", 0, -5)),
    ("the smallest id", number("ids", -1, -(2**31))),
    ("added at NaN", number("added", 0, np.nan)),
    ("added at infinity", number("added", 0, np.inf)),
    ("added before 1970", number("added", 0, -1.0)),
    ("added after the year 9999", number("added", 0, 1e300)),
    ("text that is no UTF-8", text(4, b"\xff")),
    ("text with half a surrogate", text(4, b"\xed\xa0\x80")),
    ("text with an overlong byte", text(4, b"\xc0\xaf")),
    ("text that ends within a character", number("text", -1, 0xC3)),
    ("a passage cut within a character", shard(lambda arrays: cut_character(arrays))),
    ("a character below zero", number("passages", (0, CHARACTER), -1)),
    ("a character at the end of the numbers", number("passages", (1, CHARACTER_END), 2**63 - 1)),
    ("characters that do not ascend", number("passages", (1, CHARACTER), 0)),
    ("passages that overlap in their source", shard(lambda arrays: overlapping(arrays))),
    ("more characters than the text has", shard(lambda arrays: shifted(arrays, 1000))),
    ("more characters than the source has", shard(lambda arrays: shifted(arrays, 1))),
    ("a token beyond the end", number("passages", (0, TOKEN_END), 2**62)),
    ("a token at the beginning of the numbers", number("passages", (0, TOKEN_END), -(2**63))),
    ("a byte beyond the end", number("passages", (1, BYTE_END), 2**62)),
    ("a source below zero", number("passages", (0, SOURCE), -1)),
    ("a source beyond the last", number("passages", (0, SOURCE), 2)),
    ("no bytes", lambda folder: store_shard(folder, b"")),
    ("a shard cut short", lambda folder: store_shard(folder, first_shard(folder).read_bytes()[:-1])),
    ("a shard that goes on", lambda folder: store_shard(folder, first_shard(folder).read_bytes() + b"\0")),
    ("a deep header", header(lambda entries: b"[" * 60_000)),
    ("a header of empty lists", header(lambda entries: b'{"ids":[' + b"[]," * 20_000 + b"[]]}")),
    ("a header that names an array twice", header(lambda entries: json.dumps(entries).encode()[:-1] + b',"ids":5}')),
    ("a header that is no UTF-8", header(lambda entries: b'{"\xff": 1}')),
    ("a header with NaN", header(lambda entries: {**entries, "more": float("nan")})),
    ("a header in UTF-16", header(lambda entries: json.dumps(entries).encode("utf-16"))),
    ("ids of a huge shape", header_entry("ids", shape=[2**62])),
    ("ids of a shape beyond all numbers", header_entry("ids", shape=[10**400])),
    ("keys of no tokens and huge heads", header_entry("keys", shape=[0, 2**62, 2**62])),
    ("keys of no tokens and vast heads", header_entry("keys", shape=[0, 2**64, 2**64])),
    ("keys of many axes", header_entry("keys", shape=[1] * 5000)),
    ("ids of a shape that is true", header_entry("ids", shape=[True])),
    ("ids of a fractional shape", header_entry("ids", shape=[6.0])),
    ("ids of a negative shape", header_entry("ids", shape=[-1])),
    ("ids of a negative offset", header_entry("ids", data_offsets=[-8, 16])),
    ("ids of another type", header_entry("ids", dtype="F64")),
    ("ids that are objects", header_entry("ids", dtype="O")),
]

EXTENSIONS: list[tuple[str, Attack]] = [
    ("an encoder of text", fingerprint(encoder="x")),
    ("an encoder that is nothing", fingerprint(encoder=None)),
    ("an encoder without fields", fingerprint(encoder={})),
    ("an encoder with a field too many", fingerprint(encoder={"identity": "e", "name": "n", "size": 3, "more": 1})),
    ("an encoder of no size", fingerprint(encoder={"identity": "e", "name": "n", "size": 0})),
    ("an encoder of a huge size", fingerprint(encoder={"identity": "e", "name": "n", "size": 2**40})),
    ("an encoder whose size is true", fingerprint(encoder={"identity": "e", "name": "n", "size": True})),
    ("an encoder of an endless name", fingerprint(encoder={"identity": "e", "name": "n" * 100_000, "size": 3})),
    ("a format that is true", manifest(format=True)),
    ("a format of text", manifest(format="2")),
    ("vectors of another size", extended(lambda arrays: arrays.update(vectors=arrays["vectors"][:, :2]))),
    ("vectors of no size", extended(lambda arrays: arrays.update(vectors=arrays["vectors"][:, :0]))),
    ("vectors of other passages", extended(lambda arrays: arrays.update(vectors=arrays["vectors"][1:]))),
    ("vectors of one axis", extended(lambda arrays: arrays.update(vectors=arrays["vectors"][:, 0]))),
    ("latents of another size", latent(lambda arrays: arrays.update(latents=arrays["latents"][:, :2]))),
    ("latents of no size", latent(lambda arrays: arrays.update(latents=arrays["latents"][:, :0]))),
    ("latents of one axis", latent(lambda arrays: arrays.update(latents=arrays["latents"][:, 0]))),
    ("a latent too few", latent(lambda arrays: arrays.update(latents=arrays["latents"][1:]))),
    ("latents without counts", latent(lambda arrays: arrays.pop("chunks"))),
    ("counts without latents", latent(lambda arrays: arrays.pop("latents"))),
    ("counts of other passages", latent(lambda arrays: arrays.update(chunks=arrays["chunks"][1:]))),
    ("a negative count", latent(lambda arrays: arrays["chunks"].__iadd__([-9, 9, 0]))),
    ("counts that are not of the tokens", latent(lambda arrays: arrays["chunks"].__iadd__([-1, 1, 0]))),
    ("counts beyond every number", latent(lambda arrays: arrays["chunks"].fill(2**31 - 1))),
    ("latents of another rate", latent(lambda arrays: None, rate=3)),
    ("latents of no rate", latent(lambda arrays: None, rate=0)),
    ("a rate of latents that is no number", latent(lambda arrays: None, rate="2")),
    ("a size of latents beyond all", latent(lambda arrays: None, size=2**40)),
    ("a trained memory of a long name", latent(lambda arrays: None, name="x" * 5000)),
    ("a trained memory with another field", latent(lambda arrays: None, more=1)),
    ("times of other passages", extended(lambda arrays: arrays.update(happened=arrays["happened"][1:]))),
    ("a time at infinity", times(np.inf)),
    ("a time after the year 9999", times(1e300)),
    ("a time before the year 1", times(-1e12)),
    ("marks that are a list", marks([])),
    ("marks that are no JSON", marks(b"{")),
    ("marks that are no UTF-8", marks(b'{"\xff": [[0], [1]]}')),
    ("deep marks", marks(b"[" * 100_000)),
    ("marks of one kind twice", marks(b'{"page":[[0],[1]],"page":[[0],[2]]}')),
    ("marks that are an object", marks({"page": {"rows": [0], "values": [1]}})),
    ("marks of one list", marks({"page": [[0]]})),
    ("marks of unequal lists", marks({"page": [[0, 1], [1]]})),
    ("marks of nothing", marks({"page": [[], []]})),
    ("marks that descend", marks({"page": [[1, 0], [1, 2]]})),
    ("marks of a passage twice", marks({"page": [[0, 0], [1, 2]]})),
    ("marks below zero", marks({"page": [[-1], [1]]})),
    ("marks beyond the last passage", marks({"page": [[10**6], [1]]})),
    ("marks of a passage that is true", marks({"page": [[True], [1]]})),
    ("marks of fractions", marks({"page": [[0.0], [1]]})),
    ("a mark that is true", marks({"page": [[0], [True]]})),
    ("a mark that is a list", marks({"page": [[0], [[1]]]})),
    ("a mark that is NaN", marks({"page": [[0], [float("nan")]]})),
    ("a mark beyond all numbers", marks(b'{"page": [[0], [1e999]]}')),
    ("a mark of a thousand digits", marks({"page": [[0], [10**1000]]})),
    ("an endless mark", marks({"title": [[0], ["x" * 100_000]]})),
    ("a mark that is half a character", marks({"title": [[0], ["\ud800"]]})),
    ("a mark of an endless kind", marks({"x" * 100_000: [[0], [1]]})),
    ("a mark of no kind", marks({"": [[0], [1]]})),
    ("a mark of half a character", marks({"\ud800": [[0], [1]]})),
    ("a thousand marks of a passage", marks({f"kind {number}": [[0], [1]] for number in range(1000)})),
]

RECORDS: list[tuple[str, Attack]] = [
    ("no records", sources(b"[]")),
    ("a record that is a number", sources(b"[5]")),
    ("records that are an object", sources(b"{}")),
    ("records that are no JSON", sources(b"{")),
    ("deep records", sources(b"[" * 100_000)),
    ("a record without fields", sources(b"[{}, {}]")),
    ("a record with a field too many", record(more=1)),
    ("a record with a field twice", record_with_a_field_twice),
    ("two sources of one name", sources(lambda records: [records[0], records[0]])),
    ("a source without a name", record(name="")),
    ("a source whose name is a number", record(name=5)),
    ("a source whose name is half a character", record(name="\ud800")),
    ("a kind that is a list", record(kind=[])),
    ("characters of text", record(characters="many")),
    ("characters below zero", record(characters=-1)),
    ("fractional characters", record(characters=23.0)),
    ("characters that are true", record(characters=True)),
    ("characters of a thousand digits", record(characters=10**1000)),
    ("a checksum of text", record(sha256="x")),
    ("no checksum", record(sha256=None)),
    ("complete that is a number", record(complete=1)),
    ("added of text", record(added="yesterday")),
    ("added at no time", record(added=None)),
    ("a source added after the year 9999", record(added=1e300)),
    ("a source added before 1970", record(added=-1)),
    ("a source added at NaN", record(added=float("nan"))),
    ("a source added at infinity", sources(lambda records: [{**records[0], "added": float("inf")}, records[1]])),
    ("meta that is a list", record(meta=[])),
    ("meta that holds NaN", record(meta={"x": float("nan")})),
    ("deep meta", record(meta={"x": nested(200)})),
    ("meta with half a character", record(meta={"x": ["\udfff"]})),
]

INDEXES: list[tuple[str, Attack]] = [
    ("an endless view for the index", index(endless_view, passages=4)),
    ("an index of other words", index(lying_index, passages=4)),
    ("an index of other words without a signature", index(lying_index, passages=4, signature=None)),
    ("an index with a signature of its own", index(lying_index, passages=4, signature="0" * 64)),
    ("an index that is no database", index(lambda: b"SQLite format 3\x00" + b"\xff" * 5000)),
    ("a stamp with a deep value", lambda folder: (folder / "search.json").write_bytes(b"[" * 4000)),
    ("a stamp of a thousand digits", index(lying_index, passages=10**1000)),
    ("an index of fewer passages", index(lying_index, passages=1)),
]

OTHERS: list[tuple[str, Attack]] = [
    ("shards behind a link", linked_parts),
    ("names that memspan does not give", lambda folder: [
        (directory / name).write_bytes(b"precious")
        for directory in (folder, folder / "parts")
        for name in ("model.safetensors", ".x.tmp", "-rf", "\n", "ü" * 80)
    ]),
    ("folders for shards and temporary files", lambda folder: [
        (folder / "parts" / name).mkdir() for name in ("0" * 32 + ".safetensors", f".{'0' * 32}.safetensors.00000000.tmp")
    ]),
]  # fmt: skip


def cut_character(arrays: dict[str, np.ndarray]) -> None:
    """The first passage ends after one byte, which is half of a letter; all counts fit."""
    table = arrays["passages"]
    table[0, BYTE_END] = table[1, BYTE] = 1
    table[0, CHARACTER_END] = table[1, CHARACTER] = 1


def overlapping(arrays: dict[str, np.ndarray]) -> None:
    """The second passage begins one character before the first one ends; all counts fit."""
    arrays["passages"][1, [CHARACTER, CHARACTER_END]] -= 1


def shifted(arrays: dict[str, np.ndarray], by: int) -> None:
    """All characters of the last source come later than they are."""
    arrays["passages"][-1, [CHARACTER, CHARACTER_END]] += by


HOSTILE: Sequence[tuple[str, Attack]] = [*FILES, *MANIFESTS, *SHARDS, *EXTENSIONS, *RECORDS, *INDEXES, *OTHERS]
