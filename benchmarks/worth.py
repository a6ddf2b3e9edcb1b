"""What a memory over the segments of long texts is worth: with it, its twin without, and the best without any memory.

    python -m benchmarks.worth
    python -m benchmarks.worth --only reviews --seeds 1

Each row is a run of `memspan compare --task classification --features ... --mechanism ...`: the twin has the same features, the
same parameters and as much training, and reads the first segment alone. Film reviews: NLTK's, whole, a tenth held out by
three seeds. Calls: turns of real meetings (QMSum), 2 to 3 pages a text, into which real requests (CLINC150, 12 intents) were
put, spoken by whoever spoke before; the label is the intent of the first of three requests, or of the only one, each at an
unknown place. Meetings and requests of the held-out calls are those of the test parts. Settings were chosen on the training
parts.
"""

import argparse
import csv
import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report
from benchmarks.summary import markdown

DATA = report.DATA
FOLDER = report.ROOT / "build" / "worth"
INTENTS = (
    *("book_flight", "lost_luggage", "car_rental", "pay_bill", "report_fraud", "replacement_card_duration"),
    *("restaurant_reservation", "recipe", "weather", "oil_change_how", "pto_request", "travel_alert"),
)
WORDS = 800  # of the meeting in a call
CALLS = {"train": 1200, "test": 400}
MEETINGS = {"train": "ALL_train_from_per_meeting_json.jsonl.gz", "test": "ALL_test.jsonl"}


class Row(NamedTuple):
    """A kind of data: its name in the table, and the options of the command."""

    name: str
    options: tuple[str, ...]


def _options(features: str, mechanism: str, *settings: str) -> tuple[str, ...]:
    kinds = [part for kind in features.split() for part in ("--features", kind)]
    return (*kinds, "--mechanism", mechanism, *[part for each in settings for part in ("--task-settings", each)])


def _calls(requests: int) -> tuple[str, ...]:
    train, test = (str(FOLDER / f"calls-{requests}-{part}.csv") for part in CALLS)
    return ("--data", train, *_options("words sentences", "gru", f"test={test}", "segment=64"))


REVIEWS = ("--data", str(DATA / "nltk_sentiment" / "movie_reviews.zip"))
ROWS = {
    "calls-first": Row("calls, the first of three requests", _calls(3)),
    "calls-only": Row("calls, the only request", _calls(1)),
    "reviews": Row("film reviews", (*REVIEWS, *_options("words states sentences", "gru", "format=labelled_folders"))),
}


def write_calls(requests: int) -> None:
    """The calls as tables of texts and labels, the same at each call of this function."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    utterances = json.loads(report.needs(DATA / "clinc150" / "data_full.json").read_text("utf-8"))
    for part, count in CALLS.items():
        draw = random.Random(f"{part} {requests}")
        meetings = _meetings(report.needs(DATA / "qmsum" / MEETINGS[part]))
        known = {intent: [text for text, label in utterances[part] if label == intent] for intent in INTENTS}
        with (FOLDER / f"calls-{requests}-{part}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            for _ in range(count):
                intents = draw.sample(INTENTS, requests)
                turns = _stretch(draw.choice(meetings), draw)
                for intent, at in zip(intents, _places(len(turns), requests, draw), strict=True):
                    turns.insert(at, f"{turns[at - 1].partition(':')[0]}: {draw.choice(known[intent])}")
                rows.writerow(["\n".join(turns), intents[0]])


def _meetings(path: Path) -> list[list[str]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    meetings = [json.loads(line)["meeting_transcripts"] for line in data.decode("utf-8").split("\n") if line.strip()]
    return [[f"{turn['speaker']}: {turn['content']}" for turn in meeting] for meeting in meetings]


def _stretch(meeting: list[str], draw: random.Random) -> list[str]:
    """Turns in a row, from a random one on, of WORDS words or a little more."""
    start = draw.randrange(len(meeting))
    turns: list[str] = []
    for turn in (meeting[start:] + meeting[:start])[: len(meeting)]:
        turns.append(turn)
        if sum(len(each.split()) for each in turns) >= WORDS:
            break
    return turns


def _places(turns: int, requests: int, draw: random.Random) -> list[int]:
    """Where the requests are inserted one after the other, in order, none before the first turn."""
    return [at + before for before, at in enumerate(sorted(draw.choices(range(1, turns + 1), k=requests)))]


def measure(row: Row, seeds: int) -> dict[str, Any]:
    words = ["compare", "--task", "classification", *row.options, "--seeds", str(seeds)]
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "memspan", *words, "--json"], capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        sys.exit(f"{row.name}: {done.stderr.strip()[-2000:]}")
    shown = " ".join(word.replace(str(DATA), "../shared/data").replace(f"{report.ROOT}/", "") for word in words)
    return {
        "data": row.name,
        "command": f"memspan {shown}",
        "seconds": time.perf_counter() - begun,
        **json.loads(done.stdout),
    }


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each kind of data: the mean over the seeds, and the mean 95 % interval over the texts of a seed."""
    lines = []
    for result in found.values():
        memory, twin = (_cell(result, side["name"], side["mean"]) for side in result["contenders"])
        (mean,) = (name for name in result["baselines"] if "same features" in name)
        plain = max(result["baselines"].keys() - {mean}, key=result["baselines"].get)
        lines.append(
            {
                "data": result["data"],
                "metric": result["metric"],
                "with the memory": memory,
                "its twin": twin,
                "best plain baseline": f"{plain} {_cell(result, plain, result['baselines'][plain])}",
                "mean over segments": _cell(result, mean, result["baselines"][mean]),
            }
        )
    return lines


def _cell(result: Mapping[str, Any], name: str, mean: float) -> str:
    low, high = result["intervals"][name]
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def docs() -> str:
    """The table in the docs, made from the newest result file."""
    found = report.newest("worth")
    if found is None:
        return "Not measured yet."
    lines = rows(found["rows"])
    return markdown(list(lines[0]), [list(map(str, line.values())) for line in lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(ROWS), default=list(ROWS), metavar="DATA")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for requests in (1, 3):
        write_calls(requests)
    for name in options.only:
        measured = measure(ROWS[name], options.seeds)
        found = {**(report.newest("worth") or {"rows": {}})["rows"], name: measured}
        report.save("worth", {"rows": found}, seeds=range(options.seeds))
        report.table(rows({name: found[name]}))


if __name__ == "__main__":
    main()
