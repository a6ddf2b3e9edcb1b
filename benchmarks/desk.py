"""Long documents at the desk: summaries about a question, of a book, and a translation that is killed and called again.

    python -m benchmarks.desk                                   # meetings and the book: minutes of CPU time on one core
    python -m benchmarks.desk --only book translation --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Meetings: QMSum's test part; every question is answered in 71 words, the mean of the validation part. Beside sentences of the
whole meeting stand the first 71 words, sentences chosen in the same way from the last 2,560 characters (about 640 tokens), and,
for the first meetings alone, the first 71 words of the passages that a memory finds. Nothing was chosen on these meetings.
Book: one command; a citation resolves if the sentence stands in the file, begins in the line that is named, and the chapter that
is named is the last one before it. Translation: a chapter, by a
server with rules in place of a model, or a shorter one by a GGUF file, killed after some units and called again.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import memspan
from benchmarks import report
from memspan.apps.desk.summary import extract, overview_of
from memspan.apps.desk.wish import Wish
from memspan.apps.desk.work import Work
from memspan.data import corpora
from memspan.data.documents import open_documents
from memspan.data.scripts import words
from memspan.pretrained import encoders
from memspan.tasks import metrics
from tests.apps.desk.engine import engine, translator
from tests.servers import serving

PARTS = ("meetings", "book", "translation")
BOOK = "gutenberg_en/pg84.txt"
WINDOW = 2_560  # characters
STOP_AFTER = 10  # requests to a server
SAVED = 5  # meetings after which the figures so far are saved
CHAPTER = """The harbour was quiet in the morning.

Anna opened the door of her shop.

A ship from the north had arrived.

The captain asked for bread and salt.

Anna gave him both.
"""


def meetings(limit: int, recalled: int) -> None:
    """ROUGE-L of summaries about questions, and of what stands beside them; saved after every few meetings."""
    data = report.DATA / "qmsum"
    chosen = corpora.qmsum(report.needs(data / "ALL_val.jsonl"))
    length = round(sum(len(words(record["summary"])) for record in chosen) / len(chosen))
    records = corpora.qmsum(report.needs(data / "ALL_test.jsonl"))
    texts = list(dict.fromkeys(record["text"] for record in records))[:limit]
    encoder: Any = encoders.load("minilm")
    rows: dict[str, list[float]] = {name: [] for name in ("desk", "first words", "window's end", "recalled")}
    begun = time.process_time()
    for number, text in enumerate(texts, start=1):
        with (
            tempfile.TemporaryDirectory() as folder,
            Work(Path(folder, "all")) as work,
            Work(Path(folder, "end")) as end,
        ):
            whole = overview_of(document(folder, "meeting.txt", text), work, encoder)
            last = overview_of(document(folder, "end.txt", text[-WINDOW:]), end, encoder)
            for record in (record for record in records if record["text"] == text):
                wish = Wish(record["question"], length)
                rows["desk"].append(score(record, said(extract("meeting.txt", whole, wish))))
                rows["first words"].append(score(record, first(text, length)))
                rows["window's end"].append(score(record, said(extract("end.txt", last, wish))))
        print(f"meeting {number}: {len(rows['desk'])} questions, {time.process_time() - begun:.0f} s", flush=True)
        if number % SAVED == 0 or number == len(texts):
            save("meetings", compared(rows, length, number, 0))
    lm = memspan.load_model("smollm2") if recalled else None
    for number, text in enumerate(texts[:recalled], start=1):
        memory = lm.read(text) if lm is not None else None
        for record in (record for record in records if record["text"] == text):
            found = lm.search(memory, record["question"], top=4) if lm is not None and memory is not None else []
            rows["recalled"].append(score(record, first(" ".join(each.text for each in found), length)))
        save("meetings", compared(rows, length, len(texts), number))


def compared(rows: dict[str, list[float]], length: int, count: int, recalled: int) -> dict[str, Any]:
    """The means, and by how much the desk is ahead of each of the others on the same questions."""
    figures = {name: mean(values) for name, values in rows.items() if values}
    for name, values in rows.items():
        if name != "desk" and values:
            figures[f"ahead of {name}"] = mean(np.subtract(rows["desk"][: len(values)], values).tolist())
    report.table([{"text": name, **row} for name, row in figures.items()])
    return {"words": length, "meetings": count, "recalled meetings": recalled, "ROUGE-L": figures}


def document(folder: str, name: str, text: str) -> Any:
    path = Path(folder, name)
    path.write_text(text, "utf-8")
    (found,) = open_documents([path])
    return found


def said(summary: Any) -> str:
    """The sentences of a summary without their marks."""
    return " ".join(statement.text for statement in summary.statements)


def first(text: str, length: int) -> str:
    return " ".join(words(text)[:length])


def score(record: Mapping[str, Any], summary: str) -> float:
    return float(metrics.rouge([[record["summary"]]], [summary])["ROUGE-L"])


def mean(values: list[float]) -> dict[str, Any]:
    """The mean of values and its 95 % interval."""
    spread = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    middle = float(np.mean(values))
    return {"mean": middle, "low": middle - spread, "high": middle + spread, "n": len(values)}


def book() -> dict[str, Any]:
    """Time, memory and citations of one command on a book, and of the same command again."""
    path = report.needs(report.DATA / BOOK)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "summary.json")
        command = ["summarise", str(path), "--words", "300", "--json", "--output", str(output)]
        runs = [measured(command), measured(command)]
        summary = json.loads(output.read_text("utf-8"))
        about = ["--about", "Why does the creature want a companion?"]
        runs.append(measured([*command, *about]))
        asked = json.loads(output.read_text("utf-8"))
    lines = path.read_text("utf-8-sig").split("\n")
    cited = [each for record in (summary, asked) for each in record["citations"]]
    right = sum(resolves(each, lines) for each in cited)
    low, high = report.interval(right, len(cited))
    return {
        "book": path.name,
        "bytes": path.stat().st_size,
        "first run, again, another question": runs,
        "citations": len(cited),
        "that resolve": right,
        "share": right / len(cited),
        "low": low,
        "high": high,
        "summary": summary["text"],
        "answer": asked["text"],
    }


def measured(command: list[str]) -> dict[str, float]:
    """Seconds and peak memory of a command in a process of its own."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "memspan", *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - begun, "cpu seconds": cpu, "peak GB so far": after.ru_maxrss * 1024 / 1e9}


def resolves(cited: dict[str, Any], lines: list[str]) -> bool:
    """Whether a sentence stands where its citation says, by the lines of the file alone."""
    here = " ".join(" ".join(lines[cited["line"] - 1 : cited["line"] + 60]).split())
    begins = " ".join(lines[cited["line"] - 1].split())
    chapters = [
        line.strip() for line in lines[: cited["line"]] if re.fullmatch(r"(?:Chapter|Letter) \d+", line.strip())
    ]
    return cited["text"] in here and here.index(cited["text"]) < len(begins) and chapters[-1:] == [cited["chapter"]]


def translation(gguf: str | None) -> dict[str, Any]:
    """Whether a translation that was killed and called again is that of a run at once."""
    reached, released, answered = threading.Event(), threading.Event(), list[str]()

    def waits(messages: list[dict[str, str]]) -> str:
        if len(answered) == STOP_AFTER:
            reached.set()
            released.wait()
        answered.append(messages[-1]["content"])
        return translator(messages)

    with serving(engine(waits)) as server:
        return killed_and_resumed(gguf or server.url, answered, reached, released)


def killed_and_resumed(
    target: str, answered: list[str], reached: threading.Event, released: threading.Event
) -> dict[str, Any]:
    """A translation by an engine that is killed after some units, called again, and run at once.

    Args:
        answered: what the server has answered so far; a file counts nothing, and is killed once it has kept three units.
        reached: is set when the server waits to be let go on by `released`.
    """
    chapter = first_letter() if "://" in target else CHAPTER
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chapter.txt")
        path.write_text(chapter, "utf-8")
        command = ["translate", str(path), "--to", "French", "--answer-with", target, "--output"]
        process = subprocess.Popen([sys.executable, "-m", "memspan", *command, f"{folder}/killed.txt"])
        work, changes, last = Path(folder, "killed.txt.work", "work.sqlite"), 0, 0
        while changes < 4 and not reached.is_set() and process.poll() is None:  # the tables, and three units
            time.sleep(0.002)
            now = work.stat().st_mtime_ns if "://" not in target and work.exists() else 0
            changes, last = changes + (now != last), now
        process.send_signal(signal.SIGKILL)
        process.wait()
        released.set()
        while reached.is_set() and len(answered) == STOP_AFTER:  # the request that the kill left behind
            time.sleep(0.01)
        counts, was_written = [len(answered)], os.path.exists(f"{folder}/killed.txt")
        runs = {}
        for name in ("killed", "whole"):
            runs[name] = measured([*command, f"{folder}/{name}.txt"])
            counts.append(len(answered))
        texts = [Path(folder, f"{name}.txt").read_text("utf-8") for name in ("killed", "whole")]
    return {
        "engine": "a server on the loopback interface" if "://" in target else Path(target).name,
        "characters": len(chapter),
        "output before it was whole": was_written,
        "same": texts[0] == texts[1],
        "paragraphs kept": texts[1].count("\n\n") == chapter.count("\n\n"),
        "requests before the kill, after it, at once": [counts[0], counts[1] - counts[0], counts[2] - counts[1]],
        "runs": runs,
    }


def first_letter() -> str:
    """The first letter of Frankenstein."""
    text = report.needs(report.DATA / BOOK).read_text("utf-8-sig")
    begin = text.index("\nLetter 1\n\n_To Mrs")
    return text[begin + 1 : text.index("\nLetter 2\n", begin)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--meetings", type=int, default=35)
    parser.add_argument("--recalled", type=int, default=2, help="meetings that are also read into a memory")
    parser.add_argument("--gguf", help="file of a model that translates (default: a server with rules)")
    chosen = parser.parse_args()
    if "book" in chosen.only:
        save("book", book())
    if "translation" in chosen.only:
        save("translation", translation(chosen.gguf))
    if "meetings" in chosen.only:
        meetings(chosen.meetings, chosen.recalled)


def save(part: str, figures: dict[str, Any]) -> None:
    """Writes the figures of a part beside the newest ones of the others."""
    print(json.dumps(figures, ensure_ascii=False), flush=True)
    report.save("desk", {**(report.newest("desk") or {}), part: figures}, seeds=[])


if __name__ == "__main__":
    main()
