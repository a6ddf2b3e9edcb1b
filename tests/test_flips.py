"""The program that damages stored files sees what nobody else does: a folder that is used although it was changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from benchmarks import flips
from benchmarks.stored import Subject
from memspan.errors import DamagedFolder
from memspan.models.folders import verify, write_checksums


def make(folder: Path, seed: int) -> None:
    (folder / "note.json").write_text(json.dumps({"seed": seed, "text": "so it was written"}))
    write_checksums(folder)


def careless(folder: Path) -> Any:
    return (folder / "note.json").read_bytes().decode("latin-1")


def careful(folder: Path) -> Any:
    verify(folder)
    return careless(folder)


def clumsy(folder: Path) -> Any:
    try:
        return careful(folder)
    except DamagedFolder as error:
        raise ValueError("what is this?") from error


@pytest.mark.parametrize(("use", "result"), [(careless, "SILENT"), (careful, "refused"), (clumsy, "UNTYPED")])
def test_what_a_damage_comes_to(use: Any, result: str, tmp_path: Path) -> None:
    prepared = flips.prepare(Subject("note", make, use, "checksums"), tmp_path)
    trials = [flips.trial(prepared, "note.json", seed) for seed in range(24)]
    present = [trial for trial in trials if trial["damage"] != "removed"]
    assert {trial["result"] for trial in present} == {result}
    assert {"flip", "cut", "append", "zeros", "swap"} <= {trial["damage"] for trial in trials}
    assert flips.trial(prepared, "note.json", 3) == trials[3]  # a trial can be repeated


def test_an_exponent_changes_one_number_by_far(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save

    content = save({"a": torch.ones(50), "b": torch.arange(3)})
    for seed in range(20):
        (tmp_path / "a.safetensors").write_bytes(flips.exponent(content, flips.random.Random(seed), b""))
        with safe_open(tmp_path / "a.safetensors", "pt") as file:
            changed = file.get_tensor("a")
            assert torch.equal(file.get_tensor("b"), torch.arange(3))
        (number,) = changed[changed != 1]
        assert number >= 2 or number <= 0.5
