"""A transcript is cited with the times at which its words are said; a recording is pointed to a transcript."""

import json
from pathlib import Path

from memspan.data.positions import clock
from tests.commands import Run

TOPICS = ("the harbour", "the weather", "the old lamp", "a letter from home", "the price of rope")


def transcript(path: Path) -> None:
    cues = [
        f"{clock(60 * k)}.000 --> {clock(60 * k + 50)}.000\n<v {'Ann Vel' if k % 2 else 'Bo'}>Now we talk about {topic}, "
        f"which is dear to all of us and has been for many years.\n"
        for k, topic in enumerate(TOPICS)
    ]
    path.write_text("WEBVTT\n\n" + "\n".join(cues), "utf-8")


def test_search_and_ask_show_when_and_by_whom_something_is_said(run: Run, tmp_path: Path) -> None:
    transcript(tmp_path / "talk.vtt")
    assert run("read", "talk.vtt", "--into", "talk.mem").code == 0
    found = run("search", "talk.mem", "the price of rope", "--top", "1").out
    assert "talk.vtt, at 00:0" in found
    outcome = json.loads(run("search", "talk.mem", "the price of rope", "--top", "1", "--json").out)
    (passage,) = outcome["passages"]
    assert isinstance(passage["marks"]["time"], float)
    spoken = run("search", "talk.mem", "rope", "--where", "speaker=Ann Vel", "--json").out
    assert all("Ann Vel" in passage["text"] for passage in json.loads(spoken)["passages"])
    answer = json.loads(run("ask", "talk.mem", "What about the price of rope?", "--answer-anyway", "--json").out)
    quote = answer["quote"]
    assert "rope" in quote["text"]
    assert quote["location"]["time"] == 240.0


def test_times_survive_export_and_import(run: Run, tmp_path: Path) -> None:
    transcript(tmp_path / "talk.vtt")
    assert run("read", "talk.vtt", "--into", "talk.mem").code == 0
    exported = run("export", "talk.mem").out
    (tmp_path / "talk.jsonl").write_text(exported, "utf-8")
    assert run("import", "talk.jsonl", "copy.mem").code == 0
    assert [json.loads(line)["marks"] for line in run("export", "copy.mem").out.splitlines()] == [
        json.loads(line)["marks"] for line in exported.splitlines()
    ]


def test_a_recording_is_refused_in_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "talk.mp3").write_bytes(b"ID3\x04\x00" + bytes(200))
    outcome = run("read", "talk.mp3", "--into", "talk.mem")
    assert outcome.code == 2
    assert "a transcript" in outcome.sentence
    assert "(srt, vtt or txt)" in outcome.sentence
