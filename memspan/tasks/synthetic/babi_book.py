"""bAbI in a book: who is where, stated in a few sentences scattered through a long text."""

import re
import zlib
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

BUCKETS = 1024  # ids of the words of the book
TOKENS_PER_STORY = 128  # of a training stream, at least: its stories fill up to two thirds of it
EXCERPT = 64  # tokens of an excerpt where a training stream holds several
BEFORE, AROUND = 12, 16  # tokens before a word of the stories in an excerpt around it, and tokens of that excerpt
WORD = re.compile(r"\w+|[^\w\s]")


class Sentence(NamedTuple):
    """A line of bAbI as words; a question has an answer."""

    words: list[str]
    answer: str | None


Story = list[Sentence]


class BabiBook(Task):
    """Stories of bAbI (Weston et al. 2015) in a book, as in BABILong (Kuratov et al. 2024): their sentences stand in their
    order anywhere in a long excerpt; the target at the last token of a question is the answer.

    Training streams hold whole stories with all of their questions, one story after the other, from one story to as many
    as there are times 128 tokens, and end with the last question. Held-out streams follow BABILong: a single question at
    the end, and before it only the facts of its story up to there. A tenth of the stories is held out, and another book, or
    the last tenth of the one; an excerpt that is longer than its part of the book begins it again.

    Tokens are words and punctuation marks: those of the stories have an id each, those of the book one of 1,024, by their
    checksum. As in BABILong the book keeps its words that stories use too: War and Peace has "Mary" 668 times and "garden"
    46 times, but never in a sentence like those of the stories. A token here is a word, so a stream of a million tokens is
    about 1.3 million of a subword tokenizer's.

    Args:
        stories: a file of bAbI, e.g. qa1_single-supporting-fact_train.txt.
        book: a text file.
        segment: tokens of a segment.
        held_out_book: a text file for the held-out streams; "": the last tenth of `book`.
        hard_negatives: share, from 0 to 1, of the excerpts of a training stream that are 16 tokens around a word that stories
            use too, each such word as likely as the others. Above 0 a stream holds many short excerpts rather than one:
            a book says "garden" so rarely that a memory hardly learns to ignore it there. Held-out streams stay as they are.

    Raises UsageError for a missing or empty file, one without ten stories in the format of bAbI, a share out of range, or a share above 0
    where the book has no word of the stories.
    """

    def __init__(
        self,
        stories: str = "",
        book: str = "",
        segment: int = 64,
        held_out_book: str = "",
        hard_negatives: float = 0.0,
    ) -> None:
        if not stories or not book:
            raise UsageError("This task needs a file of bAbI as `stories` and a text file as `book`.")
        if not 0 <= hard_negatives <= 1:
            raise UsageError(f"hard_negatives must be a share from 0 to 1, got {hard_negatives}.")
        parsed = _stories(_read(stories))
        if len(parsed) < 10:
            raise UsageError(f"{stories} must hold at least 10 stories in the format of bAbI, got {len(parsed)}.")
        sentences = [sentence for story in parsed for sentence in story]
        words = {word for sentence in sentences for word in sentence.words}
        words |= {sentence.answer for sentence in sentences if sentence.answer is not None}
        self.words = {word: number for number, word in enumerate(sorted(words))}
        self.segment, self.vocabulary = segment, len(words) + BUCKETS
        text = self._ids(book)
        cut = len(text) if held_out_book else len(text) * 9 // 10
        self.text, self.held_out_text = text[:cut], self._ids(held_out_book) if held_out_book else text[cut:]
        occurrences = [(self.text == number).nonzero().flatten() for number in self.words.values()]
        self.hard_negatives, self.occurrences = hard_negatives, [found for found in occurrences if len(found)]
        if hard_negatives and not self.occurrences:
            raise UsageError(
                f"hard_negatives must be 0 for a book without a word of the stories, got {hard_negatives}."
            )
        cut = len(parsed) * 9 // 10
        self.stories, self.held_out_stories = parsed[:cut], _single_questions(parsed[cut:])
        self.max_stories: int | None = None  # of a stream; None: by its length

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        streams = [self._stream(self._draw(length, generator), length, generator) for _ in range(batch_size)]
        return Batch(torch.stack([ids for ids, _ in streams]), torch.stack([targets for _, targets in streams]))

    def held_out(self) -> Self:
        return self.copy_with(text=self.held_out_text, stories=self.held_out_stories, max_stories=1, hard_negatives=0.0)

    def _draw(self, length: int, generator: torch.Generator) -> list[Sentence]:
        """The sentences of a stream of `length` tokens."""
        most = max(1, length // TOKENS_PER_STORY) if self.max_stories is None else self.max_stories
        count = int(torch.randint(1, most + 1, (), generator=generator))
        numbers = torch.randint(0, len(self.stories), (count,), generator=generator).tolist()
        return [sentence for number in numbers for sentence in self.stories[number]]

    def _stream(self, sentences: list[Sentence], length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A stream of the book with the sentences in it, the last at its end, and its targets, both (length,)."""
        space = length - sum(len(sentence.words) for sentence in sentences)
        if space < 0:
            raise UsageError(f"A stream of {length} tokens is too short for a story: give more or longer segments.")
        noise = self._excerpts(space, generator)
        offsets = torch.randint(0, space + 1, (len(sentences) - 1,), generator=generator).sort().values.tolist()
        stream, targets, used = [], torch.full((length,), IGNORE_INDEX), 0
        end = 0  # of the stream so far
        for offset, sentence in zip([*offsets, space], sentences, strict=True):
            stream += [noise[used:offset], torch.tensor([self.words[word] for word in sentence.words])]
            end += offset - used + len(sentence.words)
            used = offset
            if sentence.answer is not None:
                targets[end - 1] = self.words[sentence.answer]
        return torch.cat(stream), targets

    def _excerpts(self, length: int, generator: torch.Generator) -> Tensor:
        """So many tokens of the book: one excerpt, or, with hard negatives, several."""
        if not self.hard_negatives:
            return self._excerpt(int(torch.randint(0, len(self.text), (), generator=generator)), length)
        excerpts, left = [self.text[:0]], length
        while left:
            if torch.rand((), generator=generator) < self.hard_negatives:
                found = self.occurrences[int(torch.randint(0, len(self.occurrences), (), generator=generator))]
                start, count = int(found[torch.randint(0, len(found), (), generator=generator)]) - BEFORE, AROUND
            else:
                start, count = int(torch.randint(0, len(self.text), (), generator=generator)), EXCERPT
            excerpts.append(self._excerpt(start, min(count, left)))
            left -= len(excerpts[-1])
        return torch.cat(excerpts)

    def _excerpt(self, start: int, length: int) -> Tensor:
        return self.text[torch.arange(start, start + length) % len(self.text)]

    def _ids(self, path: str) -> Tensor:
        ids = [self._id(word) for word in WORD.findall(_read(path).lower())]
        if not ids:
            raise UsageError(f"{path} must hold words, got none.")
        return torch.tensor(ids)

    def _id(self, word: str) -> int:
        number = self.words.get(word)
        return len(self.words) + zlib.crc32(word.encode()) % BUCKETS if number is None else number


def _stories(text: str) -> list[Story]:
    """The stories of a bAbI file, each up to its last question."""
    stories: list[Story] = []
    for line in text.lower().splitlines():
        number, _, rest = line.partition(" ")
        if number == "1":
            stories.append([])
        if stories:
            sentence, *answer = rest.split("\t")
            stories[-1].append(Sentence(WORD.findall(sentence), answer[0].strip() if answer else None))
    return [ended for story in stories if (ended := _up_to_last_question(story))]


def _up_to_last_question(story: Story) -> Story:
    questions = [index for index, sentence in enumerate(story) if sentence.answer is not None]
    return story[: questions[-1] + 1] if questions else []


def _single_questions(stories: list[Story]) -> list[Story]:
    """Every question as a story of its own: the facts before it, and the question."""
    return [
        [*(fact for fact in story[:index] if fact.answer is None), question]
        for story in stories
        for index, question in enumerate(story)
        if question.answer is not None
    ]


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
