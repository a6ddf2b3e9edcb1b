"""`memspan export` and `import` as a user runs them."""

import json
from pathlib import Path

from tests.commands import Run, snapshot
from tests.tiny import save_tiny_model


def test_a_memory_goes_to_another_model(run: Run, library: Path, tmp_path: Path) -> None:
    written = run("export", "library", "all.jsonl")
    assert written.code == 0
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    assert f"Wrote {len(records)} passage" in written.out
    assert run("export", "library", "-").out == (tmp_path / "all.jsonl").read_text("utf-8")
    other = str(save_tiny_model(tmp_path / "other", seed=1))
    read = run("import", "all.jsonl", "copy", "--model", other)
    assert read.code == 0, read.err
    texts = [[fields[1] for fields in snapshot(tmp_path / name)] for name in ("library", "copy")]
    assert texts[0] == texts[1]
    again = run("import", "all.jsonl", "copy")
    assert again.out.startswith("Read 0 sources. copy holds")


def test_what_cannot_be_written_or_read(run: Run, library: Path, tmp_path: Path) -> None:
    assert "cannot be written" in run("export", "library", "nowhere/all.jsonl").sentence
    assert "no memory at" in run("export", "missing", "all.jsonl").sentence
    assert not (tmp_path / "all.jsonl").exists()
    assert "There is no file missing.jsonl" in run("import", "missing.jsonl", "copy").sentence
    (tmp_path / "bad.jsonl").write_text("{}\n", "utf-8")
    assert "Line 1 is not a passage" in run("import", "bad.jsonl", "library").sentence
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "must be UTF-8 text" in run("import", "bytes.jsonl", "library").sentence
