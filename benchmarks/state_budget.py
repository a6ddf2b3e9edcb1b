"""Every mechanism at one budget of state bytes and weights, on the synthetic tasks: what `memspan compare --state-bytes` prints.

    python -m benchmarks.state_budget [--tasks mqar recall ...] [--state-bytes 70000] [--seconds 30] [--seeds 1]
    python -m benchmarks.state_budget --short      # MQAR of four pairs and recall, 120 s each, side by side on two cores

Two layers of width 64, 300,000 weights, streams of 2 segments of 32 tokens, `--seconds` of CPU time on one core for each mechanism;
accuracy on held-out streams of 64, 256 and 1,024 tokens. A result file for each task, so that tasks can run side by side.
With `--short` each of the 11 mechanisms that fit trains for 120 s on each of two tasks, and is built and measured in 3 s: 23 minutes on
two idle cores.
"""

import argparse
import subprocess
import sys
from dataclasses import asdict

import torch

from benchmarks import report
from memspan.evaluation.state_budget import Budget, compare_at_budget
from memspan.training.config import TrainConfig

TASKS = ("recall", "mqar", "induction", "selective_copying", "overwrites", "parity", "permutations", "listops")
LENGTHS = (2, 8, 32)
SHORT, SHORT_SECONDS = ("mqar", "recall"), 120
PAIRS = 4  # of MQAR in the short run


def short(state_bytes: int, seeds: int) -> None:
    """Both tasks of the short run at once, each in a process of its own."""
    options = ["--state-bytes", str(state_bytes), "--seconds", str(SHORT_SECONDS), "--seeds", str(seeds)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.state_budget", "--tasks", task, "--pairs", str(PAIRS), *options]
        )
        for task in SHORT
    ]
    sys.exit(max(process.wait() for process in running))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--state-bytes", type=int, default=70_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=8, help="of MQAR")
    parser.add_argument("--short", action="store_true", help="two tasks side by side, within half an hour on two cores")
    options = parser.parse_args()
    if options.short:
        short(options.state_bytes, options.seeds)
        return
    torch.set_num_threads(1)
    seeds = range(options.seeds)
    for task in options.tasks:
        config = TrainConfig.of(
            task=task,
            task_settings={"pairs": options.pairs} if task == "mqar" else {},
            segments=2,
            seconds=options.seconds,
            learning_rate=3e-3,
            feedforward=2.0,
            device="cpu",
        )
        compared = compare_at_budget(
            config, Budget(options.state_bytes), [task], LENGTHS, seeds, note=lambda line: print(line, flush=True)
        )
        outcomes = compared.of(task)
        report.table(
            [
                {
                    "mechanism": outcome.mechanism,
                    **{f"at {length}": value for length, value in outcome.accuracy.items()},
                    "state bytes": max(outcome.state_bytes.values()),
                    "tokens/s": round(outcome.training_speed),
                    "steps": outcome.steps,
                }
                for outcome in outcomes
            ]
        )
        figures = {
            "budget": asdict(compared.budget),
            "seconds": options.seconds,
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "left out": compared.left_out[task],
        }
        report.save(f"state-budget-{task}", figures, seeds=seeds)


if __name__ == "__main__":
    main()
