"""Subtitles and transcripts (srt, vtt): what is said, as running text with its times, its speakers and its chapters."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded, lines_of
from memspan.data.marks import Mark

PAUSE = 4.0  # s of silence behind which a new paragraph begins
LONG, LONGEST = 400, 1_000  # characters of a paragraph after which it ends with a sentence, or anywhere
CHAPTER = 30.0  # s from which on a subtitle is a chapter if the next lies within it; captions last at most some ten
LONGEST_TITLE = 120  # characters of a chapter
_TIMES = re.compile(
    r"\s{0,9}((?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3})\s{1,9}-->\s{1,9}((?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3})"
)
_VOICE = re.compile(r"<v(?:\.[^<>\s]{0,50})?\s([^<>]{1,100})>")
_TAG = re.compile(r"</?[a-zA-Z\d][^<>]{0,200}>|\{\\[^{}]{0,50}\}")
_SENTENCE_END = tuple(".!?…。！？\"'”’")
_OF_CHAPTERS = re.compile(r"kind\s{0,9}:\s{0,9}chapters", re.I)  # in the header of a WebVTT file
_CHAPTERS_NAME = re.compile(
    r"(?:^|[._ -])chapters(?:[._-][a-z]{2,3}(?:-[a-z]{2,4})?)?$", re.I
)  # of a file, without suffix


@dataclass(frozen=True)
class _Cue:
    """A subtitle.

    Attributes:
        start, end: seconds from the start.
        turns: what each speaks of those who speak in it: the name, None where it is not known, and the words.
        is_chapter: whether the words are the title of what follows.
    """

    start: float
    end: float
    turns: tuple[tuple[str | None, str], ...]
    is_chapter: bool = False

    @property
    def text(self) -> str:
        return " ".join(words for _, words in self.turns)


def read_subtitles(source: FileSource) -> Iterator[str | Mark]:
    """The subtitles joined to paragraphs, "Name: ..." where a voice is named and changes.

    A paragraph ends at a change of voice, at a pause, and at the end of a sentence once it is long. Marks: the time at which
    each subtitle begins in seconds, the voice as "speaker". Chapters of WebVTT, which are subtitles of half a minute and
    more around others, or all of a file of chapters, are paragraphs with the marks "chapter" and, below another, "heading".
    Raises UnreadableSource for a file without any subtitle.
    """
    writer = _Writer()
    chapters: list[float] = []  # the ends of the chapters that are open, the outermost first
    empty = True
    for cue in _with_chapters(_cues(source), source):
        empty = False
        if cue.is_chapter:
            while chapters and cue.start >= chapters[-1] - 0.001:
                chapters.pop()
            yield from writer.chapter(cue, len(chapters))
            chapters.append(cue.end)
        else:
            yield from writer.subtitle(cue)
    if empty:
        raise source.refused("has no subtitle (00:00:01,000 --> 00:00:02,000): name it .txt to read it as it stands")
    yield "\n"


class _Writer:
    """Joins subtitles to paragraphs."""

    def __init__(self) -> None:
        self._last: _Cue | None = None
        self._length = 0  # characters of the paragraph so far
        self._speaker: str | None = None
        self._empty = True

    def chapter(self, cue: _Cue, level: int) -> Iterator[str | Mark]:
        """The title of a chapter as a paragraph; at level 0 it is in no other."""
        yield from self._paragraph()
        self._last, self._speaker, title = None, None, cue.text
        yield Mark("time", cue.start)
        yield Mark("speaker", None)
        if level == 0:
            yield Mark("chapter", title)
        yield Mark("heading", title if level else None)
        yield title

    def subtitle(self, cue: _Cue) -> Iterator[str | Mark]:
        """The words of a subtitle."""
        if self._last is not None and cue.turns == self._last.turns:
            return  # captions that roll repeat their last line
        for number, (speaker, words) in enumerate(cue.turns):
            if self._last is None or number > 0 or self._ends(self._last, cue, speaker):
                yield from self._paragraph()
                yield Mark("time", cue.start)
                yield Mark("speaker", speaker)
                if speaker is not None and speaker != self._speaker:
                    yield f"{speaker}: "
            else:
                yield " "
                yield Mark("time", cue.start)
            yield words
            self._speaker, self._last = speaker, cue
            self._length += 1 + len(words)

    def _ends(self, last: _Cue, cue: _Cue, speaker: str | None) -> bool:
        """Whether the paragraph ends between two subtitles."""
        if speaker != self._speaker or cue.start - last.end >= PAUSE or self._length >= LONGEST:
            return True
        return self._length >= LONG and last.text.endswith(_SENTENCE_END)

    def _paragraph(self) -> Iterator[str]:
        """What stands before the next paragraph."""
        if not self._empty:
            yield "\n\n"
        self._empty, self._length = False, 0


def _with_chapters(cues: Iterator[_Cue], source: FileSource) -> Iterator[_Cue]:
    """The subtitles, those that are chapters marked as such."""
    is_all = _CHAPTERS_NAME.search(Path(source.name).stem) is not None
    cue = next(cues, None)
    while cue is not None:
        following = next(cues, None)
        around = following is not None and cue.start <= following.start and following.end <= cue.end
        is_title = cue.turns[0][0] is None and len(cue.text) <= LONGEST_TITLE
        if is_title and (is_all or (around and cue.end - cue.start >= CHAPTER)):
            cue = _Cue(cue.start, cue.end, cue.turns, is_chapter=True)
        yield cue
        cue = following


def _cues(source: FileSource) -> Iterator[_Cue]:
    """The subtitles that hold text. Numbers and names of subtitles, comments and styles are left out."""
    times: tuple[float, float] | None = None
    turns: list[tuple[str | None, list[str]]] = []
    is_chapter, is_header = False, True
    for line in lines_of(decoded(source, cure="break its lines first, for instance with `fold -s`")):
        found = _TIMES.match(line)
        if found is None and line.strip():
            if times is not None:
                _add_line(turns, line)
            elif is_header and _OF_CHAPTERS.fullmatch(line.strip()):
                is_chapter = True
            continue
        is_header = False
        if times is not None and turns:
            yield _cue(times, turns, is_chapter)
        times, turns = None if found is None else (_seconds(found[1]), _seconds(found[2])), []
    if times is not None and turns:
        yield _cue(times, turns, is_chapter)


def _cue(times: tuple[float, float], turns: list[tuple[str | None, list[str]]], is_chapter: bool) -> _Cue:
    return _Cue(*times, tuple((speaker, " ".join(words)) for speaker, words in turns), is_chapter)


def _add_line(turns: list[tuple[str | None, list[str]]], line: str) -> None:
    """Add the next line of a subtitle to its turns: a tag of a voice begins the turn of another."""
    speaker, start = (turns[-1][0] if turns else None), 0
    for voice in [*_VOICE.finditer(line), None]:
        words = unescape(_TAG.sub("", line[start : voice.start() if voice else None])).split()
        if words and turns and turns[-1][0] == speaker:
            turns[-1][1].extend(words)
        elif words:
            turns.append((speaker, words))
        if voice is not None:
            speaker, start = " ".join(voice[1].split()) or None, voice.end()


def _seconds(time: str) -> float:
    """The seconds of a time such as 01:02:03,450 or 02:03.450."""
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)


SRT = Format("srt", (".srt",), read_subtitles)
VTT = Format("vtt", (".vtt",), read_subtitles)
