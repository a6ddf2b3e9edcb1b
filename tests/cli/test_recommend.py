"""`memspan recommend`, as a user runs it: from the sample to what it is worth."""

import json
from pathlib import Path

from tests.commands import Run

BUILD = (
    "recommend",
    "build",
    "library",
    "--events",
    "data/events.csv",
    "--items",
    "data/books.csv",
    "--encoder",
    "none",
)
USER = ("--user", "reader 07")


def test_the_whole_path(run: Run) -> None:
    assert "events: data/events.csv" in run("recommend", "sample", "data").out
    built = run(*BUILD)
    assert built.code == 0, built
    assert "user is 'reader', item is 'book', time is 'time', rating is 'rating', type is 'event'" in built.err
    assert (
        "1 of 1,312 rows of data/events.csv are not used: row 1313 has a time that is no time: some day." in built.err
    )
    assert "library holds 80 users, 1,311 events and 96 items: 79 learned, 17 new." in built.out
    shown = run("recommend", "for", "library", *USER, "--top", "3")
    lines = shown.out.splitlines()
    assert lines[0].startswith(" 1. ")
    assert lines[1].startswith("    because of ")
    later = ("recommend", "add", "library", "--events", "data/later.csv", "--items", "data/new-books.csv")
    assert run(*later).out == "Added 146 events of 25 users and 8 items; 0 events known before.\n"
    assert json.loads(run(*later, "--json").out)["known"] == 146
    answer = run("recommend", "for", "library", *USER, "--top", "4", "--new", "1", "--diversity", "0.3", "--json")
    found = json.loads(answer.out)["items"]
    assert [item["is_new"] for item in found] == [False, False, False, True]
    assert found[0]["reason"]["rank_without"] > found[0]["reason"]["rank"]
    like = json.loads(run("recommend", "for", "library", "--like", "a gambit of pawns", "--top", "1", "--json").out)
    assert like["items"][0]["item"].startswith("chess")
    assert run("recommend", "forget", "library", *USER).out == "Forgot reader 07: 12 events.\n"
    measured = json.loads(run("recommend", "eval", "library", "--network", "0.5", "--json").out)
    values = {name: method["ndcg"] for name, method in measured["methods"].items()}
    assert set(values) == {"memspan", "popularity", "item-kNN", "BPR", "attention network"}
    assert values["memspan"] == max(values.values())
    assert measured["reasons"]["changed"] > measured["reasons"]["changed without a random event"]
    assert measured["diversity"]["0.6"]["similarity"] < measured["diversity"]["0"]["similarity"]
    assert run("recommend", "build", "library", "--encoder", "none").out.startswith(
        "library holds 79 users, 1,445 events"
    )


def test_mistakes_are_sentences(run: Run, tmp_path: Path) -> None:
    assert "is no recommend folder" in run("recommend", "for", "nowhere").sentence
    assert "is no recommend folder" in run("recommend", "eval", "nowhere").sentence
    assert "A new folder needs events" in run("recommend", "build", "library").sentence
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("Dear diary", "utf-8")
    (tmp_path / "few.csv").write_text("user,item,time,rating\na,b,1,5\n", "utf-8")
    assert "holds something else" in run("recommend", "build", "notes", "--events", "few.csv").sentence
    assert (
        "--weight must be like" in run("recommend", "build", "library", "--events", "few.csv", "--weight", "x").sentence
    )
    assert (
        "--map must be like user=COLUMN"
        in run("recommend", "build", "library", "--events", "few.csv", "--map", "x").sentence
    )
    few = run("recommend", "build", "library", "--events", "few.csv")
    assert "take more events, or a smaller --min-events" in few.err
    assert few.code == 2
    assert not (tmp_path / "library").exists()
