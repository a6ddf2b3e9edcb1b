"""`memspan monitor` over generated years: texts per second and memory, alerts on planted rises, and a process that is killed.

Everything is measured through the commands, each in a process of its own, as a user runs them:

- a year of `--texts` texts is classified, stored, charted and replayed: texts per second, peak resident memory;
- the years of five seeds, none of which served to choose the detector's settings: which of the planted rises are alerted, in
  which period, and how many alerts there are without a rise;
- a run is killed ten times at random moments, and then finished: texts lost and doubled;
- the rate with features of the sentence encoder, on fewer texts.

    python -m benchmarks.monitor
    python -m benchmarks.monitor --choose      # the settings of the detector, on other years, counts without texts
"""

import argparse
import json
import math
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import report
from memspan.apps.monitor import sample
from memspan.apps.monitor.detection import Count, Settings, detect

SEEDS, CHOOSING = (1, 2, 3, 4, 5), range(100, 130)
LATE = 2  # periods within which a rise is to be found
TOPICS = ("a", "b", "c", "d")
WRONG = 0.04  # share of wrong labels in the counts that settings are chosen on


def command(folder: Path, *arguments: str) -> str:
    """The standard output of a command; ends the program with its errors where it fails."""
    done = subprocess.run([sys.executable, "-m", "memspan", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def used() -> tuple[float, float]:
    """CPU seconds of all processes so far that have ended, and the peak of their resident memory in MB."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def measured(folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a command printed, with the CPU seconds and the wall time of its process."""
    before, began = used()[0], time.perf_counter()
    outcome: dict[str, Any] = json.loads(command(folder, *arguments, "--json"))
    return {**outcome, "cpu": used()[0] - before, "wall": time.perf_counter() - began}


def scored(alerts: Sequence[tuple[str, str, str]], rises: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How alerts, as topic, first and last day, fit planted rises; an alert within a rise that was found is none of its own."""
    delays: dict[int, int] = {}
    false = 0
    for topic, _, last in alerts:
        day = date.fromisoformat(last)
        fitting = [
            number
            for number, rise in enumerate(rises)
            if rise["topic"] == topic and date.fromisoformat(rise["begins"]) <= day <= date.fromisoformat(rise["ends"])
        ]
        for number in fitting:
            delays.setdefault(number, (day - date.fromisoformat(rises[number]["begins"])).days + 1)
        false += not fitting
    in_time = sum(delay <= LATE for delay in delays.values())
    return {
        "rises": len(rises),
        "found within two periods": in_time,
        "found later": len(delays) - in_time,
        "missed": len(rises) - len(delays),
        "false alarms": false,
    }


def year(folder: Path, seed: int, texts: int) -> dict[str, Any]:
    """A year through a monitor of its own."""
    command(folder, "monitor", "sample", f"year{seed}", "--texts", str(texts), "--seed", str(seed), "--labelled", "40")
    monitor = f"monitor{seed}"
    shutil.copytree(folder / "bank", folder / monitor)
    run = measured(folder, "monitor", "run", monitor, f"year{seed}/{sample.STREAM}", "--once")
    page = measured(folder, "monitor", "report", monitor, "--output", f"{monitor}.html")
    replay = measured(folder, "monitor", "replay", monitor)
    rises = json.loads((folder / f"year{seed}" / sample.RISES).read_text("utf-8"))
    found = [(alert["topic"], alert["from"], alert["to"]) for alert in page["alerts"]]
    hindsight = [(rise["topic"], rise["from"], rise["from"]) for rise in replay["rises"]]
    return {
        "seed": seed,
        "stored": run["stored"],
        **scored(found, rises),
        "with hindsight": scored(hindsight, rises),
        "texts per second": run["texts_per_second"],
        "texts per CPU second": run["stored"] / run["cpu"],
        "report and replay, CPU seconds": page["cpu"] + replay["cpu"],
        "page, kB": (folder / f"{monitor}.html").stat().st_size / 1000,
    }


def killed(folder: Path, seed: int, kills: int = 10) -> dict[str, Any]:
    """A run that is killed at random moments and then finished, compared with the stream."""
    draw, stream = random.Random(seed), folder / f"year{seed}" / sample.STREAM
    shutil.copytree(folder / "bank", folder / "killed")
    arguments = [sys.executable, "-m", "memspan", "monitor", "run", "killed", str(stream), "--once"]
    total, moments = sum(1 for _ in stream.open("rb")), list[int]()
    for number in range(kills):
        process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal = max(texts_of(folder / "killed") + 1, total * (number + 1) // (kills + 2))
        while process.poll() is None and texts_of(folder / "killed") < goal:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        moments.append(texts_of(folder / "killed"))
    command(folder, *arguments[3:])
    with sqlite3.connect(folder / "killed" / "monitor.sqlite") as database:
        ids = Counter(given for (given,) in database.execute("SELECT given FROM texts"))
        (counted,) = database.execute("SELECT sum(texts) FROM counts").fetchone()
    sent = {json.loads(line)["id"] for line in stream.open(encoding="utf-8")}
    return {
        "kills": kills,
        "texts": total,
        "stored at each kill": moments,
        "lost": len(sent - ids.keys()),
        "doubled": sum(ids.values()) - len(ids),
        "counted": counted,
    }


def texts_of(folder: Path) -> int:
    with sqlite3.connect(folder / "monitor.sqlite", timeout=30) as database:
        return int(database.execute("SELECT count(*) FROM texts").fetchone()[0])


def with_sentences(folder: Path, texts: int = 2000) -> dict[str, Any]:
    """The rate with features of the sentence encoder."""
    options = ("--data", "demo/labelled.csv", "--features", "words", "--features", "sentences")
    command(folder, "monitor", "train", "vectors", *options)
    command(folder, "monitor", "sample", "few", "--texts", str(texts), "--seed", "6", "--labelled", "40")
    run = measured(folder, "monitor", "run", "vectors", f"few/{sample.STREAM}", "--once")
    rate = run["stored"] / run["cpu"]
    return {"texts": run["stored"], "texts per second": run["texts_per_second"], "texts per CPU second": rate}


def choose() -> None:
    """A table of settings over years that the figures do not come from."""
    years = [counted_year(seed, 100_000) for seed in CHOOSING]
    rows = []
    for slack in (0.75, 1.0, 1.25):
        for threshold in (3.0, 3.5, 4.0, 5.0):
            settings, sums = Settings(slack=slack, threshold=threshold), Counter[str]()
            for counts, rises in years:
                found = [
                    (topic, str(_day(rise.first)), str(_day(rise.last)))
                    for topic, series in counts.items()
                    for rise in detect(series, settings)
                ]
                sums.update(scored(found, rises))
            rows.append({"slack": slack, "threshold": threshold, **sums})
    report.table(rows)


def counted_year(seed: int, texts: int) -> tuple[dict[str, list[Count]], list[dict[str, Any]]]:
    """A simulated year as counts, without texts; a share of the labels is wrong."""
    simulated, draw = sample.simulate(seed, TOPICS), random.Random(seed)
    weights = sum(day.weight for day in simulated.days)
    counts: dict[str, list[Count]] = defaultdict(list)
    for day in simulated.days:
        mean = texts * day.weight / weights
        number = max(0, round(draw.gauss(mean, math.sqrt(mean))))
        share = day.negative * (1 - 2 * WRONG) + WRONG
        negative = sum(draw.random() < share for _ in range(number))
        counts[day.topic].append(Count(day.day.toordinal(), number, negative))
    return counts, [vars(rise) for rise in simulated.rises]


def _day(number: int) -> date:
    return date.fromordinal(number)


def docs() -> str:
    """The figures of the newest result, for docs/monitor.md."""
    figures = report.newest("monitor")
    if figures is None:
        return ""
    years, crash, vectors = figures["years"], figures["killed"], figures["sentences"]
    sums = Counter[str]()
    for one_year in years:
        sums.update({name: one_year[name] for name in ("rises", "found within two periods", "false alarms", "stored")})
    rate = sum(a["texts per CPU second"] for a in years) / len(years)
    lines = [
        f"Five generated years of {years[0]['stored']:,} texts, on which nothing was chosen "
        "(`python -m benchmarks.monitor`, features of words):",
        "",
        "| | |",
        "| --- | --- |",
        f"| planted rises that were alerted within two days | {sums['found within two periods']} of {sums['rises']} |",
        f"| alerts without a rise, in five years | {sums['false alarms']} |",
        f"| texts per second of CPU time, start of the program included | {rate:,.0f} |",
        f"| the same with features of the sentence encoder | {vectors['texts per CPU second']:,.0f} |",
        f"| peak of the resident memory | {figures['peak MB']:,.0f} MB |",
        f"| texts lost and doubled by {crash['kills']} kills at random moments | {crash['lost']} and {crash['doubled']} of "
        f"{crash['texts']:,} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000, help="texts of a year")
    parser.add_argument("--choose", action="store_true", help="show settings of the detector on other years")
    arguments = parser.parse_args()
    if arguments.choose:
        choose()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command(folder, "monitor", "sample", "demo", "--texts", "1", "--seed", "0")
        command(folder, "monitor", "train", "bank", "--data", "demo/labelled.csv")
        years = []
        for seed in SEEDS:
            years.append(year(folder, seed, arguments.texts))
            print(years[-1], flush=True)
        peak = used()[1]
        figures = {
            "years": years,
            "peak MB": peak,
            "killed": killed(folder, SEEDS[0]),
            "sentences": with_sentences(folder),
        }
    print(figures["killed"], figures["sentences"], f"peak {peak:,.0f} MB")
    report.save("monitor", figures, seeds=[0, *SEEDS, 6])


if __name__ == "__main__":
    main()
