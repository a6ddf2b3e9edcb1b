"""Memories of other models and of other format versions are refused."""

import dataclasses
import re
from pathlib import Path

import pytest

from memspan.errors import DamagedMemory, ForeignMemory
from memspan.memory import FORMAT_VERSION, Fingerprint, Memory, load_memory
from memspan.memory.store.manifest import DIGITS, parse, render
from tests.memory.make import FINGERPRINT, contents_of, encoded

OTHERS = {
    "model": "c" * 64,
    "tokenizer": "c" * 64,
    "dtype": "bfloat16",
    "heads": ((1, 0), (3, 1)),
    "head_size": 8,
}


def in_message(value: object) -> str:
    """A value as a message shows it: the beginning of a hash, or the whole."""
    return str(value)[:DIGITS] if len(str(value)) == 64 else str(value)


@pytest.mark.parametrize("field", OTHERS)
def test_a_memory_of_another_model_is_refused(quick_path: Path, field: str) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one")])
    before = contents_of(memory)
    foreign = dataclasses.replace(FINGERPRINT, **{field: OTHERS[field]})
    for use in (
        lambda: load_memory(quick_path / "m", expect=foreign),
        lambda: Memory.open(quick_path / "m", foreign),
        lambda: memory.check_fingerprint(foreign),
        lambda: memory.merge(Memory(foreign)),
        lambda: Memory(foreign).merge(memory),
    ):
        with pytest.raises(ForeignMemory, match=field) as caught:
            use()
        assert in_message(OTHERS[field]) in str(caught.value)
        assert in_message(getattr(FINGERPRINT, field)) in str(caught.value)
        assert not re.search(r"[0-9a-f]{13}", str(caught.value))
        assert caught.value.exit_code == 2
    assert contents_of(load_memory(quick_path / "m", expect=FINGERPRINT)) == before


def test_another_memory_in_the_same_place_is_not_taken_for_this_one(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one")])
    (quick_path / "m").rename(quick_path / "away")
    other = Memory.open(quick_path / "m", dataclasses.replace(FINGERPRINT, model="c" * 64))
    for use in (memory.refresh, lambda: memory.append([encoded("two", source="b")])):
        with pytest.raises(ForeignMemory, match="model"):
            use()
    assert len(other) == len(load_memory(quick_path / "m")) == 0
    assert memory.passage(0).text == "one"


def test_every_field_but_the_name_is_compared(quick_path: Path) -> None:
    assert {field.name for field in dataclasses.fields(Fingerprint)} == {
        *OTHERS,
        "name",
        "sample",
        "encoder",
        "latents",
    }
    Memory.open(quick_path / "m", FINGERPRINT)
    renamed = dataclasses.replace(FINGERPRINT, name="other")
    assert load_memory(quick_path / "m", expect=renamed).fingerprint.name == "tiny"


def test_another_format_version_is_refused(quick_path: Path) -> None:
    Memory.open(quick_path / "m", FINGERPRINT)
    path = quick_path / "m" / "manifest.json"
    path.write_bytes(render(dataclasses.replace(parse(path.read_bytes(), path), version=99)))
    with pytest.raises(
        ForeignMemory, match=f"format version 99, but this memspan reads versions up to {FORMAT_VERSION}"
    ):
        load_memory(quick_path / "m")
    path.write_bytes(path.read_bytes().replace(b"99", b"98"))
    with pytest.raises(DamagedMemory):
        load_memory(quick_path / "m")
