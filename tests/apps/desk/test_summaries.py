"""Summaries of long documents: whose sentences they are, where these stand, and that a run goes on where it was ended."""

import json
import os
import re
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest

from memspan.apps.desk.segments import segments
from memspan.apps.desk.summary import summarise
from memspan.apps.desk.wish import Wish
from memspan.apps.desk.work import Work
from memspan.cli import main
from memspan.data.documents import open_documents
from tests.apps.desk.engine import engine, summariser
from tests.commands import Run
from tests.servers import serving

SUBJECTS = ("The harbour master", "A young glazier", "The widow of the miller", "Old Korin", "The schoolteacher")
DEEDS = (
    "counted the barrels on the quay before the tide came in",
    "repaired the window of the chapel after the storm",
    "sold the last of the flour to a stranger from the north",
    "wrote a long letter about the missing lantern",
    "closed the school because the river had risen",
)


def book(chapters: int = 6, paragraphs: int = 12) -> str:
    parts = ["A Chronicle of the Harbour", ""]
    for chapter in range(1, chapters + 1):
        parts += [f"Chapter {chapter}", ""]
        for number in range(paragraphs):
            day = chapter * paragraphs + number
            lines = [
                f"{SUBJECTS[(number + part) % 5]} {DEEDS[(number * 2 + part + chapter) % 5]} on day {day}."
                for part in range(4)
            ]
            parts += ["\n".join(lines), ""]
    return "\n".join(parts)


@pytest.fixture
def chronicle(tmp_path: Path) -> Path:
    path = tmp_path / "chronicle.txt"
    path.write_text(
        book() + "\nThe golden astrolabe was hidden below the lighthouse by the smuggler Teague.\n", "utf-8"
    )
    return path


def test_sentences_of_the_document_with_their_chapter_and_line(run: Run, chronicle: Path) -> None:
    summary = json.loads(run("summarise", "chronicle.txt", "--words", "80", "--json").out)
    lines = chronicle.read_text("utf-8").split("\n")
    assert 40 <= len(summary["text"].split()) <= 130
    assert len(summary["sentences"]) >= 3
    for sentence in summary["sentences"]:
        (position,) = sentence["citations"]
        cited = summary["citations"][position]
        assert cited["text"] == sentence["text"]
        assert lines[cited["line"] - 1] == sentence["text"]
        chapter = max(number for number in range(cited["line"]) if lines[number].startswith("Chapter"))
        assert cited["chapter"] == lines[chapter]
        assert chronicle.read_text("utf-8")[cited["start"] : cited["end"]] == sentence["text"]
    shown = run("summarise", "chronicle.txt", "--words", "80").out
    assert re.search(r"\[1\] chronicle\.txt, Chapter \d, line \d+: ", shown)


def test_a_question_finds_what_stands_in_a_single_sentence(run: Run, chronicle: Path) -> None:
    outcome = run("summarise", "chronicle.txt", "--words", "12", "--about", "Who hid the astrolabe of gold?")
    assert outcome.out.startswith("The golden astrolabe was hidden below the lighthouse by the smuggler Teague. [1]")


def test_a_chinese_text(run: Run, tmp_path: Path) -> None:
    sentences = [f"第{number}天，港口的工人在码头上搬运木桶和粮食。" for number in range(80)]
    sentences.insert(50, "走私者把黄金星盘藏在灯塔下面的石室里。")
    text = "# 港口\n\n" + "\n\n".join("".join(sentences[first : first + 3]) for first in range(0, 81, 3))
    (tmp_path / "zh.md").write_text(
        f"{text}\n\n```python\n# 黄金星盘在哪里 黄金星盘在哪里 黄金星盘在哪里\n```\n", "utf-8"
    )
    shown = run("summarise", "zh.md", "--words", "18", "--about", "黄金星盘在哪里？").out
    assert shown.startswith("走私者把黄金星盘藏在灯塔下面的石室里。 [1]")
    assert "[1] zh.md, 港口, line " in shown
    assert run("summarise", "zh.md", "--words", "40").code == 0


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.txt", b"", "is empty"),
        ("blank.txt", b" \n\n\t\n", "holds no text"),
        ("binary.txt", bytes(range(256)) * 20, "binary"),
        ("line.txt", b"x" * 200_000, "sentences of prose"),
        ("numbers.txt", b"1 2 3\n4 5 6\n", "sentences of prose"),
    ],
)
def test_what_is_no_document_is_one_sentence(
    run: Run, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for words in (["summarise", name], ["translate", name, "--to", "German", "--model", "none"]):
        if "prose" in sentence and words[0] == "translate":
            continue
        outcome = run(*words)
        assert outcome.code == 2
        assert sentence in outcome.sentence
    assert "there is no file" in run("summarise", "absent.txt").sentence
    assert "is empty" in run("summarise", name, "--about", " ").sentence
    (tmp_path / "folder").mkdir(exist_ok=True)
    assert "got the folder" in run("summarise", "folder").sentence


def test_an_engine_writes_from_numbered_passages(run: Run, chronicle: Path) -> None:
    with serving(engine(summariser)) as server:
        words = ["summarise", "chronicle.txt", "--words", "60", "--answer-with", server.url, "--json"]
        outcome = run(*words, "--output", "summary.json")
        prompts = [body["messages"][-1]["content"] for body in server.bodies]
        asked = len(server.bodies)
        again = run(*words)
        assert len(server.bodies) == 2 * asked  # another folder of work
        once_more = run(*words)
        assert len(server.bodies) == 2 * asked
    assert outcome.code == 0
    assert "Left out: " in outcome.err
    summary = json.loads((chronicle.parent / "summary.json").read_text("utf-8"))
    assert summary == json.loads(again.out) == json.loads(once_more.out)
    assert any("What was said before: " in prompt for prompt in prompts)
    assert any("Notes on a long text follow" in prompt for prompt in prompts)
    assert summary["left_out"] > 0
    assert summary["sentences"]
    text = chronicle.read_text("utf-8")
    for sentence in summary["sentences"]:
        assert sentence["by"] == "engine"
        for position in sentence["citations"]:
            cited = summary["citations"][position]
            passage = " ".join(text[cited["start"] : cited["end"]].split())
            assert passage == cited["text"]
            assert sentence["text"].rstrip(".") in passage
    assert "Bananas" not in summary["text"]


def test_an_engine_that_says_nothing_of_use_leaves_the_sentences_of_the_document(run: Run, chronicle: Path) -> None:
    with serving(engine(lambda messages: "Colourless green ideas sleep furiously tonight.")) as server:
        outcome = run("summarise", "chronicle.txt", "--words", "40", "--answer-with", server.url, "--json")
    summary = json.loads(outcome.out)
    assert {sentence["by"] for sentence in summary["sentences"]} == {"text"}
    assert all(sentence["text"] in " ".join(chronicle.read_text("utf-8").split()) for sentence in summary["sentences"])


def test_a_failing_engine_is_one_sentence_and_what_it_wrote_is_kept(run: Run, chronicle: Path) -> None:
    calls = 0

    def failing(messages: list[dict[str, str]]) -> str:
        nonlocal calls
        calls += 1
        return "" if calls == 3 else summariser(messages)

    words = ["summarise", "chronicle.txt", "--words", "60", "--output", "summary.txt", "--answer-with"]
    with serving(engine(failing)) as server:
        first = run(*words, server.url)
        asked = calls
        again = run(*words, server.url)
    assert first.code == again.code == 0
    assert calls == asked
    refused = run(*words, "http://127.0.0.1:9/v1#fake")
    assert refused.code == 1
    assert "does not answer" in refused.sentence


def test_the_language_model_writes(run: Run, chronicle: Path) -> None:
    outcome = run("summarise", "chronicle.txt", "--words", "20", "--write")
    assert outcome.code == 0
    assert "\n[1] chronicle.txt, " in outcome.out
    both = run("summarise", "chronicle.txt", "--write", "--answer-with", "http://127.0.0.1:9/v1")
    assert "exclude each other" in both.sentence


class Ended(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_was_ended_goes_on_and_gives_the_same(chronicle: Path, tmp_path: Path, after: int) -> None:
    (document,) = open_documents([chronicle])
    with Work(tmp_path / "whole") as work:
        whole = summarise(document, work, None, Wish("Who sold the flour?", 60))
        steps = work.computed

    def end(noun: str, done: int, total: int | None) -> None:
        nonlocal after
        after -= 1
        if after < 0:
            raise Ended

    left = after
    with pytest.raises(Ended), Work(tmp_path / "ended") as work:
        summarise(document, work, None, Wish("Who sold the flour?", 60), progress=end)
    with Work(tmp_path / "ended") as work:
        resumed = summarise(document, work, None, Wish("Who sold the flour?", 60))
        assert work.taken == left + 1
        assert work.computed == steps - left - 1
    assert resumed == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_a_killed_process_loses_no_result(run: Run, chronicle: Path) -> None:
    """SIGKILL while the engine writes: the same command again asks only for what it had not got, and gives the same."""
    answered, released = list[str](), threading.Event()

    def stops_at_the_third(messages: list[dict[str, str]]) -> str:
        if len(answered) == 2:
            released.wait(60)
        answered.append(messages[-1]["content"])
        return summariser(messages)

    with serving(engine(stops_at_the_third)) as server:
        words = ["summarise", "chronicle.txt", "--words", "60", "--answer-with", server.url]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the threads of the server do not run in the child
            process = os.fork()
        if process == 0:
            try:
                main([*words, "--output", "killed.txt"])
            finally:
                os._exit(1)
        while len(server.bodies) < 3:
            time.sleep(0.02)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert not Path("killed.txt").exists()
        released.set()
    kept = answered[:2]
    with serving(engine(summariser)) as server:
        words[-1] = server.url
        assert run(*words, "--output", "killed.txt").code == 0
        resumed = [body["messages"][-1]["content"] for body in server.bodies]
        assert run(*words, "--output", "whole.txt").code == 0
    assert not set(kept) & set(resumed)
    assert Path("killed.txt").read_text("utf-8") == Path("whole.txt").read_text("utf-8")
    assert len(server.bodies) == 2 * len(resumed) + 2


def test_only_what_changed_is_read_again(chronicle: Path, tmp_path: Path) -> None:
    with Work(tmp_path / "work") as work:
        (document,) = open_documents([chronicle])
        summarise(document, work, None)
        count = work.computed
    chronicle.write_text(chronicle.read_text("utf-8").replace("Teague", "Tobias"), "utf-8")
    with Work(tmp_path / "work") as work:
        (document,) = open_documents([chronicle])
        summarise(document, work, None)
        assert (work.computed, work.taken) == (1, count - 1)


def test_segments_hold_the_document(chronicle: Path) -> None:
    (document,) = open_documents([chronicle])
    parts = list(segments(document))
    assert "".join(part.text for part in parts) == chronicle.read_text("utf-8")
    assert [part.number for part in parts] == list(range(len(parts)))
    numbers = [passage.number for part in parts for passage in part.passages]
    assert numbers == list(range(len(numbers)))


def test_what_an_edition_adds_is_left_out(tmp_path: Path) -> None:
    mark = "*** {} OF THE PROJECT GUTENBERG EBOOK ***"
    path = tmp_path / "book.txt"
    path.write_text(
        f"A licence.\n{mark.format('START')}\nThe story itself.\n{mark.format('END')}\nA licence.\n", "utf-8"
    )
    (document,) = open_documents([path])
    (part,) = segments(document)
    assert part.text.strip() == "The story itself."
    assert part.sentences[0].location.line == 3
