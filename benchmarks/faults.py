"""What a server keeps, how fast it stays, and how much memory it takes under mixed load while faults are put upon it.

    python -m benchmarks.faults [--minutes 20]

`memspan serve` runs as a process of its own on a tiny random model: it is the server that is measured, not the model. Clients talk
in conversations, upload, have files read, search and read files, by the client that OpenAI publishes (benchmarks/mixed_load.py).
Times without faults and with them take turns, as long in all as --minutes each; the clients do the same in both. The faults:

1. SIGKILL at random moments, and a new start. There are none in the last two fifths of the time, in which the slope of the
   process's memory is measured.
2. A full disk: everything that the server writes lies on a small file system in RAM, which is filled to the last byte for some
   seconds, again and again; kills may fall into them.
3. Clients that read or send a byte a second and stay open, and requests of every bad kind (benchmarks/bad_clients.py).

Afterwards the server is killed once more and started, and all that it has acknowledged is looked for. Latencies are those of
requests that were carried out; what overlaps with the time from a kill to the server's being ready again is counted apart.

It needs Linux, with the right to make a name space for its file system (`unshare`), and a processor of its own for the server.
"""

import argparse
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openai

from benchmarks import report
from benchmarks.bad_clients import BadClient, SlowClients, bad_requests
from benchmarks.ledger import Failed, Ledger, Request
from benchmarks.mixed_load import Client, Reader, Resender, Talker, Uploader
from benchmarks.server_process import GOOD, INSIDE, OTHER, Server, full, run_inside, started

BLOCKS, BLOCKS_WITH_KILLS = 5, 3  # times without faults, and as many with them, of which the first have kills
BETWEEN_KILLS, BETWEEN_FILLS, FULL = 25.0, 8.0, 8.0  # seconds, on average; and how long the disk is full
SEED = 26

Interval = tuple[float, float]


@dataclass
class Faults:
    """The faults of the times in which there are any.

    Attributes:
        full: when the disk was full.
        statuses, wrong: of bad requests; slow: connections of slow clients.
    """

    server: Server
    draw: random.Random
    slow_file: str
    full: list[Interval] = field(default_factory=list)
    kills: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slow: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float, *, kills: bool) -> None:
        """Put faults upon the server for some seconds; then it is up, and its disk has space."""
        server, end = self.server, time.monotonic() + seconds
        address = ("127.0.0.1", server.port)
        bad = [
            BadClient(address, bad_requests(OTHER, "model"), self.draw.randrange(2**31), server.is_up) for _ in range(2)
        ]
        slow = SlowClients(address, OTHER, "model", self.slow_file, server.is_up)
        for client in (*bad, slow):
            client.start()
        filling = threading.Thread(target=self._fill_again_and_again, args=(end,))
        filling.start()
        while kills and (wait := self.draw.expovariate(1 / BETWEEN_KILLS)) < end - time.monotonic():
            time.sleep(wait)
            server.restart()
            self.kills += 1
        time.sleep(max(0.0, end - time.monotonic()))
        filling.join()
        for client in (*bad, slow):
            client.ending.set()
            client.join()
            self.statuses += client.seen.statuses
            self.slow += client.seen.slow
            self.wrong += client.seen.wrong

    def _fill_again_and_again(self, end: float) -> None:
        draw = random.Random(len(self.full))
        while (wait := min(BETWEEN_FILLS * 2, 3 + draw.expovariate(1 / BETWEEN_FILLS))) + FULL < end - time.monotonic():
            time.sleep(wait)
            begun = time.monotonic()
            with full(self.server.disk):
                time.sleep(FULL)
            self.full.append((begun, time.monotonic()))


def overlaps(request: Request, intervals: Sequence[Interval]) -> bool:
    """Whether any of a request's time is in one of the intervals."""
    return any(request.begun < end and begin < request.ended for begin, end in intervals)


def latencies(
    requests: Sequence[Request], calm: Sequence[Interval], faulty: Sequence[Interval], down: Sequence[Interval]
) -> dict[str, Any]:
    """Seconds of requests without faults and with them, by kind, and the ratio of the 99th percentiles of all."""
    done = [request for request in requests if request.status == 200 and not overlaps(request, down)]
    by_time = [
        [request for request in done if any(begin <= request.begun < end for begin, end in blocks)]
        for blocks in (calm, faulty)
    ]
    rows = []
    for kind in sorted({request.kind for request in done}):
        row: dict[str, Any] = {"kind": kind}
        for name, of_time in zip(("without", "with"), by_time, strict=True):
            seconds = [request.ended - request.begun for request in of_time if request.kind == kind]
            row[f"requests {name}"] = len(seconds)
            for percent in (50, 99):
                row[f"p{percent} {name}"] = float(np.percentile(seconds, percent)) if seconds else float("nan")
        rows.append(row)
    without, with_faults = (np.array([each.ended - each.begun for each in of_time]) for of_time in by_time)
    rng = np.random.default_rng(SEED)
    draws = [
        np.percentile(rng.choice(with_faults, len(with_faults)), 99)
        / np.percentile(rng.choice(without, len(without)), 99)
        for _ in range(1000)
    ]
    p99 = [float(np.percentile(seconds, 99)) for seconds in (without, with_faults)]
    return {
        "requests": [len(without), len(with_faults)],
        "p50, s": [float(np.percentile(seconds, 50)) for seconds in (without, with_faults)],
        "p99, s": p99,
        "ratio of p99": p99[1] / p99[0],
        "interval": [float(np.percentile(draws, percent)) for percent in (2.5, 97.5)],
        "by kind": rows,
    }


def unexpected(requests: Sequence[Request], down: Sequence[Interval], full: Sequence[Interval]) -> list[str]:
    """Requests of good clients that failed although nothing was in their way, or with a status that does not say it.

    Whether a 404 is right, the clients know, which delete what others look at.
    """
    return [
        f"{request.kind}: status {request.status}"
        for request in requests
        if request.status not in (200, 404)
        and not (request.status == 0 and overlaps(request, down))
        and not (request.status == 507 and overlaps(request, full))
    ]


def memory_of(samples: Sequence[tuple[float, float, int, int]]) -> dict[str, Any]:
    """How the memory of the process that lived longest has grown, from a quarter of its life on."""
    begun = Counter(begun for _, begun, _, _ in samples).most_common(1)[0][0]
    life = [sample for sample in samples if sample[1] == begun]
    late = life[len(life) // 4 :]
    minutes, mebibytes = (
        np.array([(at - begun) / 60 for at, *_ in late]),
        np.array([size / 2**20 for *_, size, _ in late]),
    )
    slope, _ = np.polyfit(minutes, mebibytes, 1)
    third = max(1, len(late) // 3)
    return {
        "minutes": float(minutes[-1] - minutes[0]),
        "slope, MiB a minute": float(slope),
        "MiB, median of the first third": float(statistics.median(mebibytes[:third])),
        "MiB, median of the last third": float(statistics.median(mebibytes[-third:])),
        "descriptors, most in the first third": max(count for *_, count in late[:third]),
        "descriptors, most in the last third": max(count for *_, count in late[-third:]),
    }


def load(server: Server, ledger: Ledger) -> list[Client]:
    """The good clients."""

    def make(kind: Callable[..., Any], number: int) -> Any:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=GOOD, max_retries=0, timeout=60)
        return kind(client, ledger, number, server.is_up, "model")

    uploader = make(Uploader, 1)
    Reader.uploader = uploader
    return [uploader, make(Talker, 2), make(Talker, 3), make(Resender, 4), make(Reader, 5), make(Reader, 6)]


def faults_of(server: Server) -> Faults:
    """The faults, with the file that slow clients read."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=OTHER, max_retries=3) as other:
        slow_file = other.files.create(file=("slow.txt", b"slow\n" * 2**20), purpose="assistants").id
    return Faults(server, random.Random(SEED), slow_file)


def measured(server: Server, minutes: float) -> dict[str, Any]:
    """Load without faults and with them in turns, and what is there in the end."""
    ledger, ending = Ledger(), threading.Event()
    faults, clients = faults_of(server), load(server, ledger)

    def sample() -> None:
        while not ending.wait(1):
            server.sample()

    sampler = threading.Thread(target=sample)
    for thread in (sampler, *clients):
        thread.start()
    time.sleep(10)  # the first requests of a process build what later ones use
    calm, faulty = [], []
    for block in range(BLOCKS):
        begun = time.monotonic()
        time.sleep(minutes * 60 / BLOCKS)
        middle = time.monotonic()
        faults.run(minutes * 60 / BLOCKS, kills=block < BLOCKS_WITH_KILLS)
        calm.append((begun, middle))
        faulty.append((middle, time.monotonic()))
        print(f"{block + 1} of {BLOCKS}: {len(ledger.requests)} requests, {faults.kills} kills", flush=True)
    for client in clients:
        client.ending.set()
        client.join()
    ending.set()
    sampler.join()
    requests = list(ledger.requests)
    server.restart()
    for client in clients:
        try:
            client.check()
        except Failed as error:
            ledger.wrong.append(f"{type(client).__name__} could not look: {error}")
    log = server.log.read_text("utf-8", errors="replace")
    refused = Counter(request.kind for request in requests if request.status == 507)
    seconds_down = [end - begin for begin, end in server.down]
    return {
        "minutes without faults, and with": minutes,
        "kills": faults.kills + 1,
        "seconds from a kill to the next reply": {"median": statistics.median(seconds_down), "most": max(seconds_down)},
        "requests that met a kill": sum(overlaps(request, server.down) for request in requests),
        "times with a full disk": len(faults.full),
        "requests that a full disk refused": dict(refused),
        "bad requests": dict(sorted(faults.statuses.items())),
        "slow connections": dict(faults.slow),
        "starts that failed": server.failed_starts,
        "found again": dict(sorted(ledger.checked.items())),
        "lost": ledger.lost,
        "doubled": ledger.doubled,
        "wrong": [*ledger.wrong, *faults.wrong, *unexpected(requests, server.down, faults.full)],
        "tracebacks in the log": log.count("Traceback"),
        "lines in the log": log.count("\n"),
        "latency": latencies(requests, calm, faulty, server.down),
        "memory": memory_of(server.samples),
    }


def main() -> int:
    """Run, print, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="with faults, and as many without (default: 20)")
    parser.add_argument("--folder", type=Path, help="where the server's log is left (default: nowhere)")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (status := run_inside("benchmarks.faults")) is not None:
        return status
    with started(log=options.folder) as server:
        figures = measured(server, options.minutes)
    report.table(figures["latency"]["by kind"])
    for name, value in figures.items():
        print(f"{name}: {value}")
    is_small = options.minutes < 20
    report.save("faults-small" if is_small else "faults", figures, seeds=[SEED])
    broken = figures["lost"] or figures["doubled"] or figures["wrong"] or figures["tracebacks in the log"]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
