"""What each mechanism learns to remember within minutes: accuracy on synthetic tasks, on one core, in CPU time.

    python -m benchmarks.remember                  # every test, three seeds: about two hours on two cores
    python -m benchmarks.remember --only recall-delta capacity --seeds 1

Two layers of width 64 unless stated otherwise: attention within the segment of 32 tokens, then the mechanism, then a feed-forward
part. Training begins with streams of 2 segments and goes on to longer ones as they are mastered. Accuracies are of streams held
out; the median of the seeds counts. `--jobs` runs that many tests at once, each on one core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report

FAR = (5, 16, 64, 256)


@dataclass(frozen=True)
class Test:
    """One model on one task.

    Attributes:
        mechanism, settings, task, task_settings, segments: as in `memspan.training.config.TrainConfig`; so is `rest`.
        seconds: of CPU time for training.
        lengths: segments of the streams measured.
        bars: the least accuracy wanted, by segments; `most` the highest allowed.
    """

    mechanism: str | None
    task: str
    seconds: float
    segments: int = 5
    settings: Mapping[str, Any] = field(default_factory=dict)
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = FAR
    bars: Mapping[int, float] = field(default_factory=dict)
    most: Mapping[int, float] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)


MISALIGNED = {"aligned": False}
KV = {"window": 0}  # mechanisms over keys and values see the current segment themselves
TESTS: dict[str, Test] = {
    "recall-window-only": Test(None, "recall", 10, most=dict.fromkeys(FAR, 0.12)),
    "recall-delta": Test("delta", "recall", 75, bars={5: 0.97, 16: 0.95}),
    "recall-ltm": Test("ltm", "recall", 75, bars={5: 0.97, 16: 0.95}),
    "far-delta": Test("delta", "recall", 220, 12, {}, MISALIGNED, bars={64: 0.90}),
    "far-ltm": Test("ltm", "recall", 220, 12, {}, MISALIGNED, bars={64: 0.90}),
    "recall-retrieval": Test(
        "retrieval", "recall", 150, settings={"block": 32, "top": 4}, bars={5: 0.95, 64: 0.95, 256: 0.95}, rest=KV
    ),
    "overwrites-delta": Test("delta", "overwrites", 100, lengths=(5, 16, 64), bars={5: 0.97}),
    "overwrites-additive": Test("delta", "overwrites", 100, settings={"rule": "additive"}, lengths=(5, 16, 64)),
    "capacity": Test(
        "delta", "capacity", 170, 4, lengths=(2, 4, 8), bars={2: 0.95, 4: 0.90}, rest={"last_layer_only": True}
    ),
    "later-bidirectional": Test("bidirectional", "later_text", 60, lengths=(5, 80), bars={5: 0.97}, rest={"depth": 1}),
    "later-recurrent": Test(
        "gru", "later_text", 60, settings={"hidden": 102}, lengths=(5, 80), most={5: 0.30}, rest={"depth": 1}
    ),
    "recall-lstm-1": Test("lstm", "recall", 60, settings={"forget_bias": 1.0}),
    "recall-lstm-4": Test("lstm", "recall", 60, settings={"forget_bias": 4.0}),
    "recall-segment": Test(
        "segment", "recall", 60, settings={"segment": 32, "memory": 1, "positions": "relative"}, rest=KV
    ),
    "recall-memory_tokens": Test(
        "memory_tokens", "recall", 60, settings={"tokens": 8, "depth": 2}, rest={"depth": 1, **KV}
    ),
    "recall-neural": Test("neural", "recall", 60),
    "recall-compressed": Test("compressed", "recall", 60, settings={"block": 32}, rest=KV),
    "recall-autoencoder": Test("autoencoder", "recall", 60),
    "ablation-ltm": Test("ltm", "recall", 60, 5, {}, MISALIGNED),
    "ablation-causal": Test("ltm", "recall", 60, 5, {"bidirectional": False}, MISALIGNED),
    "ablation-no-autoencoder": Test("ltm", "recall", 60, 5, {"autoencoder": False}, MISALIGNED),
    "ablation-additive": Test("ltm", "recall", 60, 5, {"write": "additive"}, MISALIGNED),
    "ablation-slots": Test("ltm", "recall", 60, 5, {"write": "slots"}, MISALIGNED),
    "ablation-one-layer": Test("ltm", "recall", 60, 5, {}, MISALIGNED, rest={"last_layer_only": True}),
}


def train_and_measure(name: str, seed: int) -> dict[str, Any]:
    """One run of one test, in this process, on one core."""
    import torch

    torch.set_num_threads(1)
    from memspan.mechanisms import window_only
    from memspan.training.build import build_task
    from memspan.training.config import TrainConfig
    from memspan.training.loop import train
    from memspan.training.measure import measure

    test = TESTS[name]
    rest = dict(test.rest)
    model: dict[str, Any] = {"mechanism": test.mechanism, "mechanism_settings": test.settings}
    if rest.pop("last_layer_only", False):
        window = window_only(32)
        model = {"layers": [[window], [window, {"name": test.mechanism, **test.settings}]]}
    config = TrainConfig.of(
        **{
            "task": test.task,
            "task_settings": test.task_settings,
            "segments": test.segments,
            "curriculum": min(2, test.segments),
            "seconds": test.seconds,
            "learning_rate": 3e-3,
            "feedforward": 2.0,
            "seed": seed,
            "device": "cpu",
            "eval_every": 10**6,
            **model,
            **rest,
        }
    )
    report = train(config)
    task = build_task(config)
    scores = [measure(report.model, task, length, 64, 4 if length < 100 else 1) for length in test.lengths]
    return {
        "accuracy": {score.segments: score.accuracy for score in scores},
        "state bytes": {score.segments: score.state_bytes for score in scores},
        "parameters": sum(weight.numel() for weight in report.model.parameters()),
        "steps": report.step,
        "cpu seconds": report.seconds,
        "reached segments": report.history[-1]["segments"],
    }


def run(name: str, seeds: int, folder: Path, jobs: Any) -> Any:
    """Starts the runs of a test; a function that waits for them and returns its figures."""

    def measured(seed: int) -> dict[str, Any]:
        out = folder / f"{name}-{seed}.json"
        command = [sys.executable, "-m", "benchmarks.remember", "--run", name, "--seed", str(seed), "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        figures: dict[str, Any] = json.loads(out.read_text("utf-8"))
        return figures

    started = [jobs.submit(measured, seed) for seed in range(seeds)]
    return lambda: [future.result() for future in started]


def verdict(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    test = TESTS[name]
    keys = [str(length) for length in test.lengths]
    median = {key: statistics.median(run["accuracy"][key] for run in runs) for key in keys}
    met = all(median[str(length)] >= least for length, least in test.bars.items())
    met = met and all(median[str(length)] <= most for length, most in test.most.items())
    return {
        "median": median,
        "bars": {
            **{str(k): f">= {v}" for k, v in test.bars.items()},
            **{str(k): f"<= {v}" for k, v in test.most.items()},
        },
        "met": met if test.bars or test.most else None,
        "state bytes": runs[0]["state bytes"],
        "parameters": runs[0]["parameters"],
        "cpu seconds": statistics.median(run["cpu seconds"] for run in runs),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(TESTS), default=list(TESTS), metavar="TEST")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--run", choices=list(TESTS), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        options.out.write_text(json.dumps(train_and_measure(options.run, options.seed)), "utf-8")
        return

    earlier = report.newest("remember")
    figures: dict[str, Any] = {} if earlier is None else {k: v for k, v in earlier.items() if k in TESTS}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as jobs:
        waiting = {name: run(name, options.seeds, Path(scratch), jobs) for name in options.only}
        for name, wait in waiting.items():
            figures[name] = verdict(name, wait())
            print(name, figures[name]["median"], "met" if figures[name]["met"] else figures[name]["bars"], flush=True)
            report.save(
                "remember", {known: figures[known] for known in TESTS if known in figures}, seeds=range(options.seeds)
            )  # nothing is lost
    report.table([row(name, figures[name]) for name in TESTS if name in figures])

    def draw(axes: Any) -> None:
        shown = [name for name in figures if TESTS[name].task == "recall" and name.startswith(("recall", "far"))]
        shown.sort(key=lambda name: -sum(figures[name]["median"].values()))
        for index, name in enumerate(shown):
            median = figures[name]["median"]
            axes.plot(
                [int(length) for length in median],
                list(median.values()),
                marker="osD^v"[index % 5],
                color=f"C{index % 10}",
                ls="-" if index < 10 else "--",
                label=name.removeprefix("recall-").replace("far-", "at any distance: "),
            )
        axes.set(xscale="log", xlabel="segments of 32 tokens", ylabel="right values of 4 facts", ylim=(-0.03, 1.03))
        axes.set_xticks(FAR, [str(length) for length in FAR])
        axes.minorticks_off()
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))

    report.plot("remember", draw)


def row(name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "test": name,
        "accuracy by segments": "  ".join(f"{key}: {value:.3f}" for key, value in shown["median"].items()),
        "state bytes": list(shown["state bytes"].values())[-1],
        "parameters": shown["parameters"],
        "cpu s": round(shown["cpu seconds"]),
        "bar": {True: "met", False: "NOT met", None: ""}[shown["met"]],
    }


if __name__ == "__main__":
    main()
