"""Accuracy on a first task after training on a second one: plain, with replay, with elastic weight consolidation.

    python -m benchmarks.forgetting        # a minute and a half on one core

BANKING77 (Casanueva et al. 2020): eight intents are learned first, then eight others, by one model whose vocabulary has
the labels of all. Figures are accuracies on the test set, on each part by itself; no model knows of which part a text is.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from memspan.tasks import TASKS, DataSource
from memspan.tasks.text.classification import Classification
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.report import Report

FIRST = {"steps": 500, "learning_rate": 3e-3}
SECOND = {"steps": 250, "learning_rate": 2e-3}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rehearsal, a tenth": {"replay": 0.1},
    "rehearsal, a quarter": {"replay": 0.25},
    **{f"ewc {weight:.0e}": {"ewc": weight} for weight in (1e4, 1e6)},
}


class Part(Classification):
    """Every tenth intent of BANKING77, from the one numbered `part` on."""

    def __init__(self, part: int = 0, saved: str | None = None) -> None:
        folder = report.needs(report.DATA / "banking77")
        files = {"data": str(folder / "train.csv"), "test": str(folder / "test.csv")}
        source = DataSource(**files, rename={"category": "label"})
        super().__init__(source, segment=32, vocabulary=2000, saved=saved)
        kept = set(self.labels[part::10])
        self.records = [record for record in self.records if record["label"] in kept]
        self.held_out_records = [record for record in self.held_out_records if record["label"] in kept]


def accuracy(done: Report, part: int, saved: str) -> float:
    return Part(part, saved).score(done.model, 1, limit=None)["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    TASKS["banking_part"] = Part
    with tempfile.TemporaryDirectory() as scratch:
        shape = {"task": "banking_part", "mechanism": "delta", "width": 64, "depth": 1, "segments": 1, "dropout": 0.1}
        common = {**shape, "batch_size": 16, "eval_every": 10**6, "device": "cpu", "seed": options.seed}
        folder = Path(scratch) / "first"
        done = train(TrainConfig.of(**common, **FIRST, output=str(folder)))
        begin = str(folder / "last")
        rows = [_row("after the first", done, begin)]
        print(rows[-1], flush=True)
        for name, changes in WAYS.items():
            done = train(TrainConfig.of(**common, **SECOND, task_settings={"part": 1}, init_from=begin, **changes))
            rows.append(_row(f"then the second, {name}", done, begin))
            print(rows[-1], flush=True)
    report.table(rows)
    report.save("forgetting", {"first": FIRST, "second": SECOND, "table": rows}, seeds=[options.seed])


def _row(name: str, done: Report, begin: str) -> dict[str, Any]:
    first, second = (accuracy(done, part, begin) for part in (0, 1))
    return {"model": name, "first part": first, "second part": second, "cpu seconds": round(done.seconds, 1)}


if __name__ == "__main__":
    main()
