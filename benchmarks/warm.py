"""How long `memspan ask` and `memspan search` take until a running server has the question: from the start of the process.

The server is this program at the socket of one, which answers at once, so that only the side of whoever asks is measured. With
--memory also whole questions are timed, to a real server of that memory in the background and without one, alternating.

    python -m benchmarks.warm --runs 20
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report

QUESTION = "Where was the treasure buried?"


def arrival(listener: Any, command: str, folder: Path) -> tuple[float, float]:
    """The seconds from the start of a process to the arrival of its question, and those of a processor until its end."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "memspan", command, str(folder), QUESTION], stdout=subprocess.DEVNULL
    )
    with listener.accept() as connection:
        connection.receive(60)
        seconds = time.perf_counter() - begun
        connection.send({"process": os.getpid()})
        connection.send({"exit": 0})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"memspan {command} failed.")
    return seconds, used.ru_utime + used.ru_stime


def imports() -> tuple[int, list[dict[str, Any]]]:
    """The number of modules that a question loads, and the imports that take longest, with what they import, in milliseconds."""
    code = "import memspan.cli, memspan.cli.ask, memspan.cli.warm.client, sys; print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    lines = re.findall(r"import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)", done.stderr)
    slowest = sorted(((int(microseconds) / 1000, name) for microseconds, name in lines), reverse=True)[:12]
    return int(done.stdout), [{"module": name, "milliseconds": round(took, 1)} for took, name in slowest]


def whole(memory: Path, question: str) -> float:
    """The seconds that `memspan ask` takes."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "memspan", "ask", str(memory), question], capture_output=True, check=False)
    return time.perf_counter() - begun


def spread(name: str, seconds: list[float]) -> dict[str, Any]:
    return {
        "what": name,
        "n": len(seconds),
        "median": round(median(seconds), 3),
        "least": round(min(seconds), 3),
        "most": round(max(seconds), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="questions of each kind")
    parser.add_argument("--memory", type=Path, help="memory of which whole questions are timed as well")
    parser.add_argument("--question", default=QUESTION, help="the question to it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        os.environ["XDG_STATE_HOME"] = top  # no server of the user takes the questions
        from memspan.cli.warm import model, sockets

        folder = Path(top) / "memory"
        listener = sockets.Listener.bind(sockets.path_of_server(model.server_key(), folder))
        arrivals: dict[str, list[tuple[float, float]]] = {"ask": [], "search": []}
        for _ in range(options.runs):
            for command, seconds in arrivals.items():
                seconds.append(arrival(listener, command, folder))
        listener.end()
        rows = []
        for command, seconds in arrivals.items():
            rows.append(spread(f"memspan {command}, until the question arrives", [arrived for arrived, _ in seconds]))
            rows.append(
                spread(f"memspan {command}, processor time of the whole command", [used for _, used in seconds])
            )
        if options.memory is not None:
            rows += _whole(options)
    modules, slowest = imports()
    report.table(rows)
    report.table(slowest)
    report.save("warm", {"seconds": rows, "modules": modules, "imports": slowest, "load": os.getloadavg()[0]}, seeds=[])


def _whole(options: argparse.Namespace) -> list[dict[str, Any]]:
    serve = [sys.executable, "-m", "memspan", "serve", str(options.memory)]
    with_server, without = [], []
    for _ in range(max(1, options.runs // 4)):
        without.append(whole(options.memory, options.question))
        subprocess.run([*serve, "--detach", "--port", "0"], check=True, capture_output=True)
        whole(options.memory, options.question)
        with_server.append(whole(options.memory, options.question))
        subprocess.run([*serve, "--stop"], check=True, capture_output=True)
    return [spread("memspan ask, whole, a server running", with_server), spread("memspan ask, whole, alone", without)]


if __name__ == "__main__":
    main()
