"""How the memory of a server's process grows under mixed load when its budget for memories in RAM is used up.

    python -m benchmarks.served_memory [--minutes 12] [--memory-ram 1] [--thinking 0.25]

`memspan serve` on a tiny random model, with the clients and the faults of `benchmarks.faults` but for the kills: conversations, files
and stores are added and deleted without end, while the disk fills up again and again, and bad and slow clients come. The budget
(`--ram` of the server) is so small that memories are let go from the first minutes on: what still grows then, no budget counts.

In its first thousand requests a process builds what it keeps afterwards (kernels for the shapes of products, tensors, compiled
code), so that the growth is that of the last half. Its interval is that of the line through the medians of the minutes, and through
their tenth percentiles, which takes the minutes as independent. Needs what `benchmarks.faults` needs.
"""

import argparse
import re
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from benchmarks import mixed_load, report
from benchmarks.faults import SEED, faults_of, load
from benchmarks.ledger import Ledger
from benchmarks.server_process import GOOD, INSIDE, Server, run_inside, started

FLOOR = 10  # percentile: what is left between requests, which need large arrays for a moment
PARTS = 6  # of the time, of which the last three count
STUDENT = (12.7, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # 97.5 % of t, by degrees of freedom from 1 on


def growth(times: Sequence[float], mebibytes: Sequence[float]) -> dict[str, Any]:
    """The memory of each part of the time, and how it grew over the last half.

    Args:
        times: of the samples, in seconds from the first, in order.
        mebibytes: the memory at these times.
    """
    at, size = np.array(times) / 60, np.array(mebibytes)
    parts = np.minimum((at / at[-1] * PARTS).astype(int), PARTS - 1)
    minute = np.floor(at - at[-1] / 2)  # of the last half, whose last one may be cut off
    minutes = np.arange(max(2, int(at[-1] / 2)))
    figures: dict[str, Any] = {
        "MiB, median of each sixth of the time": [float(np.median(size[parts == part])) for part in range(PARTS)],
        "MiB, floor of each sixth of the time": [
            float(np.percentile(size[parts == part], FLOOR)) for part in range(PARTS)
        ],
        "minutes of the last half": float(at[-1] / 2),
    }
    for name, percent in (("medians", 50), ("floors", FLOOR)):
        values = np.array([np.percentile(size[minute == number], percent) for number in minutes])
        slope, error = line(minutes, values)
        figures[f"slope of the {name} of the last half, MiB a minute"] = slope
        figures[f"interval of the slope of the {name}"] = [slope - error, slope + error]
    return figures


def line(at: NDArray[Any], values: NDArray[Any]) -> tuple[float, float]:
    """The slope of a line through the values, and half of its 95 % interval; NaN for two values."""
    slope, start = np.polyfit(at, values, 1)
    freedom = len(at) - 2
    if freedom < 1:
        return float(slope), float("nan")
    rest = values - (start + slope * at)
    spread = np.sqrt((rest**2).sum() / freedom / ((at - at.mean()) ** 2).sum())
    return float(slope), float(spread * STUDENT[min(freedom, len(STUDENT)) - 1])


def counted(server: Server) -> int:
    """The bytes of the memories that the server keeps open, as it counts them."""
    shown = httpx2.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {GOOD}"}, timeout=60).text
    found = re.search(r"^memspan_memory_bytes (\S+)", shown, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def measured(server: Server, minutes: float) -> dict[str, Any]:
    """Load and faults for some minutes, and what the process took."""
    ledger, ending = Ledger(), threading.Event()
    clients, faults = load(server, ledger), faults_of(server)
    open_bytes: list[int] = []

    def sample() -> None:
        while not ending.wait(1):
            server.sample()
            if len(server.samples) % 10 == 0:
                open_bytes.append(counted(server))

    threads = [threading.Thread(target=sample), *clients]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    faults.run(minutes * 60, kills=False)
    for client in clients:
        client.ending.set()
    ending.set()
    for thread in threads:
        thread.join()
    half, end = begun + minutes * 30, begun + minutes * 60
    late = [request for request in ledger.requests if half <= request.begun < end]
    stored = sum(1 for path in (server.disk / "root" / "good").iterdir() if not path.name.startswith("."))
    log = server.log.read_text("utf-8", errors="replace")
    samples = [(at - begun, size / 2**20) for at, _, size, _ in server.samples if at < end]
    return {
        "minutes": minutes,
        "budget, MiB": server.ram,
        "seconds between two requests of a client, mean": mixed_load.THINKING,
        "requests": len(ledger.requests),
        "of them in the last half": len(late),
        "of the last half by kind": dict(sorted(Counter(request.kind for request in late).items())),
        "refused by a full disk": sum(request.status == 507 for request in ledger.requests),
        "times with a full disk": len(faults.full),
        "bad requests": sum(faults.statuses.values()),
        "memories in the folder at the end": stored,
        "counted bytes of open memories, median and most": [statistics.median(open_bytes), max(open_bytes)],
        **growth(*zip(*samples, strict=True)),
        "descriptors, most of the first and the last third": [
            max(count for *_, count in part)
            for part in (server.samples[: len(server.samples) // 3], server.samples[-len(server.samples) // 3 :])
        ],
        "wrong": [*ledger.wrong, *ledger.lost, *ledger.doubled, *faults.wrong],
        "tracebacks in the log": log.count("Traceback"),
    }


def main() -> int:
    """Run, print, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="of load (default: 12)")
    parser.add_argument(
        "--memory-ram", type=int, default=1, help="mebibytes of open memories, of the server (default: 1)"
    )
    parser.add_argument("--thinking", type=float, default=0.25, help="seconds between two requests of a client (mean)")
    parser.add_argument("--folder", type=Path, help="where the server's log is left (default: nowhere)")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (status := run_inside("benchmarks.served_memory")) is not None:
        return status
    mixed_load.THINKING = options.thinking
    with started(options.memory_ram, options.folder) as server:
        figures = measured(server, options.minutes)
    for name, value in figures.items():
        print(f"{name}: {value}")
    report.save("served-memory" if options.minutes >= 10 else "served-memory-small", figures, seeds=[SEED])
    return 1 if figures["wrong"] or figures["tracebacks in the log"] else 0


if __name__ == "__main__":
    sys.exit(main())
