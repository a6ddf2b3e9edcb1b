"""Share of the tokens that an autoencoder rebuilds from latents of 64 floats, trained for seconds on one core.

    python -m benchmarks.autoencode        # about three minutes on two cores

Random tokens are drawn anew for every batch; of 64 different ones a latent holds R. Characters are wikitext-2's, the 99 most
common and one for all others, measured on its test part.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import report

WIDTH, ROWS = 64, 32
# (what, rate) -> (least accuracy, CPU seconds, learning rate)
BARS: dict[tuple[str, int], tuple[float, int, float]] = {
    ("random", 2): (0.99, 15, 3e-3),
    ("random", 4): (0.99, 15, 3e-3),
    ("random", 8): (0.99, 15, 3e-3),
    ("characters", 4): (0.985, 35, 3e-3),
    ("characters", 8): (0.97, 35, 3e-3),
}


def characters() -> tuple[Any, Any]:
    """The ids of wikitext-2's train and test part, (T,) int64."""
    import torch

    with zipfile.ZipFile(report.needs(report.DATA / "wikitext2" / "wikitext-2-v1.zip")) as archive:
        texts = [
            archive.read(next(name for name in archive.namelist() if f".{part}." in name)).decode()[:length]
            for part, length in (("train", 3_000_000), ("test", 300_000))
        ]
    number = {character: index for index, (character, _) in enumerate(Counter(texts[0]).most_common(99), 1)}
    train, test = (torch.tensor([number.get(character, 0) for character in text]) for text in texts)
    return train, test


def train_and_measure(what: str, rate: int, seed: int) -> float:
    import time

    import torch
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy

    from memspan.mechanisms import mechanism_class

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    _, seconds, learning_rate = BARS[what, rate]
    length = 32 * rate
    vocabulary, train, test = (64, None, None) if what == "random" else (100, *characters())

    def draw(source: Tensor | None) -> Tensor:
        if source is None:
            return torch.randint(0, vocabulary, (ROWS, length))
        return source[torch.randint(0, len(source) - length, (ROWS, 1)) + torch.arange(length)]

    embedding, head = nn.Embedding(vocabulary, WIDTH), nn.Linear(WIDTH, vocabulary)
    autoencoder: Any = mechanism_class("autoencoder")(WIDTH, rate=rate, latent=64)

    def rebuilt(ids: Tensor) -> Tensor:
        return head(autoencoder.decode(autoencoder.encode_chunks(embedding(ids))))

    weights = [weight for module in (embedding, head, autoencoder) for weight in module.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0, fused=True)
    begun, step, used = time.process_time(), 0, 0.0
    while used < seconds:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / 50) * max(0.01, 1 - used / seconds)
        ids = draw(train)
        cross_entropy(rebuilt(ids).flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        step, used = step + 1, time.process_time() - begun
    with torch.no_grad():
        batches = [draw(test) for _ in range(50)]
        right = [(rebuilt(ids).argmax(-1) == ids).float().mean().item() for ids in batches]
    return statistics.mean(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        what, rate, seed = options.run
        print(json.dumps(train_and_measure(what, int(rate), int(seed))))
        return

    def measured(what: str, rate: int, seed: int) -> float:
        command = [sys.executable, "-m", "benchmarks.autoencode", "--run", what, str(rate), str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        accuracy: float = json.loads(done.stdout)
        return accuracy

    with ThreadPoolExecutor(options.jobs) as jobs:
        waiting = {case: [jobs.submit(measured, *case, seed) for seed in range(options.seeds)] for case in BARS}
        rows = []
        for (what, rate), futures in waiting.items():
            accuracies = [future.result() for future in futures]
            bar, seconds, _ = BARS[what, rate]
            median = statistics.median(accuracies)
            row = {"tokens": what, "rate": f"{rate}x", "rebuilt": median, "bar": bar, "met": median >= bar}
            rows.append({**row, "cpu s": seconds, "seeds": accuracies})
            print(rows[-1], flush=True)
    report.save("autoencode", {"rows": rows}, seeds=range(options.seeds))

    def draw(axes: Any) -> None:
        axes.bar([f"{row['tokens']} {row['rate']}" for row in rows], [row["rebuilt"] for row in rows])
        axes.set(ylim=(0.9, 1.0), ylabel="tokens rebuilt", title="one latent of 64 floats for each chunk")

    report.plot("autoencode", draw)


if __name__ == "__main__":
    main()
