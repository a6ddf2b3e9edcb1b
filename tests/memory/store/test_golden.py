"""A memory that format version 1 wrote stays readable.

The folder was written once by `write` below. If this test fails, the format has changed: raise FORMAT_VERSION, keep
reading version 1, and put a new golden folder beside the old one.
"""

import json
import shutil
from pathlib import Path

from memspan.memory import FORMAT_VERSION, Memory, load_memory
from memspan.memory.store.manifest import parse, render
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores

GOLDEN = Path(__file__).parent / "golden_v1"


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


def write() -> None:
    """How the golden folder came to be."""
    golden().save(GOLDEN)
    (GOLDEN / "lock").unlink()


def test_a_memory_of_format_version_1_can_be_read_searched_and_extended(tmp_path: Path) -> None:
    assert FORMAT_VERSION == 1
    shutil.copytree(GOLDEN, tmp_path / "m")
    memory = load_memory(tmp_path / "m", expect=FINGERPRINT)
    assert contents_of(memory) == contents_of(golden())
    assert memory.passage(3).text == "part two 🙂"
    assert memory.generation == 3
    assert word_scores(memory, ["hello"]) == word_scores(golden(), ["hello"])
    memory.append([encoded("more", source="more")])
    assert list(load_memory(tmp_path / "m").sources) == ["first.txt", "second.txt", "chat/1", "more"]


def test_what_is_written_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """But for random names: the shards, and the fields of the manifest."""

    def written(path: Path) -> tuple[list[bytes], dict]:
        manifest = json.loads((path / "manifest.json").read_bytes())
        shards = [(path / "parts" / f"{entry['name']}.safetensors").read_bytes() for entry in manifest["parts"]]
        entries = [{name: value for name, value in entry.items() if name != "name"} for entry in manifest["parts"]]
        return shards, {**manifest, "parts": entries, "lineage": None, "sha256": None}

    golden().save(tmp_path / "m")
    assert written(tmp_path / "m") == written(GOLDEN)
    raw = (GOLDEN / "manifest.json").read_bytes()
    assert render(parse(raw, GOLDEN / "manifest.json")) == raw
