"""Recommendation on MovieLens: the fitted recommender beside popularity, item-kNN, BPR, and itself without a memory.

    python -m benchmarks.recommendation            # three dates: five minutes on one core

Each row is one run of `memspan train --task recommendation`: what happened before a date is trained on, up to ten later events
of each user are predicted. Nothing in the fit is random, so dates take the place of seeds: the newest tenth, fifth and three
tenths of all events are held out.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks import report

DATA = report.DATA / "movielens_latest_small"
HELD_OUT = (0.1, 0.2, 0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=float, nargs="*", default=HELD_OUT, metavar="SHARE")
    options = parser.parse_args()
    report.needs(DATA)
    found: dict[str, Any] = {}
    for share in options.held_out:
        words = [
            "train",
            "--task",
            "recommendation",
            "--data",
            str(DATA),
            "--task-settings",
            f"held_out={share}",
            "--json",
        ]
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "memspan", *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr.strip()[-2000:])
        result = json.loads(done.stdout)
        shown = " ".join(word.replace(str(DATA), "ml-latest-small") for word in words)
        found[str(share)] = {
            "command": f"memspan {shown}",
            "seconds": time.perf_counter() - begun,
            **{name: result[name] for name in ("metrics", "details")},
            "CPU seconds of the fit": result["seconds"],
        }
        report.save("recommendation", {"dates": found, "table": table(found)}, seeds=[])
        report.table(table(found))


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for share, result in found.items():
        details = result["details"]
        low, high = details["intervals"]["NDCG@10"]
        others = {name: round(other["metrics"]["NDCG@10"], 4) for name, other in details["baselines"].items()}
        rows.append(
            {
                "held out": share,
                "events predicted": details["texts"]["held out"],
                "of users": details["users"]["held out"],
                "NDCG@10": round(result["metrics"]["NDCG@10"], 4),
                "95 % interval": f"{low:.3f} to {high:.3f}",
                **others,
                "ahead of the best other by": "{:+.3f} to {:+.3f}".format(
                    *details["gain intervals"][max(others, key=lambda name: others[name])]
                ),
            }
        )
    return rows


if __name__ == "__main__":
    main()
