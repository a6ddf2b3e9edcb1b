"""The benchmark of accelerators runs to its end, also on a CPU."""

import argparse
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.report import DATA
from memspan.mechanisms import MECHANISMS


def test_it_measures_every_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "ROWS", 2)
    monkeypatch.setattr(gpu, "LENGTH", 64)
    rows = gpu.mechanisms("cpu", gpu.Timer("cpu"))
    assert [row["mechanism"] for row in rows] == sorted(MECHANISMS)
    assert all(row["tokens/s"] > 0 and row["bfloat16 error"] < 0.02 for row in rows)


@pytest.mark.skipif(not (DATA / "gutenberg_en" / "pg1184.txt").exists(), reason="needs the novel")
def test_it_measures_reading_and_asking(tiny_model: Path) -> None:
    options = argparse.Namespace(
        model=str(tiny_model), device="cpu", tokens=600, questions=1, memory={"sinks": 4, "window": 256, "block": 128}
    )
    figures = {}
    for part in gpu.read_and_ask(options, {"": "cpu"}, gpu.Timer("cpu")):
        figures |= part
    assert figures["tokens"] == 600
    assert figures["questions"] == 1
    assert all(figures[name] > 0 for name in figures if " over " in name)
