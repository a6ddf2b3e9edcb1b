"""Fuzz targets: the files of a memory folder, damaged, or forged by an enemy who writes every checksum anew."""

import hashlib
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from memspan.memory import EncoderFingerprint, Memory, load_memory
from memspan.memory.index.head_scores import HeadQuery, head_scores
from tests.fuzz.harness import Use
from tests.fuzz.mutations import mutated, mutated_json, text_of
from tests.memory.make import FINGERPRINT, encoded

QUERY = HeadQuery(np.ones((2, 2, 4), np.float32), (0, 1))


def made(folder: Path) -> Path:
    """A memory of two shards with a stored word index."""
    memory = Memory.open(folder / "intact", replace(FINGERPRINT, encoder=EncoderFingerprint("e", "small", 3)))
    optional = {
        "vectors": np.ones((2, 3), np.int8),
        "happened": np.zeros(2),
        "passage_marks": [{"page": 1, "title": "x"}, {"page": 2}],
    }
    memory.append([encoded("one two three four five", added=1.0, meta={"page": 3}, **optional)])
    memory.append([encoded("six seven ü " * 50, source="b", complete=False, added=2.0)])
    memory.word_scores("one")
    return folder / "intact"


def copied(intact: Path) -> Path:
    here = intact.with_name("here")
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(intact, here)
    return here


def use(path: Path) -> None:
    """What commands do with a memory, on a fork that leaves the files alone at the end."""
    memory = load_memory(path)
    json.dumps(memory.inspect(), allow_nan=False)
    for number in range(len(memory)):
        json.dumps(dict(memory.passage(number).marks), allow_nan=False)
        assert memory.ids(number).min(initial=0) >= 0
        memory.neighbours(number, 1, 1)
    assert np.isfinite(memory.word_scores("one seven")).all()
    assert np.isfinite(head_scores(QUERY, list(memory.blocks()))).all()
    fork = memory.fork()
    assert fork.merge(memory) == []
    for source in list(fork.sources)[:2]:
        assert source in fork.forget(source)
    Memory.open(path, FINGERPRINT).append([encoded("nine", source="new")])


def _canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def sign(path: Path, body: Any) -> None:
    """Writes a manifest with a checksum that is right."""
    body = {key: value for key, value in body.items() if key != "sha256"}
    body["sha256"] = hashlib.sha256(_canonical(body)).hexdigest()
    (path / "manifest.json").write_bytes(_canonical(body))


def forge_part(path: Path, content: bytes) -> None:
    """Puts `content` where the first shard was, and its size and checksum into the manifest."""
    body = json.loads((path / "manifest.json").read_bytes())
    entry = body["parts"][0]
    (path / "parts" / f"{entry['name']}.safetensors").write_bytes(content)
    sign(path, {**body, "parts": [{**entry, **_sum(content)}, *body["parts"][1:]]})


def _sum(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def first_part(path: Path) -> bytes:
    name = json.loads((path / "manifest.json").read_bytes())["parts"][0]["name"]
    return (path / "parts" / f"{name}.safetensors").read_bytes()


def manifest_bytes(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    intact = made(folder)

    def run(content: bytes) -> None:
        here = copied(intact)
        (here / "manifest.json").write_bytes(content)
        use(here)

    return mutated((intact / "manifest.json").read_bytes()), run


def manifest_signed(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    intact = made(folder)

    def run(body: Any) -> None:
        here = copied(intact)
        if isinstance(body, dict):
            sign(here, body)
        else:
            (here / "manifest.json").write_bytes(text_of(body))
        use(here)

    return mutated_json(json.loads((intact / "manifest.json").read_bytes())), run


def part_bytes(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    intact = made(folder)

    def run(content: bytes) -> None:
        here = copied(intact)
        forge_part(here, content)
        use(here)

    return mutated(first_part(intact)), run


def part_header(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    intact = made(folder)
    raw = first_part(intact)
    (length,) = struct.unpack_from("<Q", raw)

    def run(header: Any) -> None:
        here, text = copied(intact), text_of(header)
        forge_part(here, struct.pack("<Q", len(text)) + text + raw[8 + length :])
        use(here)

    return mutated_json(json.loads(raw[8 : 8 + length])), run


def part_sources(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """The records of the sources, with the sizes that belong to them."""
    return _part_json(folder, "sources")


def part_marks(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """The marks of the passages, with the sizes that belong to them."""
    return _part_json(folder, "marks")


def _part_json(folder: Path, name: str) -> tuple[st.SearchStrategy[Any], Use]:
    intact = made(folder)
    raw = first_part(intact)
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    first, end = header[name]["data_offsets"]
    data = raw[8 + length :]

    def run(value: Any) -> None:
        here, text = copied(intact), text_of(value)
        entry = {"dtype": "U8", "shape": [len(text)], "data_offsets": [first, first + len(text)]}
        grown = len(text) - (end - first)
        moved = {
            other: {**fields, "data_offsets": [offset + grown for offset in fields["data_offsets"]]}
            for other, fields in header.items()
            if fields["data_offsets"][0] >= end
        }
        new = text_of({**header, **moved, name: entry})
        new += b" " * (-len(new) % 8)
        forge_part(here, struct.pack("<Q", len(new)) + new + data[:first] + text + data[end:])
        use(here)

    return mutated_json(json.loads(data[first:end])), run


def index_stamp(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    intact = made(folder)

    def run(stamp: Any) -> None:
        here = copied(intact)
        (here / "search.json").write_bytes(stamp if isinstance(stamp, bytes) else text_of(stamp))
        use(here)

    raw = (intact / "search.json").read_bytes()
    return mutated_json(json.loads(raw)) | mutated(raw), run


def index_forged(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """A damaged SQLite database under a stamp that is right, wherever its checksum stands."""
    intact = made(folder)
    raw = (intact / "search.sqlite").read_bytes()
    old = _sum(raw)

    def run(content: bytes) -> None:
        here = copied(intact)
        (here / "search.sqlite").write_bytes(content)
        for name in ("search.json", "manifest.json"):
            text = (here / name).read_text()
            text = text.replace(old["sha256"], _sum(content)["sha256"])
            text = text.replace(f'"bytes": {old["bytes"]}', f'"bytes": {len(content)}')
            (here / name).write_text(text)
        sign(here, json.loads((here / "manifest.json").read_bytes()))
        use(here)

    return mutated(raw), run


TARGETS = {
    "manifest_bytes": manifest_bytes,
    "manifest_signed": manifest_signed,
    "part_bytes": part_bytes,
    "part_header": part_header,
    "part_sources": part_sources,
    "part_marks": part_marks,
    "index_stamp": index_stamp,
    "index_forged": index_forged,
}
