"""Tokens a second of every mechanism, training and reading, and what its state weighs.

    python -m benchmarks.speed          # about four minutes; nothing else should run

One core. Training: streams of 256 tokens, 16 rows, forward and backward. Reading: segments of 256 tokens without gradients, one
row, state carried; the cost of a token after 16,384 tokens beside that after 1,024 shows whether it grows. The mechanism stands
alone, width 64, on random hidden states. "of nn.LSTM" is the speed over torch's own LSTM of the same width in the same run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import report

WIDTH, ROWS, LENGTH = 64, 16, 256
SETTINGS: dict[str, dict[str, Any]] = {
    "attention": {},
    "sink_window": {"window": 256, "block": 32},
    "segment": {"segment": 128, "memory": 1, "positions": "relative"},
    "compressed": {"block": 64, "recent": 1, "rate": 4, "slots": 64},
    "retrieval": {"block": 64, "top": 2},
    "hierarchical": {"segment": 32},
    "bidirectional": {"segment": 32},
}


def rate(call: Callable[[], None], tokens: int, repeats: int = 7) -> float:
    """The median of tokens a second."""
    call()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return tokens / statistics.median(seconds)


def measure(mechanism: Any) -> dict[str, float]:
    import torch

    from memspan.state import nbytes

    x = torch.randn(ROWS, LENGTH, WIDTH, requires_grad=True)

    def train() -> None:
        y, _ = mechanism(x, None)
        y.sum().backward()

    training = rate(train, ROWS * LENGTH)
    segment, state, seconds, sizes = torch.randn(1, LENGTH, WIDTH), None, [], []
    with torch.no_grad():
        mechanism(segment, None)
        for _ in range(64):
            begun = time.perf_counter()
            _, state = mechanism(segment, state)
            seconds.append(time.perf_counter() - begun)
            sizes.append(nbytes(state))
    late, early = statistics.median(seconds[-8:]), statistics.median(seconds[2:10])
    return {
        "training tokens/s": training,
        "reading tokens/s": LENGTH / late,
        "late over early": late / early,
        "state bytes at 1k": sizes[3],
        "state bytes at 16k": sizes[-1],
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    import torch
    from torch import nn

    from memspan.mechanisms import MECHANISMS, build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
    x = torch.randn(ROWS, LENGTH, WIDTH, requires_grad=True)

    def plain() -> None:
        lstm(x)[0].sum().backward()

    rows = []
    for name in sorted(MECHANISMS):
        base = rate(plain, ROWS * LENGTH)  # beside each, because machines have moods
        figures = measure(build(WIDTH, name, **SETTINGS.get(name, {})))
        rows.append({"mechanism": name, "of nn.LSTM": figures["training tokens/s"] / base, **figures})
    report.table(
        [{key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    )
    report.save("speed", {"width": WIDTH, "rows": rows}, seeds=[0])

    def draw(axes: Any) -> None:
        axes.barh([row["mechanism"] for row in rows], [row["of nn.LSTM"] for row in rows])
        axes.axvline(1.0, color="black", lw=1)
        axes.set(xscale="log", xlabel="training tokens/s over torch's LSTM of the same width")

    report.plot("speed", draw)


if __name__ == "__main__":
    main()
