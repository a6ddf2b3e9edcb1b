"""Recordings are refused with the way to a transcript, which can be read."""

from pathlib import Path

import pytest

from memspan.data.documents import open_documents
from tests.data.files import refusal, text_of, written

BEGINNINGS = {
    "mp3": b"ID3\x04\x00\x00\x00\x00",
    "mp3 without a tag": b"\xff\xfb\x90\x64",
    "aac": b"\xff\xf1\x50\x80",
    "wav": b"RIFF\x24\x08\x00\x00WAVEfmt ",
    "avi": b"RIFF\x24\x08\x00\x00AVI LIST",
    "flac": b"fLaC\x00\x00\x00\x22",
    "ogg": b"OggS\x00\x02",
    "m4a": b"\x00\x00\x00\x20ftypM4A \x00",
    "mp4": b"\x00\x00\x00\x18ftypmp42",
    "webm": b"\x1aE\xdf\xa3\x9fB\x86",
    "aiff": b"FORM\x00\x00\x10\x00AIFF",
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_a_recording_is_pointed_to_a_transcript(kind: str, tmp_path: Path) -> None:
    message = refusal(written(tmp_path / f"talk.{kind.split()[0]}", BEGINNINGS[kind] + bytes(range(256))))
    assert "is a recording, which is not listened to" in message
    assert "pip install openai-whisper" in message
    assert "(srt, vtt or txt)" in message


def test_other_files_are_no_recordings(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", b"ID3 is a tag, RIFF a container, OggS another."),
        ("b.txt", b"\xc3\xbf\xc3\xbe"),
    ):
        assert text_of(written(tmp_path / name, content))
    assert "words" in text_of(written(tmp_path / "c.txt", "words".encode("utf-16")))
    assert "recording" not in refusal(written(tmp_path / "d.avif", b"\x00\x00\x00\x18ftypavif"))


def test_a_folder_is_read_without_its_recordings(tmp_path: Path) -> None:
    written(tmp_path / "talk.mp3", BEGINNINGS["mp3"])
    written(tmp_path / "talk.srt", "1\n00:00:01,000 --> 00:00:02,000\nWords.\n")
    skipped: list[str] = []
    (document,) = open_documents([tmp_path], on_skip=lambda member: skipped.append(member.reason))
    assert document.source.endswith("talk.srt")
    assert "recording" in skipped[0]
