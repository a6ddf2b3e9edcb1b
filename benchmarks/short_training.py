"""Trained memories of a language model after the same short training: slots for 4, 8 and 16 tokens, and a matrix of fixed size.

    python -m benchmarks.trained_memory --prepare FOLDER      # train.txt, choosing.txt and test.txt, once
    python -m benchmarks.short_training --data FOLDER [--steps 40] [--seeds 0 ...] [--texts 64] [--memories slots-4 ...]

Each memory begins untrained and takes the same steps over the same streams (a text of 256 tokens, and what cannot be predicted
well without it), on a CPU within minutes. So the figures compare the memories with one another; they are not what a memory can
reach: the weights that come with memspan saw more than a hundred times as many streams (benchmarks.trained_memory). Every reading has its own
text's memory, another text's, nothing, and the full text.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import needs, save, table
from benchmarks.trained_memory import SEGMENT, exactly

WINDOW = {"window": SEGMENT, "block": SEGMENT}
MEMORIES: dict[str, tuple[str, dict[str, Any]]] = {
    "slots-4": ("gist", {"rate": 4, **WINDOW}),
    "slots-8": ("gist", {"rate": 8, **WINDOW}),
    "slots-16": ("gist", {"rate": 16, **WINDOW}),
    "matrix": ("associative", {"rate": 8, **WINDOW}),
}
LEARNING_RATE, STREAMS = 3e-3, 8
CHARACTERS = 4_000_000  # of the training text: from 24 stretches, evenly spread


def excerpted(text: str, stretches: int = 24) -> str:
    """Evenly spread stretches of a text that is too long to be read for a short training."""
    length = min(len(text), CHARACTERS) // stretches
    return "\n".join(
        text[start : start + length] for start in (len(text) * number // stretches for number in range(stretches))
    )


def trained(name: str, data: Path, steps: int, seed: int, texts: int) -> dict[str, float]:
    """The figures of `TextMemory.score` on the test part after the training of a memory."""
    from memspan.training.config import TrainConfig
    from memspan.training.loop import train

    mechanism, settings = MEMORIES[name]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "train.txt"
        text.write_text(excerpted(needs(data / "train.txt").read_text("utf-8")), "utf-8")
        config = TrainConfig.of(
            task="memory",
            data=[str(text)],
            task_settings={"held_out": [str(needs(data / "test.txt"))], "segment": SEGMENT},
            model="smollm2",
            mechanism=mechanism,
            mechanism_settings=settings,
            segments=2,
            bptt_segments=1,
            batch_size=STREAMS,
            steps=steps,
            learning_rate=LEARNING_RATE,
            eval_every=10**9,
            eval_batch_size=4,
            precision="auto",
            seed=seed,
        )
        begun = time.process_time()
        report = train(config, lambda at: print(f"{name}, seed {seed}: step {at.step}", flush=True), limit=texts)
    weights = sum(weight.numel() for weight in report.model.parameters() if weight.requires_grad)
    return {**report.metrics, "weights": weights, "CPU s": time.process_time() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=Path("data"))
    parser.add_argument("--memories", nargs="+", choices=MEMORIES, default=list(MEMORIES), metavar="MEMORY")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--texts", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    shown: list[dict[str, Any]] = []
    for name in options.memories:
        rows: list[dict[str, Any]] = []
        for seed in options.seeds:
            row = trained(name, options.data, options.steps, seed, options.texts)
            rows.append({"memory": name, "seed": seed, **row})
            shown.append(
                {
                    "memory": name,
                    "seed": seed,
                    **{f"{reading} closed": row[f"{reading} closed"] for reading in ("text", "following", "facts")},
                    "closed by another's": row["facts closed by another text's"],
                    "facts right": exactly(row["facts right own"], options.texts),
                    "full": exactly(row["facts right full"], options.texts),
                    "CPU s": row["CPU s"],
                }
            )
            table(shown)
            figures = {"steps": options.steps, "streams of a step": STREAMS, "texts": options.texts, "rows": rows}
            save(f"short_training-{name}", figures, seeds=options.seeds[: len(rows)])


if __name__ == "__main__":
    main()
