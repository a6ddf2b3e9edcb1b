"""Tasks on texts: the input is a text, perhaps with a question behind it, and the answer is a text or a label.

Letters: B batch, T tokens, V vocabulary.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from memspan.data.corpora import Record
from memspan.data.datasets import pad, split_indices, split_indices_by_group
from memspan.data.rows import described, is_empty, unusable
from memspan.errors import UsageError
from memspan.models.generate import Sampling, continue_text
from memspan.tasks.base import IGNORE_INDEX, Batch
from memspan.tasks.data_source import GENERATED, DataSource, drawn
from memspan.tasks.records import Example, RecordTask

POOL = 16  # batches drawn at once and sorted by length, so that the examples of one batch are about as long
LEARN_FROM = 20_000  # maximum number of records that a vocabulary is learned from

Answer = TypeVar("Answer")


class DocumentSet(NamedTuple):
    """Documents that a model reads one after the other, and the records with the questions about them."""

    documents: list[str]
    records: list[Record]


@runtime_checkable
class Extracting(Protocol):
    """A model that answers with words of a text; `examples` are texts and questions, one answer for each."""

    def extract(self, examples: Sequence[tuple[str, str]]) -> list[str]: ...


class TextTask(RecordTask):
    """A task whose streams are: source, question, the tokens that introduce an answer, and the answer.

    A source that is too long loses its end, or is read whole where the streams have enough segments. The rows of a batch
    are padded on the left, so that all end together: at the end of a segment where `whole_segments`, otherwise anywhere,
    so that an answer of many tokens begins anywhere in a segment, in training as in generation.

    Args:
        source: where the records come from.
        segment: tokens of a segment.
        vocabulary: size of the byte-pair encoding that is learned from the records.
        tokenizer: name of a pretrained model whose tokenizer is used instead.
        answer_tokens: maximum length of an answer; targets are cut there, too. By default what suits the task.
        all_tokens: train on the tokens of source and question as well, each predicted at the one before it; useful where
            records are few.
        saved: folder that `save` wrote: tokenizer and labels come from there, and records need not be given.
    """

    is_text: ClassVar[bool] = True
    answer_tokens: int = 32
    instruction: ClassVar[str | None] = None  # for a pretrained model, behind the text; None: the assistant's default
    whole_segments: ClassVar[bool] = False  # for answers of one token, which stand at the end of a segment
    group_by: ClassVar[str | None] = None  # the column whose equal values are held out together
    change: Callable[..., str] | None = None  # augmentation of the texts trained on

    def __init__(
        self,
        source: DataSource = GENERATED,
        segment: int = 64,
        vocabulary: int = 4096,
        tokenizer: str | None = None,
        answer_tokens: int | None = None,
        all_tokens: bool = False,
        saved: str | None = None,
    ) -> None:
        self.all_tokens = all_tokens
        if answer_tokens is not None:
            self.answer_tokens = answer_tokens
        if self.answer_tokens < 1:
            raise UsageError(f"answer_tokens must be at least one token, got answer_tokens={answer_tokens}.")
        super().__init__(source, segment, vocabulary, tokenizer, saved)

    # ---- records

    @staticmethod
    def guess(records: Sequence[Record]) -> Mapping[str, str]:
        """The columns to rename, {theirs: ours}, in a table that has not those of the task; by default none."""
        return {}

    def split(self, source: DataSource) -> tuple[Sequence[Record], Sequence[Record]]:
        """The test files where there are any; otherwise a random part of the records, groups held out together."""
        records, tests = source.read(self.columns, self.sample, self.guess)
        if tests is not None:
            return drawn(records, source.limit, source.split_seed), drawn(tests, source.limit, source.split_seed)
        if self.group_by is None:
            train, rest = split_indices(len(records), source.held_out, source.split_seed)
        else:
            groups = [str(record[self.group_by]) for record in records]
            train, rest = split_indices_by_group(groups, source.held_out, source.split_seed)
        train, rest = (list(drawn(side, source.limit, source.split_seed)) for side in (train, rest))
        return [records[index] for index in train], [records[index] for index in rest]

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """The records without empty columns."""
        return [record for record in records if not any(is_empty(record[column]) for column in self.columns)]

    def problems(self, source: DataSource) -> list[str]:
        parts = [part for part in source.read(self.columns, self.sample, self.guess) if part is not None]
        found = []
        for part in parts:
            problems = {**unusable(part, self.columns, part.first), **part.problems}
            if problems:
                found.append(described(dict(sorted(problems.items())), len(part), part.name))
        return found

    def with_held_out(self, source: DataSource) -> Self:
        """The task as it was learned, with the records of a source held out. Raises UsageError where none can be used."""
        found = source.read(self.columns, self.sample, self.guess)[0]
        records = self.usable(found)
        if not records:
            raise UsageError(f"{found.name} must hold records with {' and '.join(self.columns)}, got none.")
        task = self.with_records(held_out=drawn(records, source.limit, source.split_seed))
        return task.copy_with(left_out=task.problems(source) if len(records) < len(found) else [])

    def targets(self, record: Record) -> list[str]:
        """All right answers of a record."""
        return [self.example(record).target]

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        return (text for record in islice(records, LEARN_FROM) for text in self.example(record) if text)

    def augmented(self, change: Callable[..., str]) -> Self:
        column = self.columns[0]
        if not isinstance(self.records[0][column], str):
            raise UsageError(f"`augment` changes texts, and the column '{column}' of this task is none: leave it out.")
        return self.copy_with(change=change)

    def changed(self, records: Sequence[Record], generator: torch.Generator) -> Sequence[Record]:
        """These records as `augmented` changes them for training: their first column."""
        if self.change is None:
            return records
        draw, column = random.Random(int(torch.randint(0, 2**31, (), generator=generator))), self.columns[0]
        contexts = [str(self.records[draw.randrange(len(self.records))][column]) for _ in records]
        return [{**record, column: self.change(record[column], draw, contexts)} for record in records]

    def held_out(self) -> Self:
        return super().held_out().copy_with(change=None)

    # ---- streams

    def answer_ids(self, example: Example) -> list[int]:
        """The target ids of an example."""
        return [*self.tokenizer.encode(example.target)[: self.answer_tokens - 1], self.tokenizer.end]

    def prompt_ids(self, example: Example, max_tokens: int) -> list[int]:
        """The ids before the answer, at most `max_tokens`: a source that is too long loses its end."""
        question = f"\n{example.question}" if example.question else ""  # on a line of its own
        after = [*self.tokenizer.encode(question), *self.tokenizer.answer]
        if len(after) > max_tokens:
            after = after[-max_tokens:]
        return [*self.tokenizer.encode(example.source)[: max_tokens - len(after)], *after]

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        drawn = torch.randint(0, len(self.records), (batch_size * POOL,), generator=generator).tolist()
        drawn.sort(key=lambda index: len(self.example(self.records[index]).source))
        start = int(torch.randint(0, POOL, (), generator=generator)) * batch_size
        records = [self.records[index] for index in drawn[start : start + batch_size]]
        return self.streams(self.changed(records, generator), segments)

    def streams(self, records: Sequence[Record], segments: int) -> Batch:
        """These records as a batch of at most `segments` segments."""
        max_tokens = segments * self.segment
        inputs, answers = [], []
        for example in map(self.example, records):
            answer = self.answer_ids(example)[:max_tokens]
            inputs.append([*self.prompt_ids(example, max_tokens - len(answer) + 1), *answer[:-1]])
            answers.append(answer)
        ids = self._padded(inputs)
        targets = torch.full_like(ids, IGNORE_INDEX)
        for row, stream, answer in zip(targets, inputs, answers, strict=True):
            predicted = [*stream[1:], answer[-1]] if self.all_tokens else answer
            row[len(row) - len(predicted) :] = torch.tensor(predicted)
        return Batch(ids, targets)

    def _padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        ids, _ = pad(rows, self.segment if self.whole_segments else 1, self.tokenizer.pad)
        return ids

    # ---- predictions

    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, batch_size: int = 32) -> list[str]:
        if isinstance(model, Extracting):
            return model.extract([(example.source, example.question) for example in examples])
        return self.in_batches(model, examples, segments, self.answers, batch_size)

    def in_batches(
        self,
        model: nn.Module,
        examples: Sequence[Example],
        segments: int,
        answers: Callable[[nn.Module, Tensor], Sequence[Answer]],
        batch_size: int = 32,
    ) -> list[Answer]:
        """What `answers` makes of the prompts (B, T) of each batch, in the order of the examples."""
        order = sorted(range(len(examples)), key=lambda index: len(examples[index].source))
        device = next(model.parameters()).device
        found: dict[int, Answer] = {}
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                indices = order[start : start + batch_size]
                ids = self._padded([self.prompt_ids(examples[index], segments * self.segment) for index in indices])
                found |= dict(zip(indices, answers(model, ids.to(device)), strict=True))
        return [found[index] for index in range(len(examples))]

    def answers(self, model: nn.Module, ids: Tensor) -> list[str]:
        """The model's continuations of prompts (B, T)."""
        sampling = Sampling(max_new_tokens=self.answer_tokens)
        tokens, _ = continue_text(model, ids, sampling=sampling, stop=[self.tokenizer.end])
        return [self.tokenizer.decode(row) for row in tokens.tolist()]

    # ---- documents for a pretrained model with its memory

    def document_sets(self, documents: int, draw: random.Random) -> list[DocumentSet]:
        """Up to `documents` held-out sources, drawn at random, with their records: by default a set for each source."""
        return [DocumentSet([source], records) for source, records in self.drawn_sources(documents, draw)]

    def drawn_sources(self, documents: int, draw: random.Random) -> list[tuple[str, list[Record]]]:
        """Up to `documents` held-out sources in random order, each with its records."""
        records_of: dict[str, list[Record]] = {}
        for record in self.held_out_records:
            records_of.setdefault(self.example(record).source, []).append(record)
        return draw.sample(list(records_of.items()), min(documents, len(records_of)))
