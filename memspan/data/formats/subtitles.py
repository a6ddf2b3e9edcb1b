"""Subtitles (srt, vtt): what is said, as running text with the times at which it is said."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded, lines_of
from memspan.data.marks import Mark

PAUSE = 4.0  # s of silence behind which a new paragraph begins
LONG, LONGEST = 400, 1_000  # characters of a paragraph after which it ends with a sentence, or anywhere
_TIMES = re.compile(
    r"\s{0,9}((?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3})\s{1,9}-->\s{1,9}((?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3})"
)
_VOICE = re.compile(r"<v(?:\.[^<>\s]{0,50})?\s([^<>]{1,100})>")
_TAG = re.compile(r"</?[a-zA-Z\d][^<>]{0,200}>|\{\\[^{}]{0,50}\}")
_SENTENCE_END = tuple(".!?…。！？\"'”’")


@dataclass(frozen=True)
class _Cue:
    """A subtitle: seconds from the start, who speaks if that is known, and the text."""

    start: float
    end: float
    speaker: str | None
    text: str


def read_subtitles(source: FileSource) -> Iterator[str | Mark]:
    """The subtitles joined to paragraphs, "Name: ..." where a voice is named and changes.

    A paragraph ends at a change of voice, at a pause, and at the end of a sentence once it is long. The time at which it
    begins, such as "0:12:03", is its mark "chapter"; the voice is its mark "speaker". Raises UnreadableSource for a file
    without any subtitle.
    """
    last: _Cue | None = None
    length, speaker = 0, None
    for cue in _cues(source):
        if last is not None and cue.text == last.text:
            continue  # captions that roll repeat their last line
        if last is None or _parts(last, cue, length):
            if last is not None:
                yield "\n\n"
            length = 0
            yield Mark("chapter", _time(cue.start))
            yield Mark("speaker", cue.speaker)
            if cue.speaker is not None and cue.speaker != speaker:
                yield f"{cue.speaker}: "
            speaker = cue.speaker
        yield f" {cue.text}" if length else cue.text
        length += 1 + len(cue.text)
        last = cue
    if last is None:
        raise source.refused("has no subtitle (00:00:01,000 --> 00:00:02,000): name it .txt to read it as it stands")
    yield "\n"


def _parts(last: _Cue, cue: _Cue, length: int) -> bool:
    """Whether a paragraph of so many characters ends between two subtitles."""
    if cue.speaker != last.speaker or cue.start - last.end >= PAUSE or length >= LONGEST:
        return True
    return length >= LONG and last.text.endswith(_SENTENCE_END)


def _cues(source: FileSource) -> Iterator[_Cue]:
    """The subtitles that hold text. Numbers and names of subtitles, comments and styles are left out."""
    times: tuple[float, float] | None = None
    words: list[str] = []
    speaker: str | None = None
    for line in lines_of(decoded(source, cure="break its lines first, for instance with `fold -s`")):
        found = _TIMES.match(line)
        if found is None and line.strip():
            if times is not None:
                voice = _VOICE.search(line)
                speaker = " ".join(voice[1].split()) if voice else speaker
                words.append(" ".join(unescape(_TAG.sub("", line)).split()))
            continue
        if times is not None and any(words):
            yield _Cue(*times, speaker, " ".join(filter(None, words)))
        times = None if found is None else (_seconds(found[1]), _seconds(found[2]))
        words, speaker = [], None
    if times is not None and any(words):
        yield _Cue(*times, speaker, " ".join(filter(None, words)))


def _seconds(time: str) -> float:
    """The seconds of a time such as 01:02:03,450 or 02:03.450."""
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)


def _time(seconds: float) -> str:
    """A time as players show it: 0:12:03."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


SRT = Format("srt", (".srt",), read_subtitles)
VTT = Format("vtt", (".vtt",), read_subtitles)
