"""Subtitles become running text with times and voices."""

from pathlib import Path

import pytest

from memspan.data.documents import open_documents
from tests.data.files import refusal, text_of, written

SRT = """1
00:00:01,000 --> 00:00:02,000
<i>The captain</i>
says:

2
00:00:02,500 --> 00:00:04,000
{\\an8}the wind turns.

3
01:10:00,000 --> 01:10:02,000
Tom &amp; Ann left.
"""
VTT = """WEBVTT - title

NOTE a comment

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v Ann>Where is
it?

00:02.000 --> 00:03.000
<v.loud Bo>Here!</v>

00:03.000 --> 00:03.500
<v.loud Bo>Here!</v>
"""


def test_subtitles_are_joined_to_running_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.srt", SRT.replace("\n", "\r\n"))
    assert text_of(path) == "The captain says: the wind turns.\n\nTom & Ann left.\n"
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    marks = [(chunk[offset:][:3], mark.value) for offset, mark in chunk.marks if mark.kind == "time"]
    assert marks == [("The", 1.0), ("the", 2.5), ("Tom", 4200.0)]


def test_voices_are_named_where_they_change(tmp_path: Path) -> None:
    path = written(tmp_path / "a.vtt", VTT)
    assert text_of(path) == "Ann: Where is it?\n\nBo: Here!\n"
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    assert [(chunk[offset:][:3], mark.value) for offset, mark in chunk.marks if mark.kind == "speaker"] == [
        ("Ann", "Ann"),
        ("Bo:", "Bo"),
    ]


def test_long_speech_is_cut_into_paragraphs_at_sentence_ends(tmp_path: Path) -> None:
    cues = [
        f"00:{k // 60:02}:{k % 60:02},000 --> 00:{k // 60:02}:{k % 60:02},900\nword {k} and so\non.\n\n"
        for k in range(90)
    ]
    paragraphs = text_of(written(tmp_path / "a.srt", "".join(cues))).split("\n\n")
    assert len(paragraphs) > 2
    assert all(paragraph.strip().endswith("on.") and len(paragraph) < 500 for paragraph in paragraphs)


def marked(path: Path, *kinds: str) -> list[tuple[str, str, object]]:
    """The first letters behind each mark of these kinds, its kind and its value."""
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    return [(chunk[offset:][:6], mark.kind, mark.value) for offset, mark in chunk.marks if mark.kind in kinds]


def test_several_voices_in_a_subtitle_are_told_apart(tmp_path: Path) -> None:
    line = "<v Ann>Where is it?</v> <v Bo>Here,\nbelow.</v>\n<v Ann>Oh.\n"
    path = written(tmp_path / "a.vtt", f"WEBVTT\n\n00:01.000 --> 00:05.000\n{line}")
    assert text_of(path) == "Ann: Where is it?\n\nBo: Here, below.\n\nAnn: Oh.\n"
    assert [value for _, _, value in marked(path, "speaker")] == ["Ann", "Bo", "Ann"]


AROUND = """WEBVTT

00:00.000 --> 02:00.000
Beginnings

00:00.000 --> 00:40.000
The first plan

00:01.000 --> 00:03.000
We wanted a boat.

00:50.000 --> 00:52.000
Then it sank.

02:00.000 --> 03:00.000
Ends

02:01.000 --> 02:03.000
We walked.
"""


def test_a_long_subtitle_around_others_is_a_chapter(tmp_path: Path) -> None:
    path = written(tmp_path / "a.vtt", AROUND)
    text = "Beginnings\n\nThe first plan\n\nWe wanted a boat.\n\nThen it sank.\n\nEnds\n\nWe walked.\n"
    assert text_of(path) == text
    assert marked(path, "chapter", "heading") == [
        ("Beginn", "chapter", "Beginnings"),
        ("Beginn", "heading", None),
        ("The fi", "heading", "The first plan"),
        ("Ends\n\n", "chapter", "Ends"),
        ("Ends\n\n", "heading", None),
    ]


def test_a_caption_during_another_is_no_chapter(tmp_path: Path) -> None:
    cues = "00:00.000 --> 00:09.000\nA long sigh\n\n00:01.000 --> 00:02.000\nWhat?\n"
    assert marked(written(tmp_path / "a.vtt", f"WEBVTT\n\n{cues}"), "chapter") == []


@pytest.mark.parametrize(
    ("name", "header"), [("a.vtt", "WEBVTT\nKind: chapters\n"), ("talk.chapters.en.vtt", "WEBVTT\n")]
)
def test_a_file_of_chapters_is_a_list_of_headings_with_times(tmp_path: Path, name: str, header: str) -> None:
    cues = "00:00.000 --> 00:20.000\nGreeting\n\n00:20.000 --> 01:00.000\nThe plan\n"
    path = written(tmp_path / name, f"{header}\n{cues}")
    assert text_of(path) == "Greeting\n\nThe plan\n"
    assert [value for _, _, value in marked(path, "chapter", "time")] == [0.0, "Greeting", 20.0, "The plan"]


@pytest.mark.parametrize("suffix", ["srt", "vtt"])
def test_a_file_without_subtitles_is_refused(tmp_path: Path, suffix: str) -> None:
    assert "no subtitle" in refusal(written(tmp_path / f"a.{suffix}", "Just words.\n"))
