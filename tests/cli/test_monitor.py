"""`memspan monitor` as a user runs it, from the sample to the page."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

for package in ("river", "ruptures", "feedparser", "watchfiles"):
    pytest.importorskip(package)

from tests.apps.monitor.conftest import bank, trained  # noqa: E402, F401 - fixtures
from tests.commands import Run  # noqa: E402


def test_from_the_sample_to_the_page(run: Run) -> None:
    assert run("monitor", "sample", "demo", "--texts", "1200", "--labelled", "200").code == 0
    done = run("monitor", "train", "bank", "--data", "demo/labelled.csv", "--period", "week")
    assert done.code == 0, done
    assert "text is 'text', topic is 'topic', sentiment is 'sentiment'" in done.err
    assert done.out.count("macro F1") == 2
    done = run("monitor", "run", "bank", "demo/stream.jsonl", "--once", "--alerts", "alerts.jsonl")
    assert done.code == 0, done
    assert "Stored 1,200 texts" in done.out
    assert "texts/s" in done.out
    assert "bank holds 1,200 texts." in done.out
    again = run("monitor", "run", "bank", "demo/stream.jsonl", "--once", "--json")
    assert json.loads(again.out)["stored"] == 0
    assert run("monitor", "train", "bank", "--data", "demo/labelled.csv", "--again").code == 0
    done = run("monitor", "report", "bank", "--output", "page.html", "--language", "zh")
    assert done.code == 0, done
    assert "舆情趋势" in Path("page.html").read_text("utf-8")
    figures = json.loads(
        run("monitor", "report", "bank", "--json").out
    )  # what was stored before is still there, by week
    assert figures["period"] == "week"
    assert figures["texts"] == 1200
    assert {topic["topic"] for topic in figures["topics"]} == {"app", "branches", "cards", "loans"}
    assert "of negative opinion" in run("monitor", "replay", "bank").out
    assert "rises" in json.loads(run("monitor", "replay", "bank", "--json").out)
    done = run("monitor", "forget", "bank", "--before", "2025-07-01")
    assert "left." in done.out
    assert json.loads(run("monitor", "report", "bank", "--json").out)["from"] >= "2025-06-30"


def test_the_classifiers_say_how_sure_they_are(bank: Path, run: Run) -> None:  # noqa: F811
    assert run("monitor", "run", "bank", "stream.jsonl", "--once").code == 0
    import sqlite3

    with sqlite3.connect(bank / "monitor.sqlite") as database:
        rows = database.execute("SELECT topic_confidence, sentiment_confidence FROM texts").fetchall()
    assert len(rows) == 400
    assert all(0.2 < value <= 1 for row in rows for value in row)
    assert len({value for row in rows for value in row}) > 50


def test_alerts_are_printed_with_their_texts_and_lines_that_are_no_texts_named(bank: Path, run: Run) -> None:  # noqa: F811
    records = []
    for day in range(30):
        for number in range(20):
            bad = number % 5 < (5 if day > 26 else 1)
            opinion = (
                "was declined at the checkout again. This is unacceptable."
                if bad
                else "works everywhere now. Well done."
            )
            when = f"2025-{1 + day // 28:02}-{1 + day % 28:02}T10:00:{number:02}Z"
            records.append(json.dumps({"time": when, "text": f"The new card {opinion}"}))
    Path("cards.jsonl").write_text("\n".join([*records, "no json", ""]), "utf-8")
    done = run("monitor", "run", "bank", "cards.jsonl", "--once", "--alerts", "alerts.jsonl")
    assert done.code == 0, done
    assert "ALERT 1: cards: 100% of" in done.out
    assert "was declined at the checkout" in done.out
    assert "1 line not used (1 is no JSON object)" in done.err
    assert "line 601 is no JSON object" in done.err
    (line,) = Path("alerts.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["topic"] == "cards"


def test_a_monitor_of_models_that_exist(bank: Path, run: Run) -> None:  # noqa: F811
    done = run("monitor", "init", "shop", "--topic", "bank/topic", "--sentiment", "bank/sentiment/best")
    assert done.code == 0, done
    assert "of negative, neutral, positive, 'negative' counts as negative" in done.out
    assert run("monitor", "run", "shop", "stream.jsonl", "--once").code == 0
    done = run("monitor", "init", "other", "--topic", "bank/topic", "--sentiment", "bank/topic")
    assert "Name it with --negative" in done.sentence
    assert not Path("other").exists()
    done = run("monitor", "init", "other", "--topic", "bank/topic", "--sentiment", "bank/topic", "--negative", "cards")
    assert done.code == 0, done


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "nothing", "stream.jsonl", "--once"], "holds no monitor"),
        (["train", "bank", "--data", "labelled.csv"], "holds a monitor already"),
        (["init", "bank", "--topic", "x", "--sentiment", "y"], "holds a monitor already"),
        (["init", "new", "--topic", "x", "--sentiment", "y"], "no run in y"),
        (["run", "bank", "absent.jsonl", "--once"], "no file or folder"),
        (["run", "bank", "-", "stream.jsonl"], "or --once"),
        (["run", "bank", "stream.jsonl", "--once", "--webhook", "nowhere"], "must be an address"),
        (["report", "bank"], "holds no texts"),
        (["report", "bank", "--language", "fr"], "must be one of en, zh"),
        (["forget", "bank", "--before", "soon"], "--before must be a date"),
        (["train", "new", "--data", "labelled.csv", "--keep", "5"], "--keep must be at least 29 days"),
        (["train", "new", "--data", "labelled.csv", "--period", "year"], "one of hour, day, week"),
        (["train", "new", "--data", "plain.csv"], "no column whose name says that it holds the topic"),
        (["train", "new", "--data", "labelled.csv", "--negative", "awful"], "must be one of the sentiments"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], sentence: str, bank: Path, run: Run, trained: Path) -> None:  # noqa: F811
    Path("labelled.csv").write_bytes((trained.parent / "demo" / "labelled.csv").read_bytes())
    Path("plain.csv").write_text("text,length\nyes,3\nno,2\n", "utf-8")
    done = run("monitor", *arguments)
    assert sentence in done.err
    assert done.code == 2, done
    assert not Path("new", "monitor.sqlite").exists()


@pytest.mark.slow
def test_a_watched_folder_is_read_as_it_grows_and_stops_in_order(bank: Path, run: Run) -> None:  # noqa: F811
    (bank.parent / "inbox").mkdir()
    command = [sys.executable, "-m", "memspan", "monitor", "run", "bank", "inbox"]
    process = subprocess.Popen(command, cwd=bank.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "watching for texts" in process.stderr.readline()
        (bank.parent / "inbox" / "a.jsonl").write_text('{"id": 1, "text": "The new card is great"}\n', "utf-8")
        _wait_for(bank, 1)
        with (bank.parent / "inbox" / "a.jsonl").open("a") as file:
            file.write('{"id": 2, "text": "The app crashes"}\n')
        _wait_for(bank, 2)
        busy = run("monitor", "run", "bank", "stream.jsonl", "--once")
        assert "Another process is writing" in busy.sentence
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted: Stored 2 texts" in errors
    assert "Traceback" not in errors


def _wait_for(bank: Path, texts: int) -> None:  # noqa: F811
    from memspan.apps.monitor.store import Store

    for _ in range(600):
        with Store(bank) as store:
            if store.texts == texts:
                return
        time.sleep(0.1)
    pytest.fail("the text did not arrive")
