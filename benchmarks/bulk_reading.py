"""`memspan read --ray`: workers of a local Ray against a single process, in time and byte for byte.

    python -m benchmarks.bulk_reading [--tokens 6000] [--rounds 3] [--workers 2] [--model smollm2]

A book in files of about 1,000 tokens is read into a new memory: by a process with a single thread, by workers with a thread
each, and by a process with as many threads as there are workers, in turn. The workers are started, and have read a file, before
the clock runs. The files of all memories are compared, and what a search finds in them.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.report import DATA, needs

CHARACTERS = 4000  # of a file, about 1,000 tokens
QUESTION = "Who was waiting for the ship in the harbour?"


def texts(tokens: int, folder: Path) -> list[Path]:
    """Files with so many tokens of a book, about."""
    book = needs(DATA / "gutenberg_en" / "pg1184.txt").read_text("utf-8")
    paths = []
    for number in range(-(-4 * tokens // CHARACTERS)):
        paths.append(folder / f"{number:04d}.txt")
        paths[-1].write_text(book[number * CHARACTERS : (number + 1) * CHARACTERS], "utf-8")
    return paths


def parts(folder: Path) -> list[bytes]:
    """The files of a memory with its passages, in their order."""
    from memspan.memory.store.folder import Folder

    return [(folder / "parts" / f"{entry.name}.safetensors").read_bytes() for entry in Folder(folder).manifest().shards]


def main() -> None:
    """Run, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    os.environ |= {"RAY_worker_niceness": "0"}  # by default other work on the machine goes first

    import torch

    import memspan
    from memspan.assistant.ray_encoders import RayEncoders

    lm = memspan.load_model(options.model)
    with tempfile.TemporaryDirectory() as scratch, RayEncoders(lm, options.workers, threads=1) as encoders:
        documents = named(texts(options.tokens, Path(scratch)))
        begun = time.perf_counter()
        encoders.start()
        start = time.perf_counter() - begun

        def by_one(threads: int, memory: memspan.Memory, documents: list[tuple[str, Any]]) -> Iterator[Any]:
            torch.set_num_threads(threads)
            for name, document in documents:
                yield partial(lm.read, document, memory, source=name)

        ways = {
            "a process with 1 thread": partial(by_one, 1),
            f"{options.workers} workers with 1 thread": encoders.reads,
            f"a process with {options.workers} threads": partial(by_one, options.workers),
        }
        for reads in ways.values():
            timed(reads, lm.new_memory(), documents[: 2 * options.workers])  # all warm
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        memories: dict[str, memspan.Memory] = {}
        for number in range(options.rounds):
            for way, reads in ways.items():
                memories[way] = lm.new_memory(Path(scratch) / f"{number} {way}")
                seconds[way].append(timed(reads, memories[way], documents))
            print({way: round(times[-1], 2) for way, times in seconds.items()}, flush=True)
        first, *_ = memories.values()
        alone, expected, found = next(iter(seconds.values())), parts(first.path), lm.search(first, QUESTION)
        rows = [
            {
                "way": way,
                "documents": len(documents),
                "tokens": memory.tokens,
                "seconds": statistics.median(seconds[way]),
                "tokens/s": memory.tokens / statistics.median(seconds[way]),
                "over a process": statistics.median(a / b for a, b in zip(alone, seconds[way], strict=True)),
                "same bytes": parts(memory.path) == expected,
                "same search": lm.search(memory, QUESTION) == found,
            }
            for way, memory in memories.items()
        ]
    report.table(rows)
    print(f"Starting Ray and loading the model in {options.workers} workers: {start:.1f} s")
    report.save("bulk-reading", {"rows": rows, "seconds": seconds, "seconds to start": start}, seeds=[])


def named(paths: list[Path]) -> list[tuple[str, Any]]:
    """The documents in files with their names, all added at the same time: a memory holds when that was."""
    from dataclasses import replace

    from memspan.data.documents import open_documents

    return [(path.name, replace(document, added=1.8e9)) for path in paths for document in open_documents([path])]


def timed(reads: Any, memory: Any, documents: list[tuple[str, Any]]) -> float:
    """The seconds in which documents are read."""
    begun = time.perf_counter()
    for read in reads(memory, documents):
        read()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
