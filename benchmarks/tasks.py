"""Every task on real data, with a memory and without, from three seeds.

    python -m benchmarks.tasks                          # all: about an hour and a half on one core
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

DATA = report.DATA
SUPPORT = DATA / "bitext_support"
OPTIONS: dict[str, list[str]] = {
    "language_modelling": [
        *("--data", str(DATA / "wikitext2" / "pytorch_examples" / "valid.txt"), "--task-settings", "segment=16"),
        *("--mechanism", "rnn", "--segments", "32", "--batch-size", "8", "--seconds", "40", "--learning-rate", "3e-3"),
    ],
    "classification": [  # the window of 8 tokens is shorter than a request
        *("--data", str(SUPPORT / "Bitext_Sample_Customer_Service_Training_Dataset.csv")),
        *("--task-settings", f"test={SUPPORT / 'Bitext_Sample_Customer_Service_Testing_Dataset.csv'}"),
        *("--task-settings", "rename={utterance: text, intent: label}", "--task-settings", "segment=8"),
        *("--segments", "4", "--mechanism", "delta", "--seconds", "45"),
    ],
    "question_answering": [
        *("--data", str(DATA / "squad11_dev" / "dev-v1.1.json.zip"), "--task-settings", "format=squad"),
        *("--task-settings", "held_out=0.5", "--model", "smollm2", "--precision", "auto", "--shots", "2"),
    ],
    "dialogue": [
        *("--data", str(DATA / "multiwoz21" / "val.json.zip"), "--data", str(DATA / "multiwoz21" / "test.json.zip")),
        *("--task-settings", "format=multiwoz", "--task-settings", "segment=32", "--task-settings", "vocabulary=2048"),
        *(
            "--mechanism",
            "delta",
            "--segments",
            "16",
            "--batch-size",
            "8",
            "--learning-rate",
            "3e-3",
            "--seconds",
            "60",
        ),
    ],
    "summarisation": [
        *("--data", str(DATA / "qmsum" / "ALL_val.jsonl"), "--task-settings", "format=qmsum", "--model", "smollm2"),
        *("--task-settings", "held_out=0.3", "--precision", "auto", "--documents", "3"),
    ],
    "translation": [
        *("--data", str(DATA / "tatoeba_cmn_eng" / "cmn_2019.txt"), "--task-settings", "format=tatoeba"),
        *("--task-settings", "vocabulary=2048", "--task-settings", "segment=8", "--segments", "8"),
        *("--mechanism", "delta", "--batch-size", "64", "--learning-rate", "4e-3", "--seconds", "60"),
    ],
    "recommendation": [
        *("--data", str(DATA / "movielens_latest_small"), "--task-settings", "format=movielens"),
        *(
            "--task-settings",
            "min_item_events=5",
            "--task-settings",
            "target_segments=1",
            "--task-settings",
            "segment=32",
        ),
        *("--task-settings", "vocabulary=300", "--segments", "4", "--depth", "1", "--dropout", "0.2"),
        *("--learning-rate", "0.01", "--mechanism", "gru", "--window", "0", "--seconds", "60"),
    ],
}
LIMITS = {"question_answering": 40, "summarisation": 8, "recommendation": 671}  # records measured on; 200 elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(OPTIONS), default=list(OPTIONS), metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    report.needs(DATA)
    earlier = report.newest("tasks")
    found: dict[str, Any] = {} if earlier is None else dict(earlier["tasks"])
    for name in options.only:
        words = [
            "compare",
            "--task",
            name,
            *OPTIONS[name],
            "--seeds",
            str(options.seeds),
            "--limit",
            str(LIMITS.get(name, 200)),
            "--json",
        ]
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "memspan", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip()[-2000:]}")
        result = json.loads(done.stdout)
        shown = " ".join(word.replace(str(DATA), "../shared/data") for word in words)
        found[name] = {"command": f"memspan {shown}", "seconds": time.perf_counter() - begun, **result}
        report.save("tasks", {"tasks": found}, seeds=range(options.seeds))
        print(name, [(each["name"], each["mean"], each["spread"]) for each in result["contenders"]], flush=True)
    report.table(table(found))


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, result in found.items():
        memory, none = result["contenders"]
        rows.append(
            {
                "task": name,
                "metric": result["metric"],
                "mechanism": memory["name"],
                "memory": round(memory["mean"], 4),
                "none": round(none["mean"], 4),
                "spread": round(max(memory["spread"], none["spread"]), 4),
                "clear": result["clear"],
                "best baseline": round(_best(result), 4) if result["baselines"] else "",
                "memory bytes": memory["state_bytes"],
            }
        )
    return rows


def _best(result: dict[str, Any]) -> float:
    return float((min if result["lower_is_better"] else max)(result["baselines"].values()))


if __name__ == "__main__":
    main()
