"""`memspan recommend` on MovieLens: the next film, films that nobody has seen yet, reasons and diversity.

    python -m benchmarks.recommend_program                       # three dates: about twenty minutes of CPU time on one core
    python -m benchmarks.recommend_program --held-out 0.2

The folder is built by the command; each date is what `memspan recommend eval` measures, with the newest tenth, fifth and three
tenths of the events held out, and another tenth of the films hidden each time. Settings were chosen on the events before all of
these dates. What was measured of dates before is kept, so that they can be measured in turn.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import report
from memspan.apps.recommend.evaluation import evaluate
from memspan.apps.recommend.store import Store
from memspan.cli import run

DATA = report.DATA / "movielens_latest_small"
HELD_OUT = (0.1, 0.2, 0.3)
NAME = "recommend-program"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=float, nargs="*", default=HELD_OUT, metavar="SHARE")
    parser.add_argument("--network", type=float, default=100.0, metavar="SECONDS", help="CPU time of the network")
    parser.add_argument("--go-on", action="store_true", help="keep the dates of the newest result file")
    options = parser.parse_args()
    report.needs(DATA)
    found: dict[str, Any] = (report.newest(NAME) or {}).get("dates", {}) if options.go_on else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "films")
        begun = time.process_time()
        tables = ("--events", str(DATA / "ratings.csv"), "--items", str(DATA / "movies.csv"))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = run(["recommend", "build", str(folder), *tables])
        if code:
            sys.exit("The folder was not built.")
        built = {"printed": printed.getvalue().replace(scratch, ""), "CPU seconds": time.process_time() - begun}
        store = Store.open(folder)
        for share in options.held_out:
            begun = time.process_time()
            measured = asdict(evaluate(store, share, options.network, seed=HELD_OUT.index(share)))
            found[str(share)] = {**measured, "CPU seconds": time.process_time() - begun}
            report.save(NAME, {"built": built, "network seconds": options.network, "dates": found}, seeds=[0, 1, 2])
            report.table(table(found))


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each date and method."""
    return [
        {
            "held out": share,
            "events": measured["events"]["predicted"],
            "method": name,
            "NDCG@10": f"{method['ndcg']:.3f}",
            "95 % interval": "{:.3f} to {:.3f}".format(*method["interval"]),
            "Recall@10": f"{method['recall']:.3f}",
            "coverage": f"{method['coverage']:.3f}",
            "novelty": f"{method['novelty']:.1f}",
            "memspan ahead by": "" if method["behind"] is None else "{:+.3f} to {:+.3f}".format(*method["behind"]),
        }
        for share, measured in sorted(found.items())
        for name, method in measured["methods"].items()
    ]


def docs() -> str:
    """The tables of docs/recommend.md, from the newest result."""
    figures = report.newest(NAME)
    if figures is None:
        return "Not measured yet: `python -m benchmarks.recommend_program`."
    found = figures["dates"]
    rows = table(found)
    lines = [" | ".join(["", *rows[0], ""]).strip(), " | ".join(["", *("---" for _ in rows[0]), ""]).strip()]
    lines += [" | ".join(["", *(str(value) for value in row.values()), ""]).strip() for row in rows]
    lines += [
        "",
        "| held out | new films, events | memspan | texts alone | popularity | reasons: rank changes | without another event |",
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for share, measured in sorted(found.items()):
        new, reasons = measured["new_items"], measured["reasons"]
        lines.append(
            f"| {share} | {new['items']:.0f}, {new['questions']:.0f} | {new['memspan']:.3f} ({new['from']:.3f} to "
            f"{new['to']:.3f}) | {new['texts alone']:.3f} | {new['popularity']:.3f} | {reasons['changed']:.3f} of "
            f"{reasons['items']:.0f} | {reasons['changed without a random event']:.3f} |"
        )
    lines += ["", "| held out | --diversity | NDCG@10 | similarity of two films |", "| --- | --- | --- | --- |"]
    for share, measured in sorted(found.items()):
        lines += [
            f"| {share} | {setting} | {values['NDCG@10']:.3f} | {values['similarity']:.3f} |"
            for setting, values in measured["diversity"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
