"""Who is where, told in a few sentences scattered through a book."""

import re
import zlib
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

BUCKETS = 1024  # of the words of the book
ROOM = 128  # tokens of a stream for each story in training, at most: the stories fill up to two thirds of it
WORD = re.compile(r"\w+|[^\w\s]")


class Sentence(NamedTuple):
    """A line of bAbI as words; a question has an answer."""

    words: list[str]
    answer: str | None


class BabiBook(Task):
    """Stories of bAbI (Weston et al. 2015) in a book, as in BABILong (Kuratov et al. 2024): their sentences stand in their
    order anywhere in a long excerpt; the logits at the last token of a question should be the answer.

    Streams to train on tell whole stories with all of their questions, one story after the other: one to as many as there
    are times 128 tokens, the last question at the end. Streams held out ask as BABILong does, a single question at the
    end; before it only the facts that its story tells up to there. A tenth of the stories and the last tenth of the book
    are held out; an excerpt that is longer than its part of the book begins it again.

    Tokens are words and punctuation marks: those of the stories have an id each, those of the book one of 1,024, by
    their checksum. As in BABILong the book keeps its words that stories use too: War and Peace says "Mary" 668 times,
    "garden" 46 times, but never as a story does. A token here is a word, so a stream of a million is about 1.3 million of a
    subword tokenizer's.

    Args:
        stories: a file of bAbI, e.g. qa1_single-supporting-fact_train.txt.
        book: a text file.
        segment: tokens of a segment.
    """

    def __init__(self, stories: str = "", book: str = "", segment: int = 64) -> None:
        if not stories or not book:
            raise UsageError("This task needs a file of bAbI as `stories` and a text file as `book`.")
        told = _stories(_read(stories))
        if len(told) < 10:
            raise UsageError(f"{stories} holds {len(told)} stories in the format of bAbI, which are too few.")
        sentences = [sentence for story in told for sentence in story]
        words = {word for sentence in sentences for word in sentence.words}
        words |= {sentence.answer for sentence in sentences if sentence.answer is not None}
        self.words = {word: number for number, word in enumerate(sorted(words))}
        self.segment, self.vocabulary = segment, len(words) + BUCKETS
        text = torch.tensor([self._id(word) for word in WORD.findall(_read(book).lower())])
        cut = len(text) * 9 // 10
        self.text, self._rest = text[:cut], text[cut:]
        cut = len(told) * 9 // 10
        self.told, self._untold = told[:cut], _questions(told[cut:])
        self.most: int | None = None  # stories of a stream

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        made = [self._lay(self._choose(length, generator), length, generator) for _ in range(rows)]
        return Batch(torch.stack([ids for ids, _ in made]), torch.stack([targets for _, targets in made]))

    def held_out(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, text=self._rest, told=self._untold, most=1)
        return twin

    def _choose(self, length: int, generator: torch.Generator) -> list[Sentence]:
        """What a stream tells and asks."""
        most = max(1, length // ROOM) if self.most is None else self.most
        count = int(torch.randint(1, most + 1, (), generator=generator))
        numbers = torch.randint(0, len(self.told), (count,), generator=generator).tolist()
        return [sentence for number in numbers for sentence in self.told[number]]

    def _lay(self, sentences: list[Sentence], length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A stream of the book with the sentences in it, the last at its end, and its targets, both (length,)."""
        space = length - sum(len(sentence.words) for sentence in sentences)
        if space < 0:
            raise UsageError(f"A stream of {length} tokens is too short for a story.")
        start = int(torch.randint(0, len(self.text), (), generator=generator))
        noise = self.text[torch.arange(start, start + space) % len(self.text)]
        places = torch.randint(0, space + 1, (len(sentences) - 1,), generator=generator).sort().values.tolist()
        stream, targets, done = [], torch.full((length,), IGNORE_INDEX), 0
        end = 0  # of the stream so far
        for place, sentence in zip([*places, space], sentences, strict=True):
            stream += [noise[done:place], torch.tensor([self.words[word] for word in sentence.words])]
            end += place - done + len(sentence.words)
            done = place
            if sentence.answer is not None:
                targets[end - 1] = self.words[sentence.answer]
        return torch.cat(stream), targets

    def _id(self, word: str) -> int:
        known = self.words.get(word)
        return len(self.words) + zlib.crc32(word.encode()) % BUCKETS if known is None else known


def _stories(text: str) -> list[list[Sentence]]:
    """The stories of a bAbI file, each up to its last question."""
    stories: list[list[Sentence]] = []
    for line in text.lower().splitlines():
        number, _, rest = line.partition(" ")
        if number == "1":
            stories.append([])
        if stories:
            sentence, *answer = rest.split("\t")
            stories[-1].append(Sentence(WORD.findall(sentence), answer[0].strip() if answer else None))
    return [ended for story in stories if (ended := _up_to_last_question(story))]


def _up_to_last_question(story: list[Sentence]) -> list[Sentence]:
    asked = [place for place, sentence in enumerate(story) if sentence.answer is not None]
    return story[: asked[-1] + 1] if asked else []


def _questions(stories: list[list[Sentence]]) -> list[list[Sentence]]:
    """Every question as a story of its own: the facts told before it, and the question."""
    return [
        [*(fact for fact in story[:place] if fact.answer is None), question]
        for story in stories
        for place, question in enumerate(story)
        if question.answer is not None
    ]


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
