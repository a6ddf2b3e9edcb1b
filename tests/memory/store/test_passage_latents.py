"""Latents of passages: stored with the passages that have them, through every change of a memory."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspan.errors import ForeignMemory, UsageError
from memspan.memory import EncodedText, LatentsFingerprint, Memory, PassageLatents, load_memory
from memspan.memory.store.kept import kept_texts
from memspan.memory.union import united
from tests.memory.hostile import latent, manifest_of, sign_manifest
from tests.memory.hostile import prepare as prepare_hostile
from tests.memory.make import FINGERPRINT, encoded

MADE_BY = LatentsFingerprint("c" * 64, "small", 3, 2)  # one for each two tokens; passages have three tokens, or fewer
WITH_LATENTS = replace(FINGERPRINT, latents=MADE_BY)


def latents_for(passages: int, first: int = 1) -> PassageLatents:
    """Two latents for each passage but the last, which has one."""
    counts = np.array([2] * (passages - 1) + [1], np.int32)
    numbers = (np.arange(3 * counts.sum()) + first) % 120
    return PassageLatents(counts, numbers.astype(np.int8).reshape(-1, 3))


def full(source: str, passages: int = 3, **fields: Any) -> EncodedText:
    """A text with latents for every passage."""
    text = ("one two three " * passages).rsplit(" ", 2)[0]
    first = sum(map(ord, source))
    return encoded(text, source=source, added=1.0, **{"latents": latents_for(passages, first), **fields})


def latents_of(memory: Memory) -> list[list[list[int]] | None]:
    """Those of all passages in order."""
    found = [memory.latents(number) for number in range(len(memory))]
    return [None if latents is None else latents.tolist() for latents in found]


def of(text: EncodedText) -> list[list[list[int]] | None]:
    """Those of the passages of a text."""
    if text.latents is None:
        return [None] * len(text.passages)
    return [text.latents.at(row).tolist() for row in range(len(text.passages))]


def test_they_come_back_with_their_passages(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "m", WITH_LATENTS)
    texts = [full("a"), encoded("one two", source="b"), full("c", 1)]
    memory.append(texts)
    expected = [*of(texts[0]), None, *of(texts[2])]
    assert len(expected) == 5
    assert latents_of(memory) == expected
    opened = load_memory(tmp_path / "m", expect=FINGERPRINT)
    assert latents_of(opened) == expected
    assert opened.fingerprint.latents == MADE_BY
    assert latents_of(opened.fork()) == latents_of(opened.fork(tmp_path / "fork")) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=24), st.data())
def test_what_is_joined_and_forgotten_leaves_those_of_the_others(are_full: list[bool], data: st.DataObject) -> None:
    memory, texts = Memory(WITH_LATENTS), {}
    for number, is_full in enumerate(are_full):
        texts[f"s{number}"] = full(f"s{number}", 1 + number % 3) if is_full else encoded("a b", source=f"s{number}")
        memory.append([texts[f"s{number}"]])
    gone = data.draw(st.sets(st.sampled_from(sorted(texts))))
    for name in gone:
        memory.forget(name)
    assert latents_of(memory) == [row for name, text in texts.items() if name not in gone for row in of(text)]


def test_a_whole_is_what_its_parts_are() -> None:
    whole, parts = Memory(WITH_LATENTS), Memory(WITH_LATENTS)
    text = full("a")
    whole.append([text])
    for part in kept_texts(whole.snapshot, [0, 1], 0):
        parts.append([part])
    for part in kept_texts(whole.snapshot, [2], len(whole.passage(0).text + whole.passage(1).text)):
        parts.append([part])
    assert latents_of(parts) == latents_of(whole) == of(text)


def test_a_text_in_the_position_of_another_keeps_the_others(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "m", WITH_LATENTS)
    before, after, new = full("a"), full("c", 2), full("b", 2)
    memory.append([before, full("b"), after])
    memory.replace(["b"], [new], in_position=True)
    assert latents_of(memory) == latents_of(load_memory(tmp_path / "m")) == [*of(before), *of(new), *of(after)]


@pytest.mark.parametrize(
    "made_by", [None, replace(MADE_BY, identity="f" * 64), replace(MADE_BY, size=4), replace(MADE_BY, rate=3)]
)
def test_those_of_another_trained_memory_are_left_out_of_a_merge(made_by: LatentsFingerprint | None) -> None:
    memory, other = Memory(replace(FINGERPRINT, latents=made_by)), Memory(WITH_LATENTS)
    other.append([full("a")])
    memory.merge(other)
    assert latents_of(memory) == [None] * 3
    assert [united([memory, other]).latents(number) for number in range(6)] == [None] * 6
    same = Memory(replace(FINGERPRINT, latents=replace(MADE_BY, name="elsewhere")))
    same.append([encoded("a b", source="first")])
    same.merge(other)
    assert latents_of(same) == [None, *latents_of(other)]
    both = united([same, other])
    assert [both.latents(number) is None for number in range(len(both))] == [True, *[False] * 6]


def test_a_folder_is_of_version_3_only_with_them(tmp_path: Path) -> None:
    for fingerprint, version in ((FINGERPRINT, 1), (WITH_LATENTS, 3)):
        memory = Memory.open(tmp_path / str(version), fingerprint)
        memory.append([encoded("one two", source="a")])
        assert memory.inspect()["format"] == version


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """As the memspan before this one refuses version 3."""
    Memory(WITH_LATENTS).save(tmp_path / "m")
    sign_manifest(tmp_path / "m", {**manifest_of(tmp_path / "m"), "format": 4})
    with pytest.raises(ForeignMemory, match="format version 4, but this memspan reads versions up to 3"):
        load_memory(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda right: PassageLatents(right.counts[:2], right.latents), "wrong shape"),
        (lambda right: PassageLatents(right.counts, right.latents[1:]), "do not belong"),
        (lambda right: PassageLatents(right.counts, right.latents[:, :2]), r"int8 \(C, 3\)"),
        (lambda right: PassageLatents(right.counts, right.latents.astype(np.int16)), r"int8 \(C, 3\)"),
        (lambda right: PassageLatents(right.counts.astype(np.int64), right.latents), r"int8 \(C, 3\)"),
        (lambda right: PassageLatents(right.counts[::-1].copy(), right.latents), "one for each 2 tokens"),
    ],
)
def test_what_a_memory_cannot_hold_is_refused(change: Callable[[PassageLatents], PassageLatents], match: str) -> None:
    memory = Memory(WITH_LATENTS)
    with pytest.raises(UsageError, match=match):
        memory.append([full("a", latents=change(latents_for(3)))])
    assert len(memory) == 0
    with pytest.raises(UsageError, match="names no trained memory"):
        Memory(FINGERPRINT).append([full("a")])


def test_what_an_enemy_changes_is_whole_before(tmp_path: Path) -> None:
    """The latents that the attacks of `hostile` start from can be read: each refusal is that of what was changed."""
    prepare_hostile(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    latent(lambda arrays: None)(tmp_path / "n")
    memory = load_memory(tmp_path / "n")
    assert json.loads((tmp_path / "n" / "manifest.json").read_bytes())["format"] == 3
    assert [None if rows is None else len(rows) for rows in latents_of(memory)] == [2, 1, 1, None]
