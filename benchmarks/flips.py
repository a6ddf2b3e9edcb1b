"""What happens when a byte of a stored file changes: every kind of file that memspan writes, or reads beside a memory.

    python -m benchmarks.flips --flips 1000          # minutes on one core; exit code 1 if a change went unnoticed

Folders are made with tiny models. Each trial damages one file (a flipped bit, an exponent bit of a weight, a cut, bytes
behind the end, a block of zeros, another file of the same kind, no file), keeps its size and times where it can, and uses
the folder as its owner would: load and search a memory, predict, resume a run, load a model and ask. The result is

    refused   a MemspanError; nothing of the folder is used
    warned    a warning that names the file
    equal     exactly what the undamaged folder gives, since the file is a cache that is made anew, or is not read
    SILENT    something else, without a word: a failure
    UNTYPED   another exception: a failure
    SLOW      more than ten seconds of processor time: a failure
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.stored import SUBJECTS, Subject, cache_in
from memspan.errors import MemspanError

LIMIT = 10.0  # seconds of processor time for one use
SPARE = 4 * 2**30  # bytes of address space that a use may take
FAILURES = ("SILENT", "UNTYPED", "SLOW")
RESULTS = ("refused", "warned", "equal", *FAILURES)


# ---- damage


def flip(content: bytes, rng: random.Random, other: bytes) -> bytes:
    bit = rng.randrange(8 * len(content))
    return _with_flipped(content, bit)


def _with_flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


_EXPONENTS = {"F32": (4, 23, 31), "BF16": (2, 7, 15), "F16": (2, 10, 15)}  # bytes, first and end bit of the exponent


def exponent(content: bytes, rng: random.Random, other: bytes) -> bytes:
    """A bit in the exponent of one number of a safetensors file."""
    (length,) = struct.unpack_from("<Q", content)
    entries = [entry for entry in json.loads(content[8 : 8 + length]).values() if entry.get("dtype") in _EXPONENTS]
    entry = rng.choice([entry for entry in entries if entry["data_offsets"][0] < entry["data_offsets"][1]])
    width, low, end = _EXPONENTS[entry["dtype"]]
    first, last = entry["data_offsets"]
    number = rng.randrange((last - first) // width)
    return _with_flipped(content, 8 * (8 + length + first + number * width) + rng.randrange(low, end))


def cut(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def append(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return content + rng.randbytes(rng.choice([1, 8, 64, 4096])) if rng.random() < 0.7 else content + b"\n"


def zeros(content: bytes, rng: random.Random, other: bytes) -> bytes:
    size = min(len(content), rng.choice([1, 16, 512, 4096]))
    first = rng.randrange(len(content) - size + 1)
    return content[:first] + bytes(size) + content[first + size :]


def swap(content: bytes, rng: random.Random, other: bytes) -> bytes:
    return other


DAMAGES = (flip, flip, exponent, exponent, cut, append, zeros, swap)


def kind_of(path: Path) -> str:
    """The path of a file without what is drawn by chance."""
    return re.sub(r"[0-9a-f]{16,}", "*", path.as_posix())


def files_of(subject: Subject, folder: Path) -> dict[str, list[Path]]:
    """The files to damage, by kind."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if not re.match(subject.unused, name.as_posix()):
            kinds.setdefault(kind_of(name), []).append(name)
    return kinds


# ---- trials


@dataclass
class Prepared:
    """A subject with its folder as it was written, its twin of another seed, and what the use gives."""

    subject: Subject
    here: Path
    intact: Path
    kinds: dict[str, list[Path]]
    others: dict[str, list[bytes]]
    expected: Any


def prepare(subject: Subject, work: Path) -> Prepared:
    base = work / re.sub(r"\W+", "-", subject.name)
    here, intact, others = base / "here", base / "intact", {}
    for seed in (1, 0):  # the last is the one that is used
        here.mkdir(parents=True)
        with cache_in(work), quiet():
            subject.make(here, seed)
        kinds = files_of(subject, here)
        contents = {kind: [(here / path).read_bytes() for path in paths] for kind, paths in kinds.items()}
        others = {kind: others.get(kind, []) + contents[kind] for kind in contents}
        if seed:
            shutil.rmtree(here)
    shutil.copytree(here, intact)
    with cache_in(work), quiet():
        expected = value(subject.use(here))
        reset(here, intact)
        again = value(subject.use(here))
    assert expected == again, f"{subject.name}: two uses of an undamaged folder differ"
    return Prepared(subject, here, intact, files_of(subject, intact), others, expected)


def value(seen: Any) -> str:
    return json.dumps(seen, default=str)


def reset(here: Path, intact: Path) -> None:
    shutil.rmtree(here)
    shutil.copytree(intact, here)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block that prints nothing."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def damage(prepared: Prepared, kind: str, rng: random.Random) -> tuple[Path, str]:
    """Damages a file of this kind in place; returns its path and what was done."""
    path = prepared.here / rng.choice(prepared.kinds[kind])
    content, status = path.read_bytes(), path.stat()
    if (
        content and path.name != "unfinished" and rng.random() < 1 / 16
    ):  # removing that mark is how a memory is finished
        path.unlink()
        return path, "removed"
    others = [other for other in prepared.others[kind] if other != content]
    unfit = [] if others else [swap]
    unfit += [] if path.suffix == ".safetensors" else [exponent]
    possible = [function for function in DAMAGES if function not in unfit] if content else [append]
    changed = content
    while changed == content:  # zeros may replace zeros
        apply = rng.choice(possible)
        changed = apply(content, rng, rng.choice(others) if others else b"")
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path, apply.__name__


def trial(prepared: Prepared, kind: str, seed: int) -> dict[str, Any]:
    """One damage and one use."""
    reset(prepared.here, prepared.intact)
    path, done = damage(prepared, kind, random.Random(seed))
    result, detail, begun = "equal", "", time.process_time()
    with warnings.catch_warnings(record=True) as caught, quiet():
        warnings.simplefilter("always")
        try:
            seen = value(prepared.subject.use(prepared.here))
            warned = any(path.name in str(warning.message) for warning in caught)
            if seen != prepared.expected:
                result = "warned" if warned else "SILENT"
                expected = json.loads(prepared.expected)
                detail = " | ".join(
                    f"{str(new)[:60]} instead of {str(old)[:60]}"
                    for new, old in zip(json.loads(seen), expected, strict=False)
                    if new != old
                )
        except MemspanError as error:
            result, detail = "refused", f"{type(error).__name__}: {error}"
        except Exception as error:  # what this program is looking for
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if "memspan/" in frame.filename]
            result = "UNTYPED"
            detail = f"{type(error).__name__}: {str(error)[:150]} ({ours[-1].name if ours else '?'})"
    if time.process_time() - begun > LIMIT:
        result, detail = "SLOW", f"{time.process_time() - begun:.0f} s; {detail}"
    return {
        "subject": prepared.subject.name,
        "file": kind,
        "damage": done,
        "seed": seed,
        "result": result,
        "detail": detail.replace(str(prepared.here), "")[:400],
    }


def limit_memory() -> None:
    """A use that asks for gigabytes fails instead of taking the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE,) * 2)


def main() -> int:
    """Prints a table by kind of file, and every failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flips", type=int, default=1000, help="trials")
    parser.add_argument("--seed", type=int, default=0, help="of the damages")
    parser.add_argument("--only", default="", help="subjects whose name contains this text")
    parser.add_argument("--save", action="store_true", help="write a dated result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    subjects = [subject for subject in SUBJECTS if options.only in subject.name]
    trials = []
    with tempfile.TemporaryDirectory(prefix="flips-") as work:
        prepared = [prepare(subject, Path(work)) for subject in subjects]
        targets = [(item, kind) for item in prepared for kind in item.kinds]
        limit_memory()
        begun = time.perf_counter()
        for number in range(options.flips):
            item, kind = targets[number % len(targets)]
            trials.append(trial(item, kind, options.seed * 1_000_003 + number))
            if trials[-1]["result"] in FAILURES:
                print(json.dumps(trials[-1], ensure_ascii=False), flush=True)
        seconds = time.perf_counter() - begun
    rows = table(trials)
    report.table(rows)
    failures = [entry for entry in trials if entry["result"] in FAILURES]
    print(f"{len(trials)} damages in {seconds:.0f} s: {len(failures)} failures")
    if options.save:
        errors = Counter(entry["detail"].split(":")[0] for entry in trials if entry["result"] == "refused")
        figures = {
            "trials": len(trials),
            "seconds": round(seconds),
            "kinds": rows,
            "errors": errors,
            "failures": failures,
        }
        report.save("flips", figures, seeds=[options.seed])
    return 1 if failures else 0


def table(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each kind of file, and one for all."""
    rows = []
    for subject, file in dict.fromkeys((entry["subject"], entry["file"]) for entry in trials):
        of_kind = [entry for entry in trials if (entry["subject"], entry["file"]) == (subject, file)]
        counts = Counter(entry["result"] for entry in of_kind)
        rows.append({"of": subject, "file": file, "damages": len(of_kind), **{name: counts[name] for name in RESULTS}})
    counts = Counter(entry["result"] for entry in trials)
    return [*rows, {"of": "all", "file": "", "damages": len(trials), **{name: counts[name] for name in RESULTS}}]


if __name__ == "__main__":
    sys.exit(main())
