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
    marks = [(chunk[offset:][:3], mark.value) for offset, mark in chunk.marks if mark.kind == "chapter"]
    assert marks == [("The", "0:00:01"), ("Tom", "1:10:00")]


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


@pytest.mark.parametrize("suffix", ["srt", "vtt"])
def test_a_file_without_subtitles_is_refused(tmp_path: Path, suffix: str) -> None:
    assert "no subtitle" in refusal(written(tmp_path / f"a.{suffix}", "Just words.\n"))
