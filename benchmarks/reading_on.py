"""Language modelling with a pretrained model: a text longer than its window, read with a memory and without.

    python -m benchmarks.reading_on                # three books, three memories: minutes on a GPU, half an hour on two cores

Each row is one run of `memspan compare --task language_modelling --model smollm2`: bits per byte of three stretches of a book,
each of 15 windows of 512 tokens behind a first one. The settings of the mechanisms let them see 512 recent tokens. They were
chosen on another book, with windows of 256 tokens.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks import report

BOOKS = {"Moby Dick": "pg2701.txt", "Oliver Twist": "pg730.txt", "Frankenstein": "pg84.txt"}
WINDOW, WINDOWS, SEEDS = 512, 15, 3
MEMORIES: dict[str, dict[str, int]] = {
    "sink_window": {"sinks": 4, "window": 512, "block": 32},
    "retrieval": {"block": 32, "recent": 15, "top": 4},
    "compressed": {"block": 32, "recent": 15, "rate": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(MEMORIES), default=list(MEMORIES), metavar="MECHANISM")
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()
    folder = report.needs(report.DATA / "gutenberg_en")
    found: dict[str, Any] = {}
    for name in options.only:
        for book, file in BOOKS.items():
            words = [
                *("compare", "--task", "language_modelling", "--model", options.model, "--precision", "auto"),
                *("--data", str(folder / file), "--task-settings", "segment=128", "--task-settings", "valid=0.5"),
                *(
                    "--mechanism",
                    name,
                    "--budget",
                    str(WINDOW),
                    "--limit",
                    str(WINDOWS),
                    "--seeds",
                    str(SEEDS),
                    "--json",
                ),
            ]
            for setting, value in MEMORIES[name].items():
                words += ["--mechanism-settings", f"{setting}={value}"]
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "memspan", *words], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr.strip()[-2000:])
            shown = " ".join(word.replace(str(folder / file), "book.txt") for word in words)
            found[f"{name}, {book}"] = {
                "command": f"memspan {shown}",
                "seconds": time.perf_counter() - begun,
                **json.loads(done.stdout),
            }
            report.save("reading-on", {"runs": found, "table": table(found)}, seeds=range(SEEDS))
    report.table(table(found))


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, result in found.items():
        memory, alone, sliding = result["contenders"]
        rows.append(
            {
                "memory, book": name,
                "with it": round(memory["mean"], 3),
                "window alone": round(alone["mean"], 3),
                "sliding window": round(sliding["mean"], 3),
                "lzma": round(min(result["baselines"].values()), 3),
                "stretches better than the sliding window": sum(
                    mine["bits"] < other["bits"]
                    for mine, other in zip(memory["figures"], sliding["figures"], strict=True)
                ),
                "state": memory["state_bytes"],
            }
        )
    return rows


if __name__ == "__main__":
    main()
