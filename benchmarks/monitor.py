"""`memspan monitor` over generated years: texts per second and memory, alerts on planted rises, and a process that is killed.

Everything is measured through the commands. Each runs in a process of its own, forked from one that has imported them, so
that the seconds in which Python and torch start are not among the figures:

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
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report
from memspan import cli
from memspan.apps.monitor import sample
from memspan.apps.monitor.detection import Count, Settings, detect

SEEDS, CHOOSING = (1, 2, 3, 4, 5), range(100, 130)
LATE = 2  # periods within which a rise is to be found
LOADED = (
    "memspan.apps.monitor.heads",
    "memspan.apps.monitor.report",
    "sklearn.svm",
    "scipy.stats",
    "river.drift",
    "ruptures",
)
TOPICS = ("a", "b", "c", "d")
WRONG = 0.04  # share of wrong labels in the counts that settings are chosen on


class Ended(NamedTuple):
    """A command that has ended: what it printed, its CPU seconds, the wall time, and the peak of its resident memory in MB."""

    out: str
    cpu: float
    wall: float
    peak: float


def begun(folder: Path, *arguments: str) -> tuple[int, Any, Any]:
    """A command in a process of its own: its id, and files with what it prints."""
    out, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever reads them
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            os.dup2(out.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            code = cli.run(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)
    return child, out, errors


def command(folder: Path, *arguments: str) -> Ended:
    """Run a command; ends the program with its errors where it fails."""
    started = time.perf_counter()
    child, out, errors = begun(folder, *arguments)
    _, status, usage = os.wait4(child, 0)
    out.seek(0)
    errors.seek(0)
    if status:
        sys.exit(f"memspan {' '.join(arguments)}: {errors.read().decode()}")
    with out, errors:
        text = out.read().decode()
    return Ended(text, usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1000)


def measured(folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a command printed, with what it took."""
    ended = command(folder, *arguments, "--json")
    return {**json.loads(ended.out), "cpu": ended.cpu, "wall": ended.wall, "peak": ended.peak}


def scored(alerts: Sequence[tuple[str, str, str]], rises: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How alerts, as topic, first and last day, fit planted rises; an alert within a rise that was found is none of its own."""
    delays: dict[int, int] = {}
    false = repeated = 0
    for topic, _, last in alerts:
        day = date.fromisoformat(last)
        fitting = [
            number
            for number, rise in enumerate(rises)
            if rise["topic"] == topic and date.fromisoformat(rise["begins"]) <= day <= date.fromisoformat(rise["ends"])
        ]
        repeated += any(number in delays for number in fitting)
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
        "repeated": repeated,
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
        "report, CPU seconds": page["cpu"],
        "replay, CPU seconds": replay["cpu"],
        "peak MB": max(run["peak"], page["peak"], replay["peak"]),
        "page, kB": (folder / f"{monitor}.html").stat().st_size / 1000,
    }


def killed(folder: Path, seed: int, kills: int = 10) -> dict[str, Any]:
    """A run that is killed at random moments and then finished, compared with the stream."""
    draw, stream = random.Random(seed), folder / f"year{seed}" / sample.STREAM
    shutil.copytree(folder / "bank", folder / "killed")
    arguments = ["monitor", "run", "killed", str(stream), "--once"]
    total, moments = sum(1 for _ in stream.open("rb")), list[int]()
    for number in range(kills):
        child, *files = begun(folder, *arguments)
        goal = max(texts_of(folder / "killed") + 1, total * number // (kills + 2))
        while texts_of(folder / "killed") < goal:
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                sys.exit("The run ended before it was killed: give it more texts.")
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        moments.append(texts_of(folder / "killed"))
        if not os.WIFSIGNALED(status):
            sys.exit("The run ended before it was killed: give it more texts.")
        for file in files:
            file.close()
    command(folder, *arguments)
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
    """The rate with features of the sentence encoder.

    Vectors of texts are kept in the cache folder: a rate of texts that were seen before is no rate. The figure in the docs is
    of a run with an empty cache, the result `monitor-empty-cache`; texts of a new seed come near to it.
    """
    seed = str(int(time.time()))
    options = ("--data", "demo/labelled.csv", "--features", "words", "--features", "sentences")
    command(folder, "monitor", "train", "vectors", *options)
    command(folder, "monitor", "sample", "few", "--texts", str(texts), "--seed", seed, "--labelled", "40")
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
    years, crash, vectors = figures["years"], figures["killed"], report.newest("monitor-empty-cache")["sentences"]
    sums = Counter[str]()
    for one_year in years:
        sums.update(
            {
                name: one_year.get(name, 0)
                for name in ("rises", "found within two periods", "false alarms", "repeated", "stored")
            }
        )
    rate = sum(a["texts per CPU second"] for a in years) / len(years)
    lines = [
        f"Five generated years of {years[0]['stored']:,} texts, on which nothing was chosen "
        "(`python -m benchmarks.monitor`, features of words):",
        "",
        "| | |",
        "| --- | --- |",
        f"| planted rises that were alerted within two days | {sums['found within two periods']} of {sums['rises']} |",
        f"| alerts without a rise, in five years | {sums['false alarms']} |",
        f"| further alerts in a rise that was alerted | {sums['repeated']} |",
        f"| texts per second of CPU time: read, classified, stored | {rate:,.0f} |",
        f"| the same with features of the sentence encoder | {vectors['texts per CPU second']:,.0f} |",
        f"| peak of the resident memory, run and report | {max(a['peak MB'] for a in years):,.0f} MB |",
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
    for module in LOADED:
        import_module(module)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command(folder, "monitor", "sample", "demo", "--texts", "1", "--seed", "0")
        command(folder, "monitor", "train", "bank", "--data", "demo/labelled.csv")
        years = []
        for seed in SEEDS:
            years.append(year(folder, seed, arguments.texts))
            print(years[-1], flush=True)
        figures = {"years": years, "killed": killed(folder, SEEDS[0]), "sentences": with_sentences(folder)}
    print(figures["killed"], figures["sentences"])
    report.save("monitor", figures, seeds=[0, *SEEDS])


if __name__ == "__main__":
    main()
