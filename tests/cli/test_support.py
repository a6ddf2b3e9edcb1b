"""`memspan support`, as a user runs it: from the sample to a person's answer."""

import json
from pathlib import Path

from tests.commands import Run

BUILD = (
    *("support", "build", "shop", "--knowledge", "data/knowledge", "--dialogues", "data/dialogues.csv"),
    *("--templates", "data/templates.csv", "--hand-over", "person", "--features", "words"),
)


def test_the_whole_path(run: Run, tmp_path: Path) -> None:
    assert "knowledge: data/knowledge" in run("support", "sample", "data").out
    built = run(*BUILD)
    assert built.code == 0, built
    assert "message is 'message'" in built.err
    assert "1 of 111 rows of data/dialogues.csv are not used: row 112 has no message." in built.err
    assert "shop holds 9 documents, 39 past answers and 7 intents." in built.out
    person = run("support", "reply", "shop", "I want to talk to a person.", "--customer", "ada", "--json")
    assert json.loads(person.out)["hand_over"] == 1
    waiting = json.loads(run("support", "queue", "shop", "--json").out)["queue"]
    assert [(question["id"], question["customer"]) for question in waiting] == [(1, "ada")]
    assert "> I want to talk to a person." in run("support", "queue", "shop").out
    kept = run("support", "answer", "shop", "1", "Here I am, on 0800 999 888.")
    assert kept.out == "Kept for ada.\n"
    assert "It will be given to nobody else" in kept.err
    chat = run("support", "chat", "shop", "--customer", "ada", stdin="Please cancel order 48213.\n\nWhere is it?\n")
    lines = chat.out.splitlines()
    assert lines[0] == "A colleague has answered your question (number 1): Here I am, on 0800 999 888."
    assert lines[1].startswith("Order 48213 can be cancelled under My orders")
    assert lines[2].startswith("  template, intent cancel_order (")
    measured = json.loads(run("support", "eval", "shop", "--data", "data/test.csv", "--limit", "3", "--json").out)
    assert measured["intent accuracy"]["n"] == 19
    assert "hand-over rate" in run("support", "eval", "shop", "--data", "data/test.csv", "--limit", "0").out
    assert run("support", "forget", "shop", "--customer", "ada").out.startswith("Forgot ada: 3 turns, 1 question, ")
    assert run("support", "queue", "shop", "--answered").out == "No question waits for a person.\n"
    (tmp_path / "words.txt").write_text("my orders\n", "utf-8")
    guarded = (
        "support",
        "reply",
        "shop",
        "Please cancel order 48213.",
        "--customer",
        "bob",
        "--guard",
        "words=words.txt",
    )
    withheld = json.loads(run(*guarded, "--json").out)
    assert withheld["kind"] == "hand-over"
    assert withheld["reason"] == "the reply is withheld: it holds a word of words.txt"
    assert "My orders" not in json.dumps(withheld)


def test_mistakes_are_sentences(run: Run, tmp_path: Path) -> None:
    assert "is no support folder" in run("support", "queue", "nowhere").sentence
    assert "is no support folder" in run("support", "reply", "nowhere", "Hello", "--customer", "ada").sentence
    assert run("support", "sample", "data").code == 0
    assert "must be a new or an empty folder" in run("support", "sample", "data").sentence
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("Dear diary", "utf-8")
    elsewhere = ("support", "build", "notes", *BUILD[3:])
    assert "holds something else than a support folder" in run(*elsewhere).sentence
    assert "--map must be like message=COLUMN" in run(*BUILD, "--map", "body").sentence
    assert "no column 'body'" in run(*BUILD, "--map", "message=body").sentence
    assert not (tmp_path / "shop").exists()


def test_what_a_server_needs(run: Run, tmp_path: Path) -> None:
    assert "needs keys" in run("support", "serve", "shop", "--host", "0.0.0.0").sentence
    assert "--channel names an owner" in run("support", "serve", "shop", "--channel", "website").sentence
    assert "is no support folder" in run("support", "serve", "shop").sentence
