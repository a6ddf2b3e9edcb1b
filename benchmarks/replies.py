"""The next reply of a dialogue, found among 100: memspan's ranker of replies, its twin without a memory, and TF-IDF.

    python -m benchmarks.replies [--only multiwoz|crosswoz|kdconv] [--seeds N] [--half choosing]

Each figure comes from a run of `memspan train --task dialogue`, which trains on the validation part of a corpus (the training
parts are not among the data) and measures on all replies in its test part; with `--half choosing` it trains on nine tenths of
the validation part and measures on the rest. Each reply is sought among 100, the others from other held-out dialogues. The
twin (`--window 1`) sees the last turn alone, with as many parameters and steps, and the same features. Intervals are 95 %, by
a bootstrap over the dialogues; the spread is the highest less the lowest of the seeds.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks import report

CORPORA = {
    "multiwoz": ("multiwoz21", ("val.json.zip",), ("test.json.zip",)),
    "crosswoz": ("crosswoz_zh", ("val.json.zip",), ("test.json.zip",)),
    "kdconv": (
        "kdconv_zh",
        ("film_dev.json", "music_dev.json", "travel_dev.json"),
        ("film_test.json", "music_test.json", "travel_test.json"),
    ),
}
MODELS: dict[str, list[str]] = {"with a memory": [], "last turn alone": ["--window", "1"]}
ALONE = "network alone"  # without the words that a reply shares with the conversation
METRICS = ("R@10", "R@1", "MRR")


def trained(corpus: str, choosing: bool, options: list[str]) -> dict[str, Any]:
    """The report of one run of `memspan train`."""
    folder, train, test = CORPORA[corpus]
    files = [option for name in train for option in ("--data", str(report.needs(report.DATA / folder / name)))]
    if not choosing:
        paths = [str(report.needs(report.DATA / folder / name)) for name in test]
        files += ["--task-settings", f"test=[{', '.join(paths)}]"]
    arguments = ["--task", "dialogue", "--task-settings", f"format={corpus}", *files, *options, "--json"]
    command = [sys.executable, "-m", "memspan", "train", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_of(corpus: str, runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each model and for its network without shared words, over the seeds, and one for each baseline."""
    rows = []
    for name, reports in runs.items():
        whole = [{"metrics": found["metrics"], "intervals": found["details"]["intervals"]} for found in reports]
        alone = [found["details"]["baselines"][ALONE] for found in reports]
        rows += [_row(corpus, name, whole), _row(corpus, f"{name}, {ALONE}", alone)]
    others = next(iter(runs.values()))[0]["details"]["baselines"]
    return rows + [_row(corpus, name, [other]) for name, other in others.items() if name != ALONE]


def _row(corpus: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The means, the widest intervals and the spreads of the metrics over the seeds."""
    row: dict[str, Any] = {"data": corpus, "model": name}
    for metric in METRICS:
        values = [seed["metrics"][metric] for seed in found]
        low = min(seed["intervals"][metric][0] for seed in found)
        high = max(seed["intervals"][metric][1] for seed in found)
        row |= {metric: sum(values) / len(values), f"{metric} interval": f"{low:.3f} to {high:.3f}"}
        row[f"{metric} spread"] = max(values) - min(values)
    return row


def save(corpus: str, runs: dict[str, list[dict[str, Any]]], seeds: int, half: str) -> None:
    """Write the figures of these seeds, so that a run that is cut short leaves those of the seeds before."""
    first = runs["with a memory"][0]
    figures = {
        "dialogues": first["details"]["dialogues"],
        "replies": first["details"]["questions"],
        "features": first["details"]["features"],
        "weights": first["details"]["settings"]["weights"],
        "seconds": [found["seconds"] for found in runs["with a memory"]],
        "rows": rows_of(corpus, runs),
    }
    suffix = [] if half == "test" else [half]
    report.save("-".join(["replies", corpus, *suffix]), figures, seeds=list(range(seeds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(CORPORA), action="append", help="this corpus alone; may be repeated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    parser.add_argument("options", nargs="*", help="further options of `memspan train`, behind --")
    options = parser.parse_args()
    for corpus in options.only or list(CORPORA):
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in MODELS}
        for seed in range(options.seeds):
            for name, more in MODELS.items():
                found = trained(corpus, options.half == "choosing", ["--seed", str(seed), *more, *options.options])
                runs[name].append(found)
                print(f"{corpus}, {name}, seed {seed}: {found['metrics']}", flush=True)
            save(corpus, runs, seed + 1, options.half)
        report.table(rows_of(corpus, runs))


if __name__ == "__main__":
    main()
