"""Calibrations of a model as files: what is written is read, and nothing else."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memspan.errors import MemspanError
from memspan.memory.index.calibration import RetrievalHeads
from memspan.pretrained.calibrations import Calibration


@dataclass(frozen=True)
class Width(Calibration):
    kind = "width"

    passages: int
    shares: tuple[float, ...]

    @classmethod
    def parse(cls, record: Any) -> "Width":
        return cls(int(record["passages"]), tuple(record["shares"]))


@dataclass(frozen=True)
class Depth(Width):
    kind = "depth"


WIDTH = Width(4, (0.5, 1.0))


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(path.read_text("utf-8"))
    change(record)
    path.write_text(json.dumps(record), "utf-8")


def test_a_calibration_is_read_for_its_model_only(tmp_path: Path) -> None:
    WIDTH.save(tmp_path / "width.json", "a model")
    assert Width.load(tmp_path / "width.json", "a model") == Width.load(tmp_path / "width.json") == WIDTH
    assert Width.load(tmp_path / "width.json", "another") is None
    assert Width.load(tmp_path / "none.json", "a model") is None
    assert [path.name for path in tmp_path.iterdir()] == ["width.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(passages=5),
        lambda record: record.update(model="b model"),
        lambda record: record.pop("kind"),
        lambda record: record.pop("sha256"),
        lambda record: record.update(more=1),
        lambda record: [record.pop(name) for name in ("kind", "model", "sha256")],
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    WIDTH.save(tmp_path / "width.json", "a model")
    changed(tmp_path / "width.json", change)
    with pytest.raises(MemspanError, match=r"width\.json is damaged \(.*\); delete it"):
        Width.load(tmp_path / "width.json", "a model")


@pytest.mark.parametrize("content", ["", "[]", "3", "null", '{"a": ' * 5000, "\udcff", '{"passages": NaN}'])
def test_any_other_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "width.json").write_text(content, "utf-8", errors="surrogateescape")
    with pytest.raises(MemspanError, match="is damaged"):
        Width.load(tmp_path / "width.json")


def test_one_kind_is_not_taken_for_another(tmp_path: Path) -> None:
    WIDTH.save(tmp_path / "depth.json")
    with pytest.raises(MemspanError, match="not one of the depth"):
        Depth.load(tmp_path / "depth.json")


def test_heads_of_older_versions_are_read(tmp_path: Path) -> None:
    """Files without the name of a kind, written with and without model and checksum."""
    path = tmp_path / "heads.json"
    heads = RetrievalHeads(((2, 2), (9, 13)), 0.75, 0.5)
    record = {"heads": [[2, 2], [9, 13]], "reciprocal_rank": 0.75, "first": 0.5}
    path.write_text(json.dumps(record), "utf-8")
    assert RetrievalHeads.load(path, "a model") == heads
    checksum = "dc0bf73c24e7870a0f9e336b08e9fdedfe3628b12f5ecf5a4163b40fa60ba39b"
    path.write_text(json.dumps({**record, "model": "a model", "sha256": checksum}), "utf-8")
    assert RetrievalHeads.load(path, "a model") == heads
    assert RetrievalHeads.load(path, "another") is None
