"""Memory: what a language model still knows of a text that has left its window, by three readings that follow the text.

Letters: B batch, T tokens of a reading, L tokens of the text.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.mechanisms import trained_memory
from memspan.pretrained import hub
from memspan.pretrained.latent_fitting import Example
from memspan.state import State, select
from memspan.tasks.base import IGNORE_INDEX, Batch, Task
from memspan.tasks.samples import word_lists
from memspan.tasks.text.language_modelling import BYTES, YEARS, LanguageModelling, read_text

READINGS = ("text", "following", "facts")
MEMORIES = ("nothing", "own", "other", "full")
FOLLOWING = 64  # tokens that are predicted of what follows a text
HELD_OUT = 4  # every fourth name, value, attribute and form of a sentence is kept for measurements
SENTENCE_ENDS = (".", "!", "?", '."', "\n")


class Fact(NamedTuple):
    """An invented fact as text: the sentence, the question with what leads to the answer, and the answer."""

    statement: str
    question: str
    answer: str


class Excerpt(NamedTuple):
    """A text with facts in it, what follows it, and the ids of each fact's question and answer."""

    text: list[int]
    following: list[int]
    questions: list[tuple[list[int], list[int]]]


class TextMemory(Task):
    """A text of segments - 1 segments, then a segment that can be predicted well only by a model that remembers it.

    In a quarter of the streams the last segment is a segment of the text itself. In the others it holds the next 64 tokens
    (in every other stream), and questions for the values of invented facts, which stand anywhere in the text. Targets are
    the repeated text, the next tokens, and the values.

    A pretrained model is trained on it with a working memory that has weights of its own, in which one segment stays as it
    is and all before it is compressed (`working_memory`). `score` measures all three readings with the memory of the text,
    with that of another text, with none, and with the full text in the window, in nats per token; `closed` is the share of
    the distance from nothing to the full text that the memory of the text closes; `right` is the share of the facts of which
    every token of the value is the likeliest. Names, values, attributes and forms of
    sentences that are measured on do not occur in training.

    Args:
        data: the text files; empty for a chronicle that memspan generates.
        held_out: the text files to measure on; empty for the last `valid` of the text.
        segment: tokens of a segment.
        facts: largest number of facts in a segment.
        valid: fraction of the text, at its end, that is held out where no files are.
        tokenizer: name of the pretrained model whose tokenizer is used.

    Raises UsageError for a text that cannot be read, and for a value out of range.
    """

    is_text, answer_last = True, False
    learned_by = "pretrained_causal"
    metric = "facts closed"

    def __init__(
        self,
        data: str | Sequence[str] = (),
        held_out: str | Sequence[str] = (),
        segment: int = 256,
        facts: int = 5,
        valid: float = 0.1,
        tokenizer: str | None = None,
    ) -> None:
        if segment <= FOLLOWING or facts < 1 or not 0 < valid < 1:
            raise UsageError(
                f"segment must be more than {FOLLOWING}, facts at least 1 and valid between 0 and 1, "
                f"got segment={segment}, facts={facts}, valid={valid}."
            )
        self.segment, self.most_facts, self.vocabulary = segment, facts, BYTES
        self.working_memory = trained_memory(segment)
        self._tokenizer, self._prefix = None, 0  # the number of tokens that the model puts before a text
        if tokenizer is not None:
            loaded = hub.tokenizer_of(tokenizer)
            self._tokenizer, self._prefix = Tokenizer.of_pretrained(loaded), len(loaded("")["input_ids"])
            self.vocabulary = self._tokenizer.size
        ids = self._encode(_texts(data) or [LanguageModelling.sample(YEARS)])
        kept = self._encode(_texts(held_out)) if held_out else []
        tokens = torch.tensor([token for text in ids for token in text], dtype=torch.int32)
        cut = len(tokens) if kept else len(tokens) - int(len(tokens) * valid)
        self.text = tokens[:cut]
        self.held_out_text = torch.tensor([token for text in kept for token in text], dtype=torch.int32)
        if not kept:
            self.held_out_text = tokens[cut:]
        ends = [ids[-1] for ids in self._encode([f"word{end}" for end in SENTENCE_ENDS])]
        self._ends = torch.tensor(sorted(set(ends)))
        self._is_held_out = False

    def held_out(self) -> Self:
        return self.copy_with(text=self.held_out_text, _is_held_out=True)

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        if segments < 2:
            raise UsageError(f"A stream must have at least 2 segments, a text and what follows it, got {segments}.")
        excerpts = self._excerpts(batch_size, segments - 1, generator)
        rows, targets = [], []
        pad = 0 if self._tokenizer is None else self._tokenizer.pad
        for number, excerpt in enumerate(excerpts):
            if number % HELD_OUT == 0:
                start = number // HELD_OUT % (segments - 1) * self.segment
                reading = excerpt.text[start : start + self.segment]
                wanted = [*reading[1:], IGNORE_INDEX]
            else:
                reading, wanted = self._reading_and_answer(excerpt, with_following=number % 2 == 0)
            rest = excerpt.following[: self.segment - len(reading)]  # fills the segment up
            text = [pad] * self._prefix + excerpt.text  # which the model's own prefix takes the place of
            rows.append(text + reading + rest)
            targets.append([IGNORE_INDEX] * len(text) + wanted + [IGNORE_INDEX] * len(rest))
        ids, wanted_ids = (torch.from_numpy(np.array(lists, np.int64)) for lists in (rows, targets))
        return Batch(ids, wanted_ids)

    def examples(self, count: int, generator: torch.Generator, facts: int = 4) -> list[Example]:
        """Texts of a segment, each with what is read behind it: half of the text itself, and questions for its facts."""
        half, found = self.segment // 2, []
        for number, excerpt in enumerate(self._excerpts(count, 1, generator, facts)):
            part = excerpt.text[:half] if number % 2 == 0 else excerpt.text[half:]
            questions: list[int] = []
            wanted: list[int] = []
            for question, answer in excerpt.questions:
                questions += [*question, *answer]
                wanted += [IGNORE_INDEX] * (len(question) - 1) + [*answer, IGNORE_INDEX]
            found.append(Example(excerpt.text, [(part, [*part[1:], IGNORE_INDEX]), (questions, wanted)]))
        return found

    def _reading_and_answer(self, excerpt: Excerpt, with_following: bool) -> tuple[list[int], list[int]]:
        """What follows the text and questions, at most a segment, and their targets."""
        reading: list[int] = excerpt.following[:FOLLOWING] if with_following else []
        wanted = [*reading[1:], IGNORE_INDEX] if with_following else []
        for question, answer in excerpt.questions:
            if len(reading) + len(question) + len(answer) > self.segment:
                break
            reading = reading + question + answer
            wanted += [IGNORE_INDEX] * (len(question) - 1) + answer + [IGNORE_INDEX]
        return reading, wanted

    def _excerpts(
        self, count: int, segments: int, generator: torch.Generator, facts: int | None = None
    ) -> list[Excerpt]:
        """Random excerpts that fill `segments` segments; `facts` in each, or a random number."""
        length = segments * self.segment - self._prefix
        if len(self.text) <= length + self.segment:
            raise UsageError(
                f"The text is too short: streams of {segments + 1} segments of {self.segment} tokens need more than "
                f"{length + self.segment:,} tokens, but there are {len(self.text):,}."
            )
        draw = random.Random(int(torch.randint(2**62, (), generator=generator)))
        invent = Inventor(draw, self._is_held_out)
        most = self.most_facts * segments
        facts_of = [invent.facts(draw.randint(1, most) if facts is None else facts) for _ in range(count)]
        encoded = iter(self._encode([part for row in facts_of for fact in row for part in fact]))
        excerpts = []
        for row in facts_of:
            start = draw.randrange(len(self.text) - length - self.segment)
            original = self.text[start : start + length + self.segment]
            statements, questions = [], []
            for _ in row:
                statement, question, answer = next(encoded), next(encoded), next(encoded)
                statements.append(statement)
                questions.append((question, answer))
            text, used = self._insert(original[:length], statements, draw)
            draw.shuffle(questions)
            excerpts.append(Excerpt(text, original[used : used + self.segment].tolist(), questions))
        return excerpts

    def _insert(self, tokens: Tensor, statements: list[list[int]], draw: random.Random) -> tuple[list[int], int]:
        """As many tokens as there are, the statements among them, behind sentences; and how many are of the original."""
        kept = max(1, len(tokens) - sum(map(len, statements)))
        ends = (torch.isin(tokens[:kept], self._ends).nonzero().flatten() + 1).tolist() or [0]
        at = sorted(draw.choice(ends) for _ in statements)
        text, start = [], 0
        for end, statement in zip(at, statements, strict=True):
            text += [*tokens[start:end].tolist(), *statement]
            start = end
        return (text + tokens[start:kept].tolist())[: len(tokens)], kept

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self._tokenizer is None:
            return [list(text.encode()) for text in texts]
        return self._tokenizer.encode_all(texts)

    @torch.no_grad()
    def score(self, model: nn.Module, segments: int, limit: int | None = 200, batch_size: int = 32) -> dict[str, float]:
        """The loss of each reading with each memory, on held-out texts with two facts, of which the first is asked for."""
        generator, task = torch.Generator().manual_seed(2**31), self.held_out()
        device = next(model.parameters()).device
        sums = {(reading, memory): torch.zeros(4, device=device) for reading in READINGS for memory in MEMORIES}
        was_training = model.training
        model.eval()
        try:
            for start in range(0, limit or 200, batch_size):
                excerpts = task._excerpts(min(batch_size, (limit or 200) - start), segments - 1, generator, facts=2)
                text = torch.tensor([excerpt.text for excerpt in excerpts], device=device)
                readings = {name: _padded(rows, device) for name, rows in _readings(excerpts, self.segment).items()}
                for memory, state, within in _memories(model, text):
                    with within:
                        for name, (ids, targets) in readings.items():
                            sums[name, memory] += _counts(model, ids, targets, state)
        finally:
            model.train(was_training)
        losses = {pair: (total / tokens).item() for pair, (total, tokens, _, _) in sums.items()}
        metrics = {f"{reading} {memory}": losses[reading, memory] for reading, memory in losses}
        for memory in MEMORIES:
            _, _, right, rows = sums["facts", memory].tolist()
            metrics[f"facts right {memory}"] = right / rows
        for reading in READINGS:
            nothing, full = losses[reading, "nothing"], losses[reading, "full"]
            for memory, name in (("own", "closed"), ("other", "closed by another text's")):
                metrics[f"{reading} {name}"] = (nothing - losses[reading, memory]) / (nothing - full)
        return metrics


class Inventor:
    """Draws facts that nobody can know: a person, an attribute, and a value."""

    def __init__(self, draw: random.Random, held_out: bool) -> None:
        self._draw, self._lists = draw, _word_lists(held_out)

    def facts(self, count: int) -> list[Fact]:
        """`count` facts about different persons."""
        names: dict[str, None] = {}
        while len(names) < count:
            names[f"{self._any('given')} {self._any('family')}"] = None
        return [self._fact(name) for name in names]

    def _fact(self, name: str) -> Fact:
        attribute, kind, article = self._any("attributes")
        value = article + self._value(kind)
        words = {"name": name, "attribute": attribute, "value": value}
        statement: str = self._any("statements").format(**words)
        statement = statement[0].upper() + statement[1:]
        return Fact(f" {statement}", self._any("questions").format(**words), f" {value}")

    def _value(self, kind: str) -> str:
        if kind == "number":
            return str(self._draw.randint(10, 9999))
        value: str = self._any("family" if kind == "person" else kind)
        return value

    def _any(self, kind: str) -> Any:
        return self._draw.choice(self._lists[kind])


@cache
def _word_lists(held_out: bool) -> dict[str, list[Any]]:
    """The lists by name, those of values by kind, each without the part that is for training or for measurements."""
    lists = word_lists("memory")
    lists |= lists.pop("values")
    return {
        name: [option for number, option in enumerate(options) if (number % HELD_OUT == 1) == held_out]
        for name, options in lists.items()
    }


def _texts(paths: str | Sequence[str]) -> list[str]:
    """The lines of all files."""
    files = [paths] if isinstance(paths, str) else list(paths)
    return [
        line for path in files for line in read_text(Path(path)).decode("utf-8", "ignore").splitlines(keepends=True)
    ]


def _readings(excerpts: Sequence[Excerpt], segment: int) -> dict[str, list[tuple[list[int], list[int]]]]:
    """For each reading a row of ids and one of targets for each excerpt."""
    rows: dict[str, list[tuple[list[int], list[int]]]] = {reading: [] for reading in READINGS}
    for excerpt in excerpts:
        for reading, ids in (("text", excerpt.text[:segment]), ("following", excerpt.following[:FOLLOWING])):
            rows[reading].append((ids, [*ids[1:], IGNORE_INDEX]))
        question, answer = excerpt.questions[0]
        wanted = [IGNORE_INDEX] * (len(question) - 1) + answer + [IGNORE_INDEX]
        rows["facts"].append((question + answer, wanted))
    return rows


def _padded(rows: list[tuple[list[int], list[int]]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and targets (B, T), filled up on the right, where nothing depends on them."""
    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + ids[-1:] * (length - len(ids)) for ids, _ in rows], device=device)
    targets = [wanted + [IGNORE_INDEX] * (length - len(wanted)) for _, wanted in rows]
    return ids, torch.tensor(targets, device=device)


def _memories(model: nn.Module, text: Tensor) -> Iterator[tuple[str, State, AbstractContextManager[Any]]]:
    """The memories of `text` (B, L) by name, each with the context in which the model is then called."""
    own = model(text, None, 0)[1]
    rows = torch.arange(len(text)).roll(1)
    yield "nothing", None, nullcontext()
    yield "own", own, nullcontext()
    yield "other", select(own, rows), nullcontext()
    without_limit: Any = model.without_limit
    with without_limit():
        full = model(text, None, 0)[1]
    yield "full", full, without_limit()


def _counts(model: nn.Module, ids: Tensor, targets: Tensor, state: State) -> Tensor:
    """Summed over a batch (B, T): the cross-entropy of the targets, the targets, the rows of which all are the likeliest
    tokens, and the rows: (4,)."""
    logits, _ = model(ids, state, ids.shape[1])
    wanted = targets != IGNORE_INDEX
    loss = cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")
    right = ((logits.argmax(2) == targets) | ~wanted).all(1).sum()
    return torch.stack([loss, wanted.sum(), right, loss.new_tensor(len(ids))])
