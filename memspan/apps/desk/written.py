"""Summaries that an engine writes: notes part by part, with what was said before, then the notes in ever fewer words.

What the engine reads are the passages of the sentences that were chosen for a summary several times as long. Each part goes
with the last notes, so that the engine knows what was said before, and with the names and terms so far. A sentence keeps the
number of the passage that it rests on; where the engine gives none, it is the passage that holds most of its words, and where
none holds enough of them, the sentence is left out.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from memspan.apps.desk.choice import Overview
from memspan.apps.desk.cited import Cited, CitedText, Statement, renumbered
from memspan.apps.desk.names import listed, with_names
from memspan.apps.desk.segments import Passage
from memspan.apps.desk.wish import Wish
from memspan.apps.desk.work import Work
from memspan.assistant.answerers.base import Answerer, PromptTooLong, window_of
from memspan.assistant.citations import citations, resolved
from memspan.assistant.prompts import Quotation, quoted
from memspan.assistant.rare_words import FUNCTION_WORDS
from memspan.data.chunking import sentence_spans
from memspan.data.plain_text import Message
from memspan.data.scripts import words
from memspan.memory.index.bm25 import words_of

READ = 8  # times as many words as the summary has, in the sentences whose passages the engine reads
BEFORE = 3  # notes that stand before a part
NOTES_A_PART = 5  # sentences, at most
NOTE_TOKENS, SUMMARY_TOKENS = 256, 1_024  # that the engine may write, at most
LONGEST_PART = 12_000  # bytes of passages in a prompt, at most: models lose what stands in the middle of more
SHORTEST_PART = 400
BYTES_A_TOKEN = 3  # of a prompt, at least; English has 4 to 5, Chinese about 3
FRAME_TOKENS = 500  # of a prompt besides the passages
LEAST_SHARE = 0.5  # of the words of a sentence that a passage holds on which it can rest
ENOUGH = 1.25  # times the words of the summary: so many need not become fewer
MOST_ROUNDS = 8
FEWEST_WORDS = 3  # of a sentence

NOTES = (
    "Some passages of a long text follow.{about}{names}{before}\n\n{passages}\n\nWrite in at most {sentences} short "
    "sentences, in the language of the passages, what they say{what}. End each sentence with the number of its passage in "
    "brackets, such as [1]. Write nothing that the passages do not say."
)
REDUCE = (
    "Notes on a long text follow, in its order; the number in brackets says where it is written.{about}{names}\n\n{notes}\n\n"
    "Summarise the notes in about {words} words, in their language{what}. Keep the number in brackets behind each sentence. "
    "Write nothing that the notes do not say."
)
_MARK_BEHIND = re.compile(r"([.!?。！？…]+[\"'”’»]*)((?:\s*\[\s*\d+(?:\s*[,;]\s*\d+)*\s*\])+)")
_MARK = re.compile(r"\s*\[\s*\d+(?:\s*[,;]\s*\d+)*\s*\]")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")


def write_summary(
    source: str,
    overview: Overview,
    wish: Wish,
    answerer: Answerer,
    work: Work,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> CitedText:
    """A summary by an answerer, with what each sentence rests on.

    Raises AnswererFailed if the answerer does not answer.
    """
    chosen = overview.choose(wish.about, READ * wish.words)
    passages = overview.passages({sentence.passage for sentence in chosen})
    own = [[each.text for each in chosen if each.passage == passage.number] for passage in passages]
    cited = [
        Cited(source, passage.start, passage.end, " ".join(passage.text.split()), passage.location)
        for passage in passages
    ]
    writer = _Writer(source, passages, own, wish, answerer, work, progress)
    statements = writer.reduced(writer.notes())
    return renumbered(statements, cited, left_out=writer.left_out, names=writer.names)


# The fields are those of one run.
@dataclass
class _Writer:
    """An engine, and what it is to write from.

    Attributes:
        passages: that are read, in the order of the document.
        own: the sentences of each passage that were chosen.
        names: so far.
        left_out: sentences that rest on nothing.
    """

    source: str
    passages: list[Passage]
    own: list[list[str]]
    wish: Wish
    answerer: Answerer
    work: Work
    progress: Callable[[str, int, int | None], None] | None
    names: dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    def notes(self) -> list[Statement]:
        """What each part says, in order; the citations are positions of passages."""
        found = list[Statement]()
        waiting = _grouped([len(passage.text.encode()) for passage in self.passages], self._room)
        while waiting:
            group = waiting.pop(0)
            try:
                found += self._notes_of(group, found[-BEFORE:])
            except PromptTooLong:
                if len(group) == 1:
                    raise
                waiting = [group[: len(group) // 2], group[len(group) // 2 :], *waiting]
                continue
            self._report("passages read", group[-1] + 1, len(self.passages))
        return found

    def _notes_of(self, group: Sequence[int], before: Sequence[Statement]) -> list[Statement]:
        """What the passages of one part say; their own sentences where the engine says nothing that rests on them."""
        texts = [self.passages[position].text for position in group]
        joined = "\n".join(texts)
        self.names = with_names(self.names, joined)
        prompt = NOTES.format(
            about=self._about,
            names=self._names_in(joined),
            before=f" What was said before: {' '.join(note.text for note in before)}" if before else "",
            passages=quoted([Quotation(self.source, text) for text in texts]),
            sentences=min(NOTES_A_PART, 1 + len(group)),
            what=self._what,
        )
        written = self._write("notes", group[0], prompt, NOTE_TOKENS)
        found = self._rested(written, dict(enumerate(texts, start=1)))
        if found:
            return [
                Statement(each.text, tuple(group[number - 1] for number in each.citations), each.by) for each in found
            ]
        return [Statement(text, (position,)) for position in group for text in self.own[position][:1]]

    def reduced(self, notes: list[Statement]) -> list[Statement]:
        """The notes in about as many words as the summary is to have."""
        for number in range(MOST_ROUNDS):
            total = _size(notes)
            if total <= ENOUGH * self.wish.words:
                return notes
            groups = _grouped([len(note.text.encode()) + 8 for note in notes], self._room)
            shorter = list[Statement]()
            for index, group in enumerate(groups):
                some = [notes[position] for position in group]
                aim = self.wish.words if len(groups) == 1 else max(self.wish.words // 2, _size(some) // 3)
                shorter += self._fewer(f"round {number}", index, some, aim)
                self._report("notes summarised", group[-1] + 1, len(notes))
            if len(groups) == 1:
                return shorter
            notes = shorter if _size(shorter) < total else _spread(shorter, total // 2)
        return _spread(notes, self.wish.words)

    def _fewer(self, stage: str, index: int, notes: Sequence[Statement], aim: int) -> list[Statement]:
        """Some notes in about `aim` words; a choice of them where the engine writes nothing that rests on them."""
        lines = [f"- {note.text} [{number}]" for number, note in enumerate(notes, start=1)]
        prompt = REDUCE.format(
            about=self._about,
            names=self._names_in("\n".join(lines)),
            notes="\n".join(lines),
            words=aim,
            what=self._what,
        )
        written = self._write(stage, index, prompt, min(SUMMARY_TOKENS, 3 * aim + 64))
        found = self._rested(written, {number: note.text for number, note in enumerate(notes, start=1)})
        statements = []
        for each in found:
            meant = [position for number in each.citations for position in notes[number - 1].citations]
            statements.append(Statement(each.text, tuple(dict.fromkeys(meant)), each.by))
        return statements or _spread(notes, aim)

    def _rested(self, written: str, texts: dict[int, str]) -> list[Statement]:
        """The sentences that were written, each with the numbers of the texts that it rests on."""
        found = list[Statement]()
        for sentence, numbers in sentences_of(written, len(texts)):
            by, meant = "engine", numbers
            if not meant:
                by, meant = "words", _nearest(sentence, texts)
            if meant and sentence not in {each.text for each in found}:
                found.append(Statement(sentence, meant, by))
            else:
                self.left_out += 1
        return found

    def _write(self, stage: str, number: int, prompt: str, tokens: int) -> str:
        """What the engine writes to a prompt, or has written to it before."""
        messages: list[Message] = [{"role": "user", "content": prompt}]
        sampling = replace(self.wish.sampling, max_new_tokens=tokens)

        def compute() -> str:
            return "".join(self.answerer.answer(messages, sampling)).strip()

        return str(self.work.result(stage, number, [self.answerer.name, prompt, asdict(sampling)], compute))

    def _report(self, noun: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(noun, done, total)

    def _names_in(self, text: str) -> str:
        """The names and terms that stand in a text, as a sentence of a prompt."""
        inside = {name: meaning for name, meaning in self.names.items() if name in text}
        return f" Names and terms: {listed(inside)}." if inside else ""

    @property
    def _about(self) -> str:
        return f" They are read for a question: {self.wish.about}" if self.wish.about else ""

    @property
    def _what(self) -> str:
        return " about the question" if self.wish.about else ""

    @property
    def _room(self) -> int:
        """Bytes of text in a prompt, at most."""
        window = window_of(self.answerer)
        tokens = window - FRAME_TOKENS - min(SUMMARY_TOKENS, window // 4)
        return max(SHORTEST_PART, min(LONGEST_PART, tokens * BYTES_A_TOKEN))


def sentences_of(written: str, count: int) -> list[tuple[str, tuple[int, ...]]]:
    """The sentences of a text without their marks, each with the numbers in its marks that are from 1 to `count`."""
    text = _MARK_BEHIND.sub(r"\2\1", resolved(written, count))
    found = []
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        marks = citations(sentence, range(1, count + 1))
        numbers = dict.fromkeys(position + 1 for mark in marks for position in mark.passages)
        bare = " ".join(_BULLET.sub("", _MARK.sub("", sentence)).split())
        if len(words(bare)) >= FEWEST_WORDS and not bare.endswith((":", "：")):
            found.append((bare, tuple(numbers)))
    return found


def _nearest(sentence: str, texts: dict[int, str]) -> tuple[int, ...]:
    """The number of the text that holds most words of a sentence; none where no text holds enough of them."""
    meant = set(words_of(sentence)) - FUNCTION_WORDS
    shares = {number: len(meant & set(words_of(text))) / max(1, len(meant)) for number, text in texts.items()}
    best = max(shares, key=lambda number: shares[number])
    return (best,) if shares[best] >= LEAST_SHARE else ()


def _grouped(sizes: Sequence[int], room: int) -> list[list[int]]:
    """The positions of things that follow one another, in groups whose sizes fit into `room`, each at least one."""
    groups, size = list[list[int]](), 0
    for position, own in enumerate(sizes):
        if not groups or size + own > room:
            groups.append([])
            size = 0
        groups[-1].append(position)
        size += own
    return groups


def _size(notes: Sequence[Statement]) -> int:
    """The words of notes together."""
    return sum(len(words(note.text)) for note in notes)


def _spread(notes: Sequence[Statement], length: int) -> list[Statement]:
    """Notes from beginning to end at equal distances, of at most `length` words together but at least one."""
    count = len(notes)
    while count > 1 and _size(_at_distances(notes, count)) > length:
        count -= 1
    return _at_distances(notes, count)


def _at_distances(notes: Sequence[Statement], count: int) -> list[Statement]:
    return [notes[index * len(notes) // count] for index in range(count)]
