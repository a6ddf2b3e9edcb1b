"""Kills training at random moments, resumes it until it ends, and compares the weights with those of an undisturbed run.

Each run is a small one in which everything matters that a checkpoint holds: streams that go on, dropout, averaged weights, a
curriculum and elastic weight consolidation. Before and after every kill a reader opens `best` and `last`. A run is killed
again and again, by SIGKILL, SIGTERM or SIGHUP, until it ends by itself; then the next one begins, until there were enough
kills. Processes are forked from one that has loaded torch already, so that a start takes a fraction of a second.

    python -m benchmarks.killed_training --kills 50
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.report import save, table
from memspan.models.folders import find, verify
from memspan.models.saved import open_model
from memspan.training.config import TrainConfig
from memspan.training.loop import train

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)


def text(path: Path, seed: int) -> str:
    path.write_bytes(bytes(random.Random(seed).choices(range(97, 123), k=4000)))
    return str(path)


def config(folder: Path, output: Path | None, seed: int) -> TrainConfig:
    """A run of a few seconds, with a checkpoint every other step."""
    fields: dict[str, Any] = {
        "task": "language_modelling", "task_settings": {"segment": 8}, "data": [text(folder / "second.txt", 2)],
        "segments": 3, "curriculum": 2, "curriculum_accuracy": 0.0, "mechanism": "delta", "width": 16, "depth": 1,
        "batch_size": 2, "bptt_segments": 1, "dropout": 0.1, "ema_decay": 0.9, "init_from": str(folder / "first" / "best"),
        "ewc": 10.0, "replay": 0.25, "steps": 40, "eval_every": 2, "seed": seed, "device": "cpu",
        "output": None if output is None else str(output),
    }  # fmt: skip
    return TrainConfig.of(**fields)


def work(run: TrainConfig) -> None:
    """The body of a process that is going to be killed."""
    torch.set_num_threads(1)
    for name in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(name, signal.SIG_DFL)
    train(run, resume=True)


def read(output: Path, seen: Counter[str]) -> None:
    """Counts what a reader meets: `best` missing although it was there once, folders that are not whole."""
    for name in ("best", "last"):
        folder = find(output / name)
        if folder is None:
            seen[f"{name} missing"] += seen[f"{name} read"] > 0
            continue
        seen[f"{name} under its own name"] += folder.name == name
        try:
            open_model(output / name)
            if name == "last":
                verify(folder)
            seen[f"{name} read"] += 1
        except Exception as error:
            seen[f"{name} unreadable: {type(error).__name__}"] += 1


class Reader(threading.Thread):
    """Opens `best` again and again while the run writes it; counts what goes wrong."""

    def __init__(self, output: Path) -> None:
        super().__init__(daemon=True)
        self.output, self.done, self.seen = output, threading.Event(), Counter[str]()

    def run(self) -> None:
        begun = False
        while not self.done.wait(0.01):
            if not begun and find(self.output / "best") is None:
                continue
            begun = True
            try:
                open_model(self.output / "best")
                self.seen["read while it ran"] += 1
            except Exception as error:
                self.seen[f"not read while it ran: {type(error).__name__}: {error}"] += 1


def killed_run(run: TrainConfig, draw: random.Random, seconds: float, most: int) -> tuple[Counter[str], int]:
    """Starts and kills a run until it ends by itself, at the latest after `most` kills; what was seen, and the kills."""
    output, kills, seen = Path(str(run.run.output)), 0, Counter[str]()
    context = multiprocessing.get_context("fork")
    while True:
        process = context.Process(target=work, args=(run,))
        process.start()
        reader = Reader(output)
        reader.start()
        if kills < most:
            process.join(draw.uniform(0.02, seconds))
        else:
            process.join()
        ended = process.exitcode is not None
        if not ended:
            which = draw.choice(SIGNALS)
            os.kill(process.pid or 0, which)
            process.join()
            kills += 1
            seen[f"killed by {which.name}"] += 1
        elif process.exitcode != 0:
            seen[f"exit code {process.exitcode}"] += 1
        reader.done.set()
        reader.join()
        seen.update(reader.seen)
        read(output, seen)
        if ended:
            return seen, kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="kills in all")
    parser.add_argument(
        "--per-run", type=int, default=12, metavar="N", help="kills of a run, which then goes to its end"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the moments and signals")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw, total, kills, equal, runs = random.Random(options.seed), Counter[str](), 0, 0, 0
    folder = Path(tempfile.mkdtemp(prefix="killed-training-"))
    first = config(folder, folder / "first", 0).replace(
        data=[text(folder / "first.txt", 1)], init_from=None, ewc=0.0, replay=0.0, steps=4, output=str(folder / "first")
    )
    train(first)
    started = time.perf_counter()
    train(config(folder, folder / "whole", 1))
    seconds = time.perf_counter() - started
    whole = load_file(folder / "whole" / "last" / "model.safetensors")
    best = load_file(folder / "whole" / "best" / "model.safetensors")
    while kills < options.kills:
        output = folder / f"killed {runs}"
        seen, count = killed_run(
            config(folder, output, 1), draw, seconds / 2, min(options.per_run, options.kills - kills)
        )
        total, kills, runs = total + seen, kills + count, runs + 1
        pairs = ((whole, output / "last"), (best, output / "best"))
        equal += all(
            all(torch.equal(weight, load_file(path / "model.safetensors")[name]) for name, weight in weights.items())
            for weights, path in pairs
        )
        leftovers = [path.name for path in output.iterdir() if path.name.startswith(".")]
        total["folders left behind at the end"] += len(leftovers)
        print(f"{kills} kills, {equal} of {runs} runs with the weights of the undisturbed one", flush=True)
    figures = {"kills": kills, "runs": runs, "equal": equal, "seconds_of_a_run": seconds, **dict(sorted(total.items()))}
    table([{"figure": name, "value": value} for name, value in figures.items()])
    shutil.rmtree(folder)
    save("killed-training", figures, seeds=[options.seed])
    bad = {name for name in total if "unreadable" in name or "missing" in name or "exit" in name or "not read" in name}
    if equal < runs or any(total[name] for name in bad):
        raise SystemExit("A killed run lost something.")


if __name__ == "__main__":
    main()
