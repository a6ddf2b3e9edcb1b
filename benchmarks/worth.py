"""What a memory over the segments of long texts is worth: with it, its twin without, and the best without any memory.

    python -m benchmarks.worth
    python -m benchmarks.worth --only reviews --seeds 1

Each row is a run of `memspan compare --task classification --features ... --mechanism ...`: the twin has the same features, the
same parameters and as much training, and reads the first segment alone. Film reviews: NLTK's, whole, a tenth held out by
three seeds. Calls: turns of real meetings (QMSum) into which real requests (CLINC150, 6 intents) were put, spoken by whoever spoke before; the label is the intent of the first of three requests, or of the only one, each at an
unknown place. Meetings and requests of the held-out calls are those of the test parts. Settings were chosen on the training
parts.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks import report
from benchmarks.summary import markdown

DATA = report.DATA
FOLDER = report.ROOT / "build" / "worth"
INTENTS = ("book_flight", "report_fraud", "recipe", "pto_request", "oil_change_how", "weather")
CALLS = {"train": 1200, "test": 400}
MEETINGS = {"train": "ALL_train_from_per_meeting_json.jsonl.gz", "test": "ALL_test.jsonl"}


class Row(NamedTuple):
    """A kind of data: its name in the table, and the options of the command."""

    name: str
    options: tuple[str, ...]


def _options(features: str, mechanism: str, *settings: str) -> tuple[str, ...]:
    kinds = [part for kind in features.split() for part in ("--features", kind)]
    return (*kinds, "--mechanism", mechanism, *[part for each in settings for part in ("--task-settings", each)])


def _calls(requests: int, words: int) -> tuple[str, ...]:
    train, test = (str(_calls_path(requests, words, part)) for part in CALLS)
    return ("--data", train, *_options("words sentences", "attention", f"test={test}", "segment=32", FORMAT))


def _calls_path(requests: int, words: int, part: str) -> Path:
    return FOLDER / f"calls-{requests}-{words}-{part}.zip"


FORMAT = "format=labelled_folders"
REVIEWS = ("--data", str(DATA / "nltk_sentiment" / "movie_reviews.zip"))
MADE = {"calls-first": (3, 500), "calls-only": (1, 500), "calls-long": (3, 3000)}  # requests, and words of the meeting
ROWS = {
    "calls-first": Row("calls of 500 words, the first of three requests", _calls(*MADE["calls-first"])),
    "calls-long": Row("calls of 3,000 words, the first of three requests", _calls(*MADE["calls-long"])),
    "calls-only": Row("calls of 500 words, the only request", _calls(*MADE["calls-only"])),
    "reviews": Row("film reviews", (*REVIEWS, *_options("words states sentences", "gru", FORMAT))),
    "reviews-sentences": Row(
        "film reviews, no states of SmolLM2", (*REVIEWS, *_options("words sentences", "gru", FORMAT))
    ),
}


def write_calls(requests: int, words: int) -> None:
    """The calls as archives with a folder for each label, the same at each call of this function."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    utterances = json.loads(report.needs(DATA / "clinc150" / "data_full.json").read_text("utf-8"))
    for part, count in CALLS.items():
        draw = random.Random(f"{part} {requests} {words}")
        meetings = _meetings(report.needs(DATA / "qmsum" / MEETINGS[part]))
        known = {intent: [text for text, label in utterances[part] if label == intent] for intent in INTENTS}
        with zipfile.ZipFile(_calls_path(requests, words, part), "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(count):
                intents = draw.sample(INTENTS, requests)
                turns = _stretch(draw.choice(meetings), words, draw)
                for intent, at in zip(intents, _places(len(turns), requests, draw), strict=True):
                    turns.insert(at, f"{turns[at - 1].partition(':')[0]}: {draw.choice(known[intent])}")
                archive.writestr(f"{intents[0]}/{number:04}.txt", "\n".join(turns))


def _meetings(path: Path) -> list[list[str]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    meetings = [json.loads(line)["meeting_transcripts"] for line in data.decode("utf-8").split("\n") if line.strip()]
    return [[f"{turn['speaker']}: {turn['content']}" for turn in meeting] for meeting in meetings]


def _stretch(meeting: list[str], words: int, draw: random.Random) -> list[str]:
    """Turns in a row, from a random one on, of so many words or a little more, or the whole meeting."""
    start = draw.randrange(len(meeting))
    turns: list[str] = []
    for turn in (meeting[start:] + meeting[:start])[: len(meeting)]:
        turns.append(turn)
        if sum(len(each.split()) for each in turns) >= words:
            break
    return turns


def _places(turns: int, requests: int, draw: random.Random) -> list[int]:
    """Where the requests are inserted one after the other, in order, none before the first turn."""
    return [at + before for before, at in enumerate(sorted(draw.choices(range(1, turns + 1), k=requests)))]


def measure(row: Row, seed: int) -> dict[str, Any]:
    """What the command found with one seed."""
    words = ["compare", "--task", "classification", *row.options, "--seeds", "1", "--seed", str(seed)]
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "memspan", *words, "--json"], capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        sys.exit(f"{row.name}: {done.stderr.strip()[-2000:]}")
    shown = " ".join(word.replace(str(DATA), "../shared/data").replace(f"{report.ROOT}/", "") for word in words)
    return {"command": f"memspan {shown}", "seconds": time.perf_counter() - begun, **json.loads(done.stdout)}


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kind of data: the mean over the seeds, and the mean 95 % interval over the texts of a seed."""
    lines = []
    for name, of_seeds in found.items():
        results = list(of_seeds.values())
        baselines = results[0]["baselines"]
        (mean,) = (each for each in baselines if "same features" in each)
        best = max(baselines.keys() - {mean}, key=lambda each: fmean(result["baselines"][each] for result in results))
        memory, twin = (_cell(results, side["name"]) for side in results[0]["contenders"])
        lines.append(
            {
                "texts": ROWS[name].name,
                "seeds": len(results),
                "metric": results[0]["metric"],
                "memory": f"{results[0]['contenders'][0]['name']} {memory}",
                "twin": twin,
                "plain baseline": f"{best} {_cell(results, best)}",
                "mean over segments": _cell(results, mean),
            }
        )
    return lines


def _cell(results: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [
        {**{side["name"]: side["mean"] for side in result["contenders"]}, **result["baselines"]}[name]
        for result in results
    ]
    low, high = (fmean(result["intervals"][name][end] for result in results) for end in (0, 1))
    return f"{fmean(values):.3f} ({low:.3f} to {high:.3f})"


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
    for name in options.only:
        if name in MADE:
            write_calls(*MADE[name])
        for seed in range(options.seeds):
            measured = measure(ROWS[name], seed)
            found = dict((report.newest("worth") or {"rows": {}})["rows"])
            found[name] = {**found.get(name, {}), str(seed): measured}
            report.save("worth", {"rows": found}, seeds=range(options.seeds))
            report.table(rows({name: found[name]}))


if __name__ == "__main__":
    main()
