"""Every task on real data, with a memory and without, from three seeds.

    python -m benchmarks.tasks                          # all: about an hour on one core
    python -m benchmarks.tasks --only dialogue --seeds 1

Each row is one run of `memspan compare` with the options below: as many parameters, as much CPU time; without a memory the model
sees the current window alone. Data: see docs/tasks.md. "clear" says that the memory is better by more than the metric
spreads over the seeds of either.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks import report
from benchmarks.summary import newest

DATA = report.DATA
OPTIONS: dict[str, list[str]] = {
    "language_modelling": [
        *("--data", str(DATA / "wikitext2" / "pytorch_examples" / "valid.txt"), "--task-settings", "segment=64"),
        *("--mechanism", "delta", "--segments", "16", "--rows", "4", "--seconds", "60", "--learning-rate", "3e-3"),
    ],
    "classification": [
        *("--data", str(DATA / "nltk_sentiment" / "movie_reviews.zip"), "--task-settings", "format=labelled_folders"),
        *("--task-settings", "held_out=0.2", "--mechanism", "delta", "--segments", "16", "--rows", "8"),
        *("--seconds", "90", "--dropout", "0.2"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(OPTIONS), default=list(OPTIONS), metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    report.needs(DATA)
    earlier = newest("tasks")
    found: dict[str, Any] = {} if earlier is None else dict(earlier[1]["tasks"])
    for name in options.only:
        words = ["compare", "--task", name, *OPTIONS[name], "--seeds", str(options.seeds), "--limit", "400", "--json"]
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "memspan", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip()[-2000:]}")
        told = json.loads(done.stdout)
        shown = " ".join(word.replace(str(DATA), "../shared/data") for word in words)
        found[name] = {"command": f"memspan {shown}", "seconds": time.perf_counter() - begun, **told}
        report.save("tasks", {"tasks": found})
        print(name, [(one["name"], one["mean"], one["spread"]) for one in told["contenders"]], flush=True)
    report.table(table(found))


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, told in found.items():
        memory, none = told["contenders"]
        rows.append(
            {
                "task": name,
                "metric": told["metric"],
                "mechanism": memory["name"],
                "memory": round(memory["mean"], 4),
                "none": round(none["mean"], 4),
                "spread": round(max(memory["spread"], none["spread"]), 4),
                "clear": told["clear"],
                "best baseline": round(_best(told), 4) if told["baselines"] else "",
                "memory bytes": memory["state_bytes"],
            }
        )
    return rows


def _best(told: dict[str, Any]) -> float:
    return float((min if told["lower_is_better"] else max)(told["baselines"].values()))


if __name__ == "__main__":
    main()
