"""A memory that an older format version wrote stays readable.

The folders were written once by `write` below. If this test fails, the format has changed: raise FORMAT_VERSION, keep
reading the older ones, and put a new golden folder beside the old one.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memspan.memory import (
    FORMAT_VERSION,
    EncoderFingerprint,
    LatentsFingerprint,
    Memory,
    PassageLatents,
    load_memory,
)
from memspan.memory.store.manifest import parse, render
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores

GOLDEN = Path(__file__).parent / "golden_v1"
GOLDEN_2 = Path(__file__).parent / "golden_v2"
GOLDEN_3 = Path(__file__).parent / "golden_v3"


def golden() -> Memory:
    """The same memory, made anew."""
    memory = Memory(FINGERPRINT)
    memory.append([encoded("the first document, in full", source="first.txt", added=1700000000.25)])
    memory.append([encoded("第二 part one ", source="second.txt", complete=False, added=1700000001.0)])
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    memory.append(
        [
            encoded("part two 🙂", source="second.txt", start=12, added=1700000002.0),
            encoded("hi hello", source="chat/1", kind="exchange", added=1700000003.0, meta={"turns": turns}),
        ]
    )
    return memory


def golden_2() -> Memory:
    """A memory with vectors, times and marks, made anew."""
    memory = Memory(replace(FINGERPRINT, encoder=EncoderFingerprint("e" * 64, "small", 3)))
    memory.append([encoded("no vector, no mark", source="plain.txt", added=1700000000.0)])
    memory.append(
        [
            encoded(
                "one two three four",
                source="marked.txt",
                added=1700000001.0,
                vectors=np.array([[1, -2, 3], [127, 0, -127]], np.int8),
                happened=np.array([-1e9, np.nan]),
                passage_marks=[
                    {"heading": "Überschrift", "page": 1},
                    {"heading": "Überschrift", "page": 2, "part": 0.5},
                ],
            )
        ]
    )
    return memory


def golden_3() -> Memory:
    """A memory with latents, made anew: two tokens share one."""
    memory = Memory(replace(FINGERPRINT, latents=LatentsFingerprint("c" * 64, "small", 4, 2)))
    memory.append([encoded("no latents here", source="plain.txt", added=1700000000.0)])
    latents = PassageLatents(np.array([2, 1], np.int32), np.arange(-6, 6, dtype=np.int8).reshape(3, 4))
    memory.append([encoded("one two three four", source="latent.txt", added=1700000001.0, latents=latents)])
    return memory


def write() -> None:
    """How the golden folders came to be."""
    for memory, path in ((golden(), GOLDEN), (golden_2(), GOLDEN_2), (golden_3(), GOLDEN_3)):
        memory.save(path)
        (path / "lock").unlink()


def test_a_memory_of_format_version_1_can_be_read_searched_and_extended(tmp_path: Path) -> None:
    assert FORMAT_VERSION == 3
    shutil.copytree(GOLDEN, tmp_path / "m")
    memory = load_memory(tmp_path / "m", expect=FINGERPRINT)
    assert contents_of(memory) == contents_of(golden())
    assert memory.passage(3).text == "part two 🙂"
    assert memory.generation == 3
    assert word_scores(memory, ["hello"]) == word_scores(golden(), ["hello"])
    memory.append([encoded("more", source="more")])
    assert list(load_memory(tmp_path / "m").sources) == ["first.txt", "second.txt", "chat/1", "more"]


def test_a_memory_of_format_version_2_can_be_read_and_extended(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN_2, tmp_path / "m")
    memory = load_memory(tmp_path / "m", expect=FINGERPRINT)
    assert contents_of(memory) == contents_of(golden_2())
    passage = memory.passage(3)
    assert (passage.marks, passage.happened) == ({"heading": "Überschrift", "page": 2, "part": 0.5}, None)
    memory.append([encoded("more", source="more", vectors=np.ones((1, 3), np.int8))])
    assert [block.vectors is not None for block in load_memory(tmp_path / "m").blocks()][-1]


def test_a_memory_of_format_version_3_can_be_read_and_extended(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN_3, tmp_path / "m")
    memory = load_memory(tmp_path / "m", expect=FINGERPRINT)
    assert contents_of(memory) == contents_of(golden_3())
    assert contents_of(memory)["latents"] == [None, [[-6, -5, -4, -3], [-2, -1, 0, 1]], [[2, 3, 4, 5]]]
    memory.append([encoded("more", source="more")])
    assert contents_of(load_memory(tmp_path / "m"))["latents"][1:] == [*contents_of(golden_3())["latents"][1:], None]


@pytest.mark.parametrize(("make", "golden_path"), [(golden, GOLDEN), (golden_2, GOLDEN_2), (golden_3, GOLDEN_3)])
def test_what_is_written_is_the_same_to_the_byte(make: Callable[[], Memory], golden_path: Path, tmp_path: Path) -> None:
    """But for random names: the shards, and the fields of the manifest."""

    def written(path: Path) -> tuple[list[bytes], dict]:
        manifest = json.loads((path / "manifest.json").read_bytes())
        shards = [(path / "parts" / f"{entry['name']}.safetensors").read_bytes() for entry in manifest["parts"]]
        entries = [{name: value for name, value in entry.items() if name != "name"} for entry in manifest["parts"]]
        return shards, {**manifest, "parts": entries, "lineage": None, "sha256": None}

    make().save(tmp_path / "m")
    assert written(tmp_path / "m") == written(golden_path)
    raw = (golden_path / "manifest.json").read_bytes()
    assert render(parse(raw, golden_path / "manifest.json")) == raw
