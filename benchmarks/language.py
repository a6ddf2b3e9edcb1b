"""Language modelling on wikitext-2: the part of the gap between a window and full attention that each mechanism closes.

    python -m benchmarks.language                  # every mechanism: about an hour on two cores
    python -m benchmarks.language --only delta ltm

Bytes; two layers of width 128; every layer attends to the last 256 bytes and has the mechanism beside that (ltm and
autoencoder: the last layer only). The inner width of
the feed-forward part makes up for the mechanism's parameters, so that all models have 0.6 million, but for the autoencoder with 1.13 million:
its decoder cannot be made smaller. Every model is trained
on the same bytes in the same order, with the state carried from batch to batch, and measured on text held out that it reads from
the beginning. "full" attends to the last 2,048 bytes. `--jobs` runs that many models at once, each on one core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import report

WINDOW, SEGMENT, SEGMENTS, ROWS, WIDTH, DEPTH = 256, 256, 8, 2, 128, 2
PARAMETERS = 600_000
MODELS: dict[str, list[dict[str, Any]]] = {
    "window": [],
    "full": [],
    "rnn": [{"name": "rnn"}],
    "gru": [{"name": "gru"}],
    "lstm": [{"name": "lstm", "forget_bias": 4.0}],
    "delta": [{"name": "delta", "heads": 2}],
    "ltm": [{"name": "ltm", "segment": 64, "latents": 32, "heads": 2}],
    "neural": [{"name": "neural", "segment": 64}],
    "memory_tokens": [{"name": "memory_tokens", "tokens": 16, "segment": 128}],
    "autoencoder": [{"name": "autoencoder", "rate": 8, "keep": 128, "segment": 64, "hidden": 256}],
    "segment": [],
    "compressed": [],
    "retrieval": [],
}
# Mechanisms over keys and values stand in the place of the window, and see as much of what is near.
IN_PLACE: dict[str, dict[str, Any]] = {
    "window": {"name": "sink_window", "sinks": 0, "window": WINDOW, "block": 32},
    "full": {"name": "sink_window", "sinks": 0, "window": 2048, "block": 32},
    "segment": {"name": "segment", "segment": WINDOW, "memory": 1, "positions": "relative"},
    "compressed": {"name": "compressed", "block": 64, "recent": 3, "rate": 4, "slots": 256},
    "retrieval": {"name": "retrieval", "block": 64, "recent": 3, "top": 4, "limit": 64},
}


LAST_LAYER_ONLY = ("ltm", "autoencoder")  # two would be larger than all the others together


def layers_of(name: str) -> list[list[dict[str, Any]]]:
    near = IN_PLACE.get(name, IN_PLACE["window"])
    first = [near] if name in LAST_LAYER_ONLY else [near, *MODELS[name]]
    return [first] * (DEPTH - 1) + [[near, *MODELS[name]]]


def train_and_measure(name: str, steps: int, seed: int, scratch: Path) -> dict[str, Any]:
    """One model, in this process, on one core."""
    import torch

    torch.set_num_threads(1)
    from memspan.models.scratch import ScratchConfig, ScratchModel
    from memspan.tasks import build
    from memspan.training.config import TrainConfig
    from memspan.training.loop import train
    from memspan.training.measure import measure

    folder = report.needs(report.DATA / "wikitext2")
    with zipfile.ZipFile(folder / "wikitext-2-v1.zip") as opened:
        text = opened.read(next(name for name in opened.namelist() if ".train." in name)).decode()
    # The archive is a re-pack: some lines hold a quotation mark alone, and its test part is the standard validation set.
    kept = [line for line in text.splitlines(keepends=True) if line.strip() != '"']
    (scratch / "train").write_text("".join(kept), "utf-8")
    test = folder / "pytorch_examples" / "test.txt"
    layers = layers_of(name)

    def count(feedforward: float) -> int:
        return sum(
            weight.numel()
            for weight in ScratchModel(ScratchConfig(256, WIDTH, layers, feedforward=feedforward)).parameters()
        )

    single, double = count(1.0), count(2.0)
    feedforward = max(0.25, 1 + (PARAMETERS - single) / (double - single))
    config = TrainConfig.of(
        task="language_modelling",
        task_settings={"segment": SEGMENT, "valid": 0.01},
        data=[str(scratch / "train")],
        layers=layers,
        width=WIDTH,
        feedforward=feedforward,
        segments=SEGMENTS,
        batch_size=ROWS,
        steps=steps,
        learning_rate=3e-3,
        seed=seed,
        device="cpu",
        eval_every=10**6,
    )
    done = train(config)
    task = build("language_modelling", data=[str(test)], segment=SEGMENT, valid=0.99)
    score = measure(done.model, task, SEGMENTS, 8, 12)
    return {
        "bits per byte": score.bits,
        "state bytes": score.state_bytes,
        "parameters": sum(weight.numel() for weight in done.model.parameters()),
        "trained tokens": done.tokens,
        "training tokens/s": done.tokens / done.seconds,
        "cpu seconds": done.seconds,
    }


def table(figures: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name in MODELS:
        if name in figures:
            gap = (
                figures["window"]["bits per byte"] - figures["full"]["bits per byte"]
                if {"window", "full"} <= set(figures)
                else 0.0
            )
            # Where full attention is no better than the window, after so little training, there is no gap to close.
            closed = (figures["window"]["bits per byte"] - figures[name]["bits per byte"]) / gap if gap > 0 else None
            rows.append(
                {
                    "model": name,
                    "bits per byte": figures[name]["bits per byte"],
                    "gap closed": None if closed is None else round(closed, 2),
                    **{key: figures[name][key] for key in ("state bytes", "parameters")},
                    "tokens/s": round(figures[name]["training tokens/s"]),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(MODELS), default=list(MODELS), metavar="MODEL")
    parser.add_argument("--steps", type=int, default=500, help="of 4,096 bytes each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--run", choices=list(MODELS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        with tempfile.TemporaryDirectory() as scratch:
            figures = train_and_measure(options.run, options.steps, options.seed, Path(scratch))
        options.out.write_text(json.dumps(figures), "utf-8")
        return
    earlier = report.newest("language")
    figures = {}
    if earlier is not None:  # models trained as long stay in the table
        figures = {k: v for k, v in earlier["models"].items() if earlier["steps"] == options.steps}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as jobs:

        def measured(name: str) -> Any:
            out = Path(scratch) / f"{name}.json"
            rest = ["--steps", str(options.steps), "--seed", str(options.seed), "--out", str(out)]
            command = [sys.executable, "-m", "benchmarks.language", "--run", name, *rest]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            return json.loads(out.read_text("utf-8"))

        for name, future in {name: jobs.submit(measured, name) for name in options.only}.items():
            figures[name] = future.result()
            print(name, figures[name], flush=True)
            report.save(
                "language", {"steps": options.steps, "models": figures, "table": table(figures)}, seeds=[options.seed]
            )
    report.save("language", {"steps": options.steps, "models": figures, "table": table(figures)}, seeds=[options.seed])
    report.table(table(figures))

    def draw(axes: Any) -> None:
        for row in table(figures):
            axes.scatter(row["state bytes"], row["bits per byte"])
            axes.annotate(row["model"], (row["state bytes"], row["bits per byte"]), fontsize=7)
        axes.set(xscale="log", xlabel="bytes of the state", ylabel="bits per byte, wikitext-2")

    report.plot("language", draw)


if __name__ == "__main__":
    main()
