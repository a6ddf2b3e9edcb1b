"""Tokens a second of every mechanism, training and reading, and what its state weighs.

    python -m benchmarks.speed                            # about four minutes; nothing else should run
    python -m benchmarks.speed --shapes delta             # one mechanism, training at several widths, a minute
    python -m benchmarks.speed --shapes delta --compile   # also compiled, which takes minutes the first time

One core. Training: streams of 256 tokens, 16 rows, forward and backward. Reading: segments of 256 tokens without gradients, one
row, state carried; the cost of a token after 16,384 tokens beside that after 1,024 shows whether it grows. The mechanism stands
alone, width 64, on random hidden states. "of nn.LSTM" is the speed over torch's own LSTM of the same width in the same run.

With `--shapes` each figure is a ratio of medians of CPU time in one process, in which torch's LSTM and the mechanism take
turns; it is the median of three processes, with the least and the greatest.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Shape(NamedTuple):
    """What a mechanism is trained on: rows of so many tokens, hidden states of so many numbers, and its settings."""

    rows: int
    length: int
    width: int
    settings: dict[str, Any]


SHAPES = {
    "delta": [Shape(ROWS, LENGTH, WIDTH, {"heads": 1}), Shape(4, 1024, 256, {"heads": 4})],
}
PROCESSES, TURNS = 3, 15


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


def milliseconds(name: str, shape: Shape, compiled: bool) -> dict[str, float]:
    """Medians of the CPU time of a step of training of torch's LSTM and of a mechanism, by turns, in this process."""
    import torch
    from torch import nn

    from memspan.mechanisms import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    lstm = nn.LSTM(shape.width, shape.width, batch_first=True)
    mechanism = build(shape.width, name, **shape.settings)
    calls: dict[str, Any] = {"nn.LSTM": lstm, name: mechanism}
    if compiled:
        calls[f"{name}, compiled"] = torch.compile(mechanism)
    x = torch.randn(shape.rows, shape.length, shape.width, requires_grad=True)
    taken: dict[str, list[float]] = {kind: [] for kind in calls}
    for turn in range(TURNS + 2):
        for kind, call in calls.items():
            begun = time.process_time()
            call(x, None)[0].sum().backward()
            if turn > 1:
                taken[kind].append(time.process_time() - begun)
    return {kind: 1000 * statistics.median(seconds) for kind, seconds in taken.items()}


def compare_shapes(name: str, compiled: bool) -> None:
    """Prints and saves the training speed of one mechanism over that of torch's LSTM, at all its shapes."""
    rows = []
    for shape in SHAPES[name]:
        found = []
        for _ in range(PROCESSES):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(milliseconds, (name, shape, compiled)))
        for kind in found[0]:
            if kind == "nn.LSTM":
                continue
            ratios = sorted(times["nn.LSTM"] / times[kind] for times in found)
            rows.append(
                {
                    "mechanism": kind,
                    **shape._asdict(),
                    "of nn.LSTM": round(statistics.median(ratios), 2),
                    "least": round(ratios[0], 2),
                    "greatest": round(ratios[-1], 2),
                    "ms": round(statistics.median(times[kind] for times in found), 1),
                    "ms of nn.LSTM": round(statistics.median(times["nn.LSTM"] for times in found), 1),
                }
            )
    report.table(rows)
    report.save(f"speed-{name}", {"processes": PROCESSES, "turns": TURNS, "rows": rows}, seeds=[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=sorted(SHAPES), help="training speed of this mechanism at several widths")
    parser.add_argument("--compile", action="store_true", help="with --shapes: the mechanism compiled, besides")
    options = parser.parse_args()
    if options.shapes:
        compare_shapes(options.shapes, options.compile)
    else:
        compare_mechanisms()


def compare_mechanisms() -> None:
    """Prints, saves and draws the speed of every mechanism."""
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
