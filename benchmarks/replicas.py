"""Replicas of a server that Ray starts, one of which is killed again and again under load: what is lost, and for how long.

    python -m benchmarks.replicas [--minutes 5]

`memspan serve --ray 2` with a tiny random model: it is the server that is measured. Clients talk in conversations, send whole
histories, upload, have files read, search and read files (benchmarks/mixed_load.py). At random moments one replica gets a
SIGKILL; the other one goes on, and Ray starts another in its place. In the end all that was acknowledged is looked for.
Requests that a dying replica had are counted; none of them may be repeated by the server, whose client does not know whether
it was carried out. It needs Ray (memspan[ray]) and the program `ps`.
"""

import argparse
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

from benchmarks import report
from benchmarks.ledger import Failed, Ledger
from benchmarks.mixed_load import Client, Reader, Resender, Talker, Uploader
from tests.tiny import save_tiny_model

REPLICAS, BETWEEN_KILLS, SEED = 2, 20.0, 26  # seconds, on average
SLOWEST = 240.0  # seconds that Ray may take to start anything


def replicas() -> set[int]:
    """The processes of replicas."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "ray::ServeReplica" in line}


def waited(condition: Callable[[], bool]) -> float:
    """The seconds until a condition holds. Raises RuntimeError if it takes too long."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > SLOWEST:
            raise RuntimeError("Ray takes too long")
        time.sleep(0.05)
    return time.monotonic() - begun


def clients_of(url: str, ledger: Ledger) -> list[Client]:
    is_up = threading.Event()
    is_up.set()

    def make(kind: Callable[..., Any], number: int) -> Any:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        return kind(client, ledger, number, is_up, "model")

    Reader.uploader = uploader = make(Uploader, 1)
    return [uploader, make(Talker, 2), make(Talker, 3), make(Talker, 4), make(Resender, 5), make(Reader, 6)]


def measured(url: str, minutes: float) -> dict[str, Any]:
    ledger, draw = Ledger(), random.Random(SEED)
    clients = clients_of(url, ledger)
    for client in clients:
        client.start()
    end, kills, replaced = time.monotonic() + minutes * 60, [], []
    while (wait := 5 + draw.expovariate(1 / BETWEEN_KILLS)) < end - time.monotonic():
        time.sleep(wait)
        alive = replicas()
        killed = draw.choice(sorted(alive))
        os.kill(killed, signal.SIGKILL)
        kills.append(time.monotonic())
        replaced.append(waited(lambda killed=killed: len(replicas() - {killed}) == REPLICAS))  # type: ignore[misc]
        print(f"{len(kills)} kills, {len(ledger.requests)} requests", flush=True)
    time.sleep(max(0.0, end - time.monotonic()))
    for client in clients:
        client.ending.set()
        client.join()
    requests = list(ledger.requests)
    for client in clients:
        try:
            client.check()
        except Failed as error:
            ledger.wrong.append(f"{type(client).__name__} could not look: {error}")
    carried_out = sorted(request.ended for request in requests if request.status == 200)
    pauses = [next((ended - kill for ended in carried_out if ended > kill), float("nan")) for kill in kills]
    statuses = Counter(str(request.status) for request in requests)
    return {
        "minutes": minutes,
        "replicas": REPLICAS,
        "kills": len(kills),
        "requests by status": dict(sorted(statuses.items())),
        "seconds from a kill to the next request that is carried out": spread(pauses),
        "seconds from a kill to another replica's process": spread(replaced),
        "found again": dict(sorted(ledger.checked.items())),
        "lost": ledger.lost,
        "doubled": ledger.doubled,
        "wrong": ledger.wrong,
    }


def spread(seconds: list[float]) -> dict[str, float] | None:
    return {"median": statistics.median(seconds), "most": max(seconds)} if seconds else None


def main() -> int:
    """Run, print, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder, "model"))
        command = [sys.executable, "-m", "memspan", "serve", str(Path(folder, "root")), "--port", "0"]
        command += ["--model", str(model), "--ray", str(REPLICAS), "--max-new-tokens", "16"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            url = next(match[1] for line in lines if (match := re.match(r"(http\S+/v1) serves ", line)))
            threading.Thread(target=lambda: list(lines), daemon=True).start()  # what it says about lost replicas
            figures = measured(url, options.minutes)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    for name, value in figures.items():
        print(f"{name}: {value}")
    report.save("replicas", figures, seeds=[SEED])
    return 1 if figures["lost"] or figures["doubled"] or figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
