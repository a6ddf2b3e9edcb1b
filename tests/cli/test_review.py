"""`--guard`, `--review` and `memspan review`, as a user runs them: from a withheld answer to a correction that is found."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from memspan import load_memory, plugins
from tests.commands import Run
from tests.servers import completion, dialect, serving

QUESTION = ("library", "Where does the zinc trunk stand?")
ADDRESS = "ann@example.org"
GUARD = """
import memspan

class NoTrunk(memspan.Guard):
    def reason(self, question, answer, passages):
        assert passages, "there is nothing behind this answer"
        return f"we do not speak of trunks ({len(passages) > 0})" if "trunk" in answer else None

memspan.register("no_trunk", NoTrunk)
"""


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_REGISTERED", {})
    monkeypatch.setattr(plugins, "_FILES", {})


@pytest.fixture
def address() -> Iterator[str]:
    """A server that answers with an e-mail address."""
    with serving(dialect("vllm", completion("Write to ", ADDRESS, "."))) as server:
        yield server.url


def test_from_a_withheld_answer_to_a_correction_that_is_found(run: Run, library: Path, address: str) -> None:
    asking = ("ask", *QUESTION, "--answer-with", address, "--guard", "secrets", "--review", "answers.queue")
    withheld = run(*asking)
    assert withheld.code == 4
    sentence = "This answer is withheld until a person has looked at it: it shows personal data or a secret (email)."
    assert withheld.out == f"{sentence}\n"
    assert "for review: number 1 in answers.queue" in withheld.err
    answer = json.loads(run(*asking, "--json").out)
    assert ADDRESS not in json.dumps(answer)
    assert (answer["withheld"], answer["passages"], answer["is_answered"]) == (
        "it shows personal data or a secret (email)",
        [],
        False,
    )
    assert stat.S_IMODE(os.stat("answers.queue").st_mode) == 0o600
    listed = run("review", "list", "answers.queue")
    assert listed.out.count(f"Write to {ADDRESS}.") == 1  # the same answer is counted
    assert "withheld: it shows personal data or a secret (email), 2 times" in listed.out
    shown = run("review", "show", "answers.queue", "1").out
    assert "The zinc trunk stands under the stairs of the boathouse." in shown

    assert run("review", "approve", "answers.queue", "1", "--by", "ada").out == "Answer 1 is approved by ada.\n"
    edited = run(
        "review", "edit", "answers.queue", "1", "It stands in the blue barn.", "--by", "bob", "--note", "moved"
    )
    assert edited.err == "before: approved by ada\n"
    assert run("review", "list", "answers.queue").out == "No answer waits for a person.\n"
    exported = run("review", "export", "answers.queue", "--output", "decided.jsonl", "--into", "library")
    assert exported.out == "decided.jsonl holds 1 answer.\nlibrary: 1 correction read, 0 replaced, 0 forgotten.\n"
    (line,) = Path("decided.jsonl").read_text("utf-8").splitlines()
    item = json.loads(line)
    assert (item["decision"], item["text"], item["by"], item["note"]) == (
        *("edited", "It stands in the blue barn.", "bob", "moved"),
    )
    assert item["answer"] == f"Write to {ADDRESS}."
    assert item["passages"][0]["source"]
    assert [earlier["decision"] for earlier in item["earlier_decisions"]] == ["approved"]
    found = json.loads(run("search", *QUESTION, "--where", "origin=review", "--json").out)["passages"]
    assert [passage["text"] for passage in found] == [
        "Question: Where does the zinc trunk stand?\n\nAnswer: It stands in the blue barn."
    ]
    export = ("review", "export", "answers.queue", "--into", "library")
    assert "0 corrections read, 0 replaced, 0 forgotten" in run(*export).out
    assert run("review", "edit", "answers.queue", "1", "It stands in the red barn.").code == 0
    assert "0 corrections read, 1 replaced, 0 forgotten" in run(*export).out
    assert run("review", "reject", "answers.queue", "1").code == 0
    assert "0 corrections read, 0 replaced, 1 forgotten" in run(*export).out
    assert list(load_memory(library).sources) == ["log.txt", "secret.md"]
    assert "exists already" in run("review", "export", "answers.queue", "--output", "decided.jsonl").sentence

    assert run("review", "forget", "answers.queue", "1").out == "Forgot 1 answer.\n"
    assert ADDRESS.encode() not in Path("answers.queue").read_bytes()
    assert "There is no answer 1" in run("review", "show", "answers.queue", "1").sentence


def test_an_answer_of_small_confidence_is_shown_and_kept_for_a_person(run: Run, library: Path) -> None:
    with serving(dialect("vllm", completion("In the boathouse."))) as server:
        asking = ("ask", *QUESTION, "--answer-anyway", "--answer-with", server.url, "--review", "answers.queue")
        assert run(*asking, "--review-below", "0").code == 0
        assert run("review", "list", "answers.queue").out == "No answer waits for a person.\n"
        asked = run(*asking, "--review-below", "1")
    assert asked.code == 0
    assert asked.out.startswith("In the boathouse.")
    (item,) = json.loads(run("review", "list", "answers.queue", "--json").out)["answers"]
    assert item["reason"] == f"confidence {item['confidence']:.2f}, below 1.00"
    assert not item["is_withheld"]
    unanswered = run("ask", *QUESTION, "--min-confidence", "1", "--review", "answers.queue", "--review-below", "1")
    assert unanswered.code == 3
    listed = run("review", "list", "answers.queue").out
    assert "the memory says nothing about the question" in listed


def test_passages_that_a_guard_hides_are_not_shown_beside_an_answer(run: Run, tmp_path: Path) -> None:
    (tmp_path / "crew.txt").write_text(f"The purser of the boat is Ann; write to {ADDRESS} for tickets.", "utf-8")
    assert run("read", "crew.txt", "--into", "library").code == 0
    with serving(dialect("vllm", completion("The purser is Ann [1]."))) as server:
        asking = ("ask", "library", "Who is the purser?", "--answer-anyway", "--answer-with", server.url)
        open_answer, guarded = run(*asking), run(*asking, "--guard", "secrets=email,card")
        as_json = run(*asking, "--guard", "secrets", "--json").out
    assert ADDRESS in open_answer.out
    assert guarded.code == 0
    assert guarded.out.startswith("The purser is Ann [1].")
    assert ADDRESS not in guarded.out + as_json
    assert "[withheld]" in guarded.out
    assert "crew.txt" in guarded.out


def test_a_guard_of_the_users_own_in_a_file(run: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GUARD, "utf-8")
    with serving(dialect("vllm", completion("The trunk is here."), completion("Here."))) as server:
        asking = ("ask", *QUESTION, "--answer-anyway", "--answer-with", server.url, "--guard", "mine.py")
        assert run(*asking).out == "This answer is withheld: we do not speak of trunks (True).\n"
        assert run(*asking).out.startswith("Here.")
        (tmp_path / "mine.py").write_text(GUARD.replace("assert passages", "assert not passages"), "utf-8")
        broken = run(*asking)  # a file that has changed is run again, and a guard that fails lets nothing through
    assert broken.out == "This answer is withheld: the guard NoTrunk failed (AssertionError).\n"
    assert broken.code == 4


def test_a_withheld_reply_of_a_chat_is_neither_shown_nor_kept(run: Run, address: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# not to be named\nexample.org\n", "utf-8")
    chatting = ("chat", "--memory", "diary", "--answer-with", address, "--guard", "words=words.txt")
    shown = run(*chatting, "--review", "answers.queue", stdin="How do I reach Ann?\n")
    assert shown.out == "This answer is withheld until a person has looked at it: it holds a word of words.txt.\n"
    (source,) = load_memory(tmp_path / "diary").sources.values()
    assert source.meta["turns"] == [["user", "How do I reach Ann?"], ["assistant", shown.out.strip()]]
    (item,) = json.loads(run("review", "list", "answers.queue", "--json").out)["answers"]
    assert (item["command"], item["answer"], item["is_withheld"]) == ("chat", f"Write to {ADDRESS}.", True)


def test_mistakes_are_sentences(run: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# nothing\n\n", "utf-8")
    (tmp_path / "task.py").write_text("import memspan\n", "utf-8")
    asking = ("ask", *QUESTION)
    assert "There is no guard 'nothing'. Known: secrets" in run(*asking, "--guard", "nothing").sentence
    assert "kind of redaction must be" in run(*asking, "--guard", "secrets=iq").sentence
    assert "must be at least one, got none in words.txt" in run(*asking, "--guard", "words=words.txt").sentence
    assert "not readable: No such file" in run(*asking, "--guard", "words=other.txt").sentence
    assert "words=FILE" in run(*asking, "--guard", "words").sentence
    assert "registers nothing" in run(*asking, "--guard", "task.py").sentence
    assert "--review-below belongs to --review" in run(*asking, "--review-below", "0.5").sentence
    assert "cannot be opened as a review queue" in run(*asking, "--review", "library/manifest.json").sentence
    assert "does not exist: make it first" in run(*asking, "--review", "nowhere/answers.queue").sentence
    assert "There is no review queue nothing" in run("review", "list", "nothing").sentence
    assert not (tmp_path / "nothing").exists()
