"""`memspan read --update` of a folder of many files of which one has changed: time, commits, and what else differs.

    python -m benchmarks.updated_folder [--files 10000]

A tiny random model reads the folder. Then nothing, one file, and the absence of one (`--prune`) are updated. "Other sources
that differ" compares text, token ids, keys, scales and passages, the time added and the checksum of every source but the
one that changed; "files changed in place" are files of the memory's shards with other bytes under the same name.
"""

import argparse
import contextlib
import hashlib
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from memspan import load_memory
from memspan.cli import run
from memspan.memory import Memory

CHANGED = "The boat is red now.\n"


def contents(memory: Memory) -> dict[str, list[str]]:
    """A hash of all that the memory holds of each source."""
    hashes: dict[str, list[str]] = {}
    blocks = list(memory.blocks())
    for block in blocks:
        starts = [0, *block.ends[:-1].tolist()]
        for row, (start, end) in enumerate(zip(starts, block.ends.tolist(), strict=True)):
            number = block.first + row
            passage = memory.passage(number)
            digest = hashlib.sha256()
            digest.update(
                f"{passage.text}{passage.start}{passage.added}{memory.sources[passage.source].sha256}".encode()
            )
            digest.update(memory.ids(number).tobytes())
            digest.update(block.keys[start:end].tobytes() + block.scales[start:end].tobytes())
            hashes.setdefault(passage.source, []).append(digest.hexdigest())
    return hashes


def files(folder: Path) -> dict[str, str]:
    """The checksum of each file of the memory's shards."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.safetensors")}


def read(*arguments: str) -> float:
    """The seconds of a `memspan read` of the folder."""
    begun = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        code = run(["read", "notes", "--into", "notes.mem", *arguments])
    if code:
        raise SystemExit(errors.getvalue())
    return time.perf_counter() - begun


def updated(what: str, whole: float, apart: set[str], *arguments: str) -> dict[str, Any]:
    """The row of one update; `apart` are the sources that may differ."""
    folder = Path("notes.mem")
    before, shards, generation = contents(load_memory(folder)), files(folder), load_memory(folder).generation
    seconds = read("--update", *arguments)
    memory = load_memory(folder)
    after, left = contents(memory), files(folder)
    return {
        "update": what,
        "seconds": seconds,
        "over reading all": seconds / whole,
        "commits": memory.generation - generation,
        "other sources that differ": sum(before.get(name) != after.get(name) for name in before.keys() - apart),
        "files changed in place": sum(shards[name] != left[name] for name in shards.keys() & left.keys()),
    }


def main() -> None:
    """Run, print, write the result."""
    from tests.tiny import save_tiny_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    count = parser.parse_args().files
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        os.environ |= {"MEMSPAN_CACHE": f"{root}/cache", "XDG_STATE_HOME": f"{root}/state", "MEMSPAN_ENCODER": "none"}
        model = save_tiny_model(Path(root) / "model")
        notes = Path("notes")
        notes.mkdir()
        for number in range(count):
            text = (
                f"The boat {number} lay in row {number * 7 % 101} until the keeper counted {number * 13 % 997} lamps.\n"
            )
            (notes / f"{number:05d}.md").write_text(text, "utf-8")
        time.sleep(2.5)  # a file that is as new as its reading is opened again by the next one
        whole = read("--model", str(model))
        one, gone = notes / f"{count // 2:05d}.md", notes / "00007.md"
        rows = [updated("nothing changed", whole, set())]
        one.write_text(CHANGED, "utf-8")
        rows.append(updated("one file changed", whole, {str(one)}))
        gone.unlink()
        rows.append(updated("one file gone, --prune", whole, {str(gone)}, "--prune"))
        os.chdir(here)
    report.table(
        [
            {key: f"{value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()}
            for row in rows
        ]
    )
    report.save("updated-folder", {"files": count, "seconds of reading all": whole, "rows": rows}, seeds=[])


if __name__ == "__main__":
    main()
