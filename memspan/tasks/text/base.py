"""Tasks on texts: something is read, a question may follow, and something should be said.

Letters: B batch, T tokens, V vocabulary.
"""

import json
import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from memspan.data.datasets import TABLE, Record, TextDataset, divide, pad, read
from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.models.generate import Sampling, continue_text
from memspan.pretrained import hub
from memspan.tasks.base import IGNORE_INDEX, Batch, Task

POOL = 16  # batches whose examples are sorted by length, so that those of one batch are about as long
LEARN_FROM = 20_000  # records that a vocabulary is learned from, at most
SAMPLE = 600  # records that the project generates where no data are named


class Example(NamedTuple):
    """What is read, what is asked behind it, and what should be said."""

    source: str
    target: str
    question: str = ""


class DocumentSet(NamedTuple):
    """Documents that are read one after the other, and the records that are then asked about them."""

    documents: list[str]
    records: list[Record]


class TextTask(Task):
    """Examples as streams: source, question, the tokens that ask for an answer, and the answer.

    A source that is too long loses its end, or is read whole where the streams have segments enough for it. Rows of a
    batch are filled up on the left, so they end together: at the end of a segment where `whole_segments`, else anywhere,
    so that an answer of many tokens begins at any place of a segment, in training as later when it is said.

    Args:
        data: files to train on; without any, a small sample that memspan generates; None for no records at all, where
            a saved task is only to predict.
        test: files held out; without any, a part of `data`.
        format: of the files: table (csv, tsv, json, jsonl, parquet), hub, or a public corpus by name.
        test_format: of `test`, where it is another one.
        rename: columns that are called otherwise, {theirs: ours}.
        held_out: the part held out where no `test` is given.
        limit: records at most, of each of both.
        segment: tokens of a segment.
        vocabulary: ids of the byte-pair encoding that is learned from the data.
        tokenizer: take that of this pretrained model instead.
        answer_tokens: said at most; what should be said is cut there, too. By default what suits the task.
        all_tokens: ask for the tokens of source and question too, each at the one before it. Where records are few, a
            model learns from it what texts are about.
        saved: a folder that `save` wrote: tokenizer and labels come from there, and data need not be given.
    """

    columns: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    is_text: ClassVar[bool] = True
    answer_tokens: int = 32  # said at most
    instruction: ClassVar[str | None] = None  # for a pretrained model, behind the text; None: the assistant's default
    whole_segments: ClassVar[bool] = False  # for answers of one token: what is said is said at the end of a segment
    extra: int = 0  # ids behind those of the tokenizer
    change: Callable[..., str] | None = None  # made to texts to train on

    def __init__(
        self,
        data: str | Sequence[str] | None = (),
        test: str | Sequence[str] = (),
        format: str = TABLE,
        test_format: str | None = None,
        rename: Mapping[str, str] | None = None,
        held_out: float = 0.1,
        limit: int | None = None,
        segment: int = 64,
        vocabulary: int = 4096,
        tokenizer: str | None = None,
        answer_tokens: int | None = None,
        all_tokens: bool = False,
        saved: str | None = None,
    ) -> None:
        if segment < 1 or not 0 < held_out < 1 or (limit is not None and limit < 2):
            raise UsageError(
                f"segment={segment}, held_out={held_out}, limit={limit} cannot be: at least 1, between 0 and 1, "
                "and at least 2."
            )
        self.segment, self.all_tokens = segment, all_tokens
        if answer_tokens is not None:
            self.answer_tokens = answer_tokens
        if self.answer_tokens < 1:
            raise UsageError(f"answer_tokens={answer_tokens} cannot be: at least one token is said.")
        if saved is not None:
            self.tokenizer = Tokenizer.open(saved)
        if data is None:
            self.records: list[Record] = []
            self._rest: list[Record] = []
        else:
            self._read(data, test, format, test_format, rename or {}, held_out, limit)
        if saved is None:
            self.tokenizer = (
                Tokenizer.learn(self.texts(self.records), vocabulary)
                if tokenizer is None
                else Tokenizer.of_pretrained(hub.resolve(tokenizer))
            )
        self.prepare(saved)
        self.vocabulary = self.tokenizer.size + self.extra

    def _read(
        self,
        data: str | Sequence[str],
        test: str | Sequence[str],
        format: str,
        test_format: str | None,
        rename: Mapping[str, str],
        held_out: float,
        limit: int | None,
    ) -> None:
        """Sets the records to train on and those held out."""
        paths, tests = ([one] if isinstance(one, str) else list(one) for one in (data, test))
        if not paths and not tests and (format != TABLE or test_format is not None or rename):
            raise UsageError("`format`, `test_format` and `rename` say how files are read: name these as `data`.")
        given: Sequence[Record] = (
            read(paths, self.columns, format, rename)
            if paths
            else TextDataset(self.sample(SAMPLE), self.columns, name="the generated sample")
        )
        if tests:
            train, rest = _first(given, limit), _first(read(tests, self.columns, test_format or format, rename), limit)
        else:
            train, rest = self.split(given, held_out, limit)
        self.records, self._rest = self.usable(train), self.usable(rest)
        if not self.records or not self._rest:
            raise UsageError(
                f"The data hold too few records that can be used: {len(self.records)} of {len(train)} to train on, and "
                f"{len(self._rest)} of {len(rest)} held out. Those whose {' or '.join(self.columns)} is empty are left out."
            )

    # ---- what a task says of itself

    @staticmethod
    @abstractmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Records that memspan generates, always the same ones, so that everything runs anywhere."""

    @abstractmethod
    def example(self, record: Record) -> Example:
        """What is read and said."""

    @abstractmethod
    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        """The metrics of what was said about these records."""

    def split(
        self, records: Sequence[Record], share: float, limit: int | None
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        """Records to train on and records held out: by default at random."""
        train, rest = divide(len(records), share)
        return [records[place] for place in train[:limit]], [records[place] for place in rest[:limit]]

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """Those of which something can be asked: without empty texts or targets."""
        return [record for record in records if all(_filled(record[column]) for column in self.columns)]

    def prepare(self, saved: str | None) -> None:
        """Whatever else is learned from the records, or read from the folder; says how many ids are `extra`."""

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        """The task's metric by ways that need no neural network, on the records held out."""
        return {}

    # ---- streams

    def answer_ids(self, example: Example) -> list[int]:
        return [*self.tokenizer.encode(example.target)[: self.answer_tokens - 1], self.tokenizer.end]

    def prompt_ids(self, example: Example, room: int) -> list[int]:
        """What is read before the answer, at most `room` ids: the end of a source that is too long is left out."""
        question = f"\n{example.question}" if example.question else ""  # on a line of its own
        after = [*self.tokenizer.encode(question), *self.tokenizer.answer]
        if len(after) > room:
            after = after[-room:]
        return [*self.tokenizer.encode(example.source)[: room - len(after)], *after]

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        chosen = torch.randint(0, len(self.records), (rows * POOL,), generator=generator).tolist()
        chosen.sort(key=lambda place: len(self.example(self.records[place]).source))
        start = int(torch.randint(0, POOL, (), generator=generator)) * rows
        return self.streams(
            self.changed([self.records[place] for place in chosen[start : start + rows]], generator), segments
        )

    def augmented(self, change: Callable[..., str]) -> Self:
        column = self.columns[0]
        if not isinstance(self.records[0][column], str):
            raise UsageError(f"`augment` changes texts, and '{column}' of this task is none.")
        return self._twin(change=change)

    def changed(self, records: Sequence[Record], generator: torch.Generator) -> Sequence[Record]:
        """These records, to be trained on, as `augmented` changes them: their first column."""
        if self.change is None:
            return records
        draw, column = random.Random(int(torch.randint(0, 2**31, (), generator=generator))), self.columns[0]
        others = [str(self.records[draw.randrange(len(self.records))][column]) for _ in records]
        return [{**record, column: self.change(record[column], draw, others)} for record in records]

    def streams(self, records: Sequence[Record], segments: int) -> Batch:
        """These records as a batch of at most so many segments."""
        room = segments * self.segment
        prompts, answers = [], []
        for example in map(self.example, records):
            answer = self.answer_ids(example)[:room]
            prompts.append([*self.prompt_ids(example, room - len(answer) + 1), *answer[:-1]])
            answers.append(answer)
        ids = self._pad(prompts)
        targets = torch.full_like(ids, IGNORE_INDEX)
        for row, prompt, answer in zip(targets, prompts, answers, strict=True):
            asked = [*prompt[1:], answer[-1]] if self.all_tokens else answer
            row[len(row) - len(asked) :] = torch.tensor(asked)
        return Batch(ids, targets)

    def _pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        ids, _ = pad(rows, self.segment if self.whole_segments else 1, self.tokenizer.pad)
        return ids

    def held_out(self) -> Self:
        return self._twin(records=self._rest, change=None)

    def about(self, records: Sequence[Record]) -> Self:
        """The task with these records held out."""
        return self._twin(_rest=list(records))

    def _twin(self, **changes: Any) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, **changes)
        return twin

    # ---- saying

    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, rows: int = 32) -> list[str]:
        """What a model says to each example, whose target it does not see."""
        order = sorted(range(len(examples)), key=lambda place: len(examples[place].source))
        said: dict[int, str] = {}
        with torch.no_grad():
            for first in range(0, len(order), rows):
                places = order[first : first + rows]
                prompts = [self.prompt_ids(examples[place], segments * self.segment) for place in places]
                ids = self._pad(prompts)
                device = next(model.parameters()).device
                said |= dict(zip(places, self.answers(model, ids.to(device)), strict=True))
        return [said[place] for place in range(len(examples))]

    def answers(self, model: nn.Module, ids: Tensor) -> list[str]:
        """What follows prompts (B, T)."""
        tokens, _ = continue_text(
            model, ids, sampling=Sampling(max_new_tokens=self.answer_tokens), stop=[self.tokenizer.end]
        )
        return [self.tokenizer.decode(row) for row in tokens.tolist()]

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, rows: int = 32) -> dict[str, float]:
        """The metrics on the first `limit` records held out."""
        records = list(islice(self._rest, limit))
        was_training = model.training
        model.eval()
        try:
            said = self.generate(model, [self.example(record) for record in records], segments, rows)
        finally:
            model.train(was_training)
        return self.compute_metrics(records, said)

    def predict(self, model: nn.Module, texts: Sequence[str], segments: int, question: str = "") -> list[str]:
        """What a model says to texts of the user's own."""
        return self.generate(model, [Example(text, "", question) for text in texts], segments)

    # ---- asking a pretrained model with its memory

    def document_sets(self, documents: int, draw: random.Random) -> list[DocumentSet]:
        """So many sources held out, drawn at random, with what is asked about each: by default every one on its own."""
        return [DocumentSet([source], records) for source, records in self._drawn(documents, draw)]

    def _drawn(self, documents: int, draw: random.Random) -> list[tuple[str, list[Record]]]:
        """Sources held out, in random order, each with its records."""
        asked: dict[str, list[Record]] = {}
        for record in self._rest:
            asked.setdefault(self.example(record).source, []).append(record)
        return draw.sample(list(asked.items()), min(documents, len(asked)))

    # ---- keeping

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        """What the vocabulary is learned from."""
        return (part for record in islice(records, LEARN_FROM) for part in self.example(record) if part)


def _first(records: Sequence[Record], limit: int | None) -> Sequence[Record]:
    return records if limit is None or len(records) <= limit else [records[place] for place in range(limit)]


def _filled(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and (not isinstance(value, list) or len(value) > 0)


def read_learned(folder: str, name: str, what: str) -> Any:
    """What `save` wrote as JSON into the file `name`. Raises UsageError where it is missing or damaged; `what` it is."""
    path = Path(folder) / name
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}, which holds the {what}, cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise damaged(path, what) from error


def damaged(path: Path, what: str) -> UsageError:
    """The error that says so."""
    return UsageError(f"{path}, which holds the {what}, is damaged: copy it anew, or train the model again.")
