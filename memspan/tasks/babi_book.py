"""Who is where, told in a few sentences scattered through a book."""

import re
import zlib
from pathlib import Path
from typing import NamedTuple, Self

import torch

from memspan.errors import UsageError
from memspan.tasks.base import NOT_ASKED, Batch, Task

BUCKETS = 1024  # of the words of the book
WORD = re.compile(r"\w+|[^\w\s]")


class Story(NamedTuple):
    """One question of bAbI and what was told before it, as words."""

    facts: list[list[str]]
    question: list[str]
    answer: str


class BabiBook(Task):
    """Stories of bAbI (Weston et al. 2015) in a book, as in BABILong (Kuratov et al. 2024): the sentences of a story stand
    in their order anywhere in a long excerpt, the question at its end; the logits at its last token should be the answer.

    Tokens are words and punctuation marks: those of the stories have an id each, those of the book one of 1,024, by
    their checksum. A token here is a word, so a stream of a million is about 1.3 million of a subword tokenizer's. A
    tenth of the stories and of the book is held out.

    Args:
        stories: a file of bAbI, e.g. qa1_single-supporting-fact_train.txt.
        book: a text file.
        segment: tokens of a segment.
    """

    def __init__(self, stories: str = "", book: str = "", segment: int = 64) -> None:
        if not stories or not book:
            raise UsageError("This task needs a file of bAbI as `stories` and a text file as `book`.")
        told = _stories(_read(stories))
        if len(told) < 20:
            raise UsageError(f"{stories} holds {len(told)} questions in the format of bAbI, which are too few.")
        words = sorted(
            {word for story in told for part in (*story.facts, story.question, [story.answer]) for word in part}
        )
        self.words = {word: number for number, word in enumerate(words)}
        self.segment, self.vocabulary = segment, len(words) + BUCKETS
        text = torch.tensor([self._id(word) for word in WORD.findall(_read(book).lower())])
        cut = len(text) * 9 // 10
        self.text, self._rest = text[:cut], text[cut:]
        self.told, self._untold = told[: len(told) * 9 // 10], told[len(told) * 9 // 10 :]

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        ids = torch.empty(rows, length, dtype=torch.int64)
        targets = torch.full_like(ids, NOT_ASKED)
        chosen = torch.randint(0, len(self.told), (rows,), generator=generator).tolist()
        for row, story in enumerate(self.told[number] for number in chosen):
            facts = [[self._id(word) for word in fact] for fact in story.facts]
            question = [self._id(word) for word in story.question]
            space = length - len(question) - sum(map(len, facts))
            if space < 0:
                raise UsageError(f"{segments} segments of {self.segment} tokens are too short for a story.")
            start = int(torch.randint(0, len(self.text), (1,), generator=generator))
            noise = self.text[torch.arange(start, start + space) % len(self.text)].tolist()
            places = torch.randint(0, space + 1, (len(facts),), generator=generator).sort().values.tolist()
            stream, done = [], 0
            for place, fact in zip(places, facts, strict=True):
                stream += noise[done:place] + fact
                done = place
            ids[row] = torch.tensor(stream + noise[done:] + question)
            targets[row, -1] = self.words[story.answer]
        return Batch(ids, targets)

    def held_out(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, text=self._rest, told=self._untold)
        return twin

    def _id(self, word: str) -> int:
        known = self.words.get(word)
        return len(self.words) + zlib.crc32(word.encode()) % BUCKETS if known is None else known


def _stories(text: str) -> list[Story]:
    """Every question of a bAbI file with the facts told before it in its story."""
    told: list[Story] = []
    facts: list[list[str]] = []
    for line in text.lower().splitlines():
        number, _, rest = line.partition(" ")
        if number == "1":
            facts = []
        sentence, *answer = rest.split("\t")
        if answer:
            told.append(Story(list(facts), WORD.findall(sentence), answer[0].strip()))
        else:
            facts.append(WORD.findall(sentence))
    return told


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
