"""A pretrained model asked about a long text twice: reminded by its memory, and with the end of the text alone.

Both see as many tokens of the text at once. The model is used as it is, or with low-rank changes that it learned before.
"""

import random
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from memspan.assistant import prompts
from memspan.assistant.language_model import LanguageModel, load_model
from memspan.assistant.retriever import BUDGET, within_budget
from memspan.assistant.streaming import StreamedText
from memspan.data.datasets import Record
from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE, Comparison, Contender
from memspan.models.generate import Sampling
from memspan.pretrained import hub
from memspan.pretrained.adapt import DTYPES, kind_of
from memspan.pretrained.causal import PretrainedCausal
from memspan.tasks import DocumentSet, Example, TextTask
from memspan.tasks.metrics import mean_and_spread
from memspan.training.config import TrainConfig

MEMORY = "memory"
BETWEEN = "\n\n"  # documents
SHORTEST_OF = 20  # times as many examples are drawn as are shown: the shortest leave the most room
AT = (1, 5)  # of the passages found, whether the first, or one of the first five, is of the right document


class Window(NamedTuple):
    """What is in front of the model when it is asked.

    Attributes:
        text: of the document or documents.
        seen: whether any of it is of the right document.
        found: for each passage that was found, best first, whether it is of the right document.
    """

    text: str
    seen: bool
    found: list[bool]


def compare_memory_with_window(
    config: TrainConfig,
    seeds: Sequence[int],
    limit: int = 40,
    documents: int = 60,
    budget: int = BUDGET,
    shots: int = 0,
    note: Callable[[str], None] | None = None,
) -> Comparison:
    """A pretrained model with its memory, and with a window of as many tokens.

    With the memory it reads everything, and is reminded of the passages that bear on the question. Without, it sees the
    last `budget` tokens of what the memory has read. Figures beside the task's own: "in sight", how often something of
    the document that a question is about was in front of the model, and where there are several documents also
    "passage@k", how often one of the first k passages found was of it. The baselines are the task's, on all questions of
    all seeds; each is given the right document alone. Where the task's metric is none of what was written, as of dialogue, the first
    that is counts.

    Args:
        config: of the run; where it names a rank for `lora`, each seed trains the model first.
        seeds: each draws other documents and questions.
        limit: questions of a seed.
        documents: read by a seed, at most.
        budget: tokens of text in front of the model.
        shots: records of the training, with their answers, that are shown before the question.
        note: called with a line after each measurement.

    Raises:
        UsageError: a task that asks nothing about texts, a model that takes no memory, numbers that cannot be.
    """
    if min(limit, documents, budget) < 1 or shots < 0:
        raise UsageError(
            f"limit={limit}, documents={documents}, budget={budget}, shots={shots} cannot be: at least 1, 1, 1 and 0."
        )
    task: Any = config.make_task()
    if not hasattr(task, "document_sets"):
        raise UsageError(f"The task '{config.task}' reads no documents, so there is nothing to be reminded of.")
    if task.extra_ids:
        raise UsageError(f"The task '{config.task}' asks for labels, not for words: compare a model from scratch.")
    _check_causal(config.model)
    asker = PromptedModel(config, task, budget, shots)
    figures: dict[str, list[dict[str, float]]] = {MEMORY: [], NONE: []}
    seconds: dict[str, list[float]] = {MEMORY: [], NONE: []}
    nbytes, asked = 0, list[Record]()
    for seed in seeds:
        asker.begin(seed)
        document_sets = _draw(task, documents, limit, random.Random(seed))
        asked += [record for shelf in document_sets for record in shelf.records]
        for name in figures:
            begun = time.process_time()
            told, size = asker.ask(document_sets, remembers=name == MEMORY)
            nbytes = max(nbytes, size)
            figures[name].append(told)
            seconds[name].append(time.process_time() - begun)
            if note is not None:
                note(f"{name}, seed {seed}: {', '.join(f'{key} {value:.4f}' for key, value in told.items())}")
    weights = sum(weight.numel() for weight in asker.lm.model.parameters())
    metric = task.metric if task.metric in figures[NONE][0] else next(iter(figures[NONE][0]))
    contenders = []
    for name, told_each in figures.items():
        middle = mean_and_spread([each[metric] for each in told_each])
        size = nbytes if name == MEMORY else 0
        contenders.append(Contender(name, told_each, middle["mean"], middle["spread"], weights, size, seconds[name]))
    known = task.with_records(held_out=asked).baselines() if metric == task.metric else {}
    several = any(len(shelf.documents) > 1 for shelf in document_sets)
    baselines = {f"{name}, given the right document" if several else name: value for name, value in known.items()}
    return Comparison(config.task, metric, task.lower_is_better, contenders, baselines)


def _check_causal(name: str) -> None:
    from transformers import AutoConfig

    try:
        kind = kind_of(AutoConfig.from_pretrained(hub.resolve(name)))
    except (OSError, ValueError) as error:
        raise UsageError(hub.cannot_load(name, error)) from error
    if kind != PretrainedCausal.kind:
        raise UsageError(
            f"'{name}' is no causal language model, so it cannot be reminded of texts: choose one, or train this one with "
            "`memspan train`."
        )


def _draw(task: TextTask, documents: int, limit: int, draw: random.Random) -> list[DocumentSet]:
    """Documents and at most `limit` questions about them; what nothing is asked about need not be read."""
    document_sets = task.document_sets(documents, draw)
    asked = [(place, record) for place, shelf in enumerate(document_sets) for record in shelf.records]
    asked = draw.sample(asked, min(limit, len(asked)))
    chosen = [
        DocumentSet(shelf.documents, [one for at, one in asked if at == place])
        for place, shelf in enumerate(document_sets)
    ]
    return [shelf for shelf in chosen if shelf.records]


class PromptedModel:
    """A language model, and how a task asks it."""

    def __init__(self, config: TrainConfig, task: TextTask, budget: int, shots: int) -> None:
        self.config, self.task, self.budget, self.shots = config, task, budget, shots
        self.instruction = task.instruction or prompts.INSTRUCTION
        device = None if config.device == "auto" else config.device
        self.lm = load_model(config.model, device=device, dtype=DTYPES[config.precision])
        self.before: list[int] = []  # what is in front of the text: examples, and what a trained model begins with

    def begin(self, seed: int) -> None:
        """Draws the examples that are shown, short ones; trains a model that is to be trained."""
        draw, records = random.Random(seed), self.task.records
        drawn = [self.task.example(one) for one in draw.sample(records, min(len(records), SHORTEST_OF * self.shots))]
        drawn.sort(key=lambda example: len(example.source))
        encode = self.task.tokenizer.encode
        self.before = [
            token
            for example in drawn[: self.shots]
            for token in (*self.task.prompt_ids(example, self.budget), *encode(f" {example.target}{BETWEEN}"))
        ]
        if self.config.lora:
            from memspan.training.loop import train

            report = train(self.config.replace(seed=seed, output=None, eval_every=10**9))
            model: Any = report.model
            self.before = [*model.config.before, *self.before]
            self.lm = LanguageModel(model.release().eval(), self.lm.tokenizer, name=self.lm.name, heads=self.lm.heads)

    def ask(self, document_sets: Sequence[DocumentSet], remembers: bool) -> tuple[dict[str, float], int]:
        """The figures of all the questions, and the bytes of the largest memory."""
        records: list[Record] = []
        windows: list[Window] = []
        nbytes = 0
        for shelf in document_sets:
            text = BETWEEN.join(shelf.documents)
            memory = self.lm.read(text) if remembers else None
            nbytes = max(nbytes, 0 if memory is None else memory.nbytes)
            for record in shelf.records:
                windows.append(
                    self._remembered(memory, shelf, record) if remembers else self._recent(text, shelf, record)
                )
                records.append(record)
        pairs = zip(records, windows, strict=True)
        said = [self._say(self.task.example(record).question, window.text) for record, window in pairs]
        figures = {
            **self.task.compute_metrics(records, said),
            "in sight": sum(one.seen for one in windows) / len(windows),
        }
        if remembers and len(document_sets[0].documents) > 1:
            for k in AT:
                figures[f"passage@{k}"] = sum(any(one.found[:k]) for one in windows) / len(windows)
        return figures, nbytes

    def _remembered(self, memory: Any, shelf: DocumentSet, record: Record) -> Window:
        example = self.task.example(record)
        found = self.lm.search(memory, example.question or self.instruction)
        start, end = _place(shelf, example)
        of_it = {one.number: min(end, one.end) - max(start, one.start) > (one.end - one.start) / 2 for one in found}
        chosen = within_budget(found, self.budget)
        text = BETWEEN.join(one.text.strip() for one in chosen)
        return Window(text, any(of_it[one.number] for one in chosen), [of_it[one.number] for one in found])

    def _recent(self, text: str, shelf: DocumentSet, record: Record) -> Window:
        recent = self._end(text)
        _, end = _place(shelf, self.task.example(record))
        return Window(recent, end > len(text) - len(recent), [])

    def _end(self, text: str) -> str:
        """The last `budget` tokens of a text."""
        told = self.lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = told["offset_mapping"]
        return text if len(offsets) <= self.budget else text[offsets[-self.budget][0] :]

    def _say(self, question: str, text: str) -> str:
        """A model that was trained, or shown examples, is asked in the form of these; another in its chat template."""
        if self.config.lora or self.shots:
            asked = self.task.prompt_ids(Example(text, "", question), self.lm.decoder.window)
            ids = [*self.before, *asked]
        else:
            ids = self.lm.prompt_ids(prompts.question_message(question, [text], self.instruction))
        answer = StreamedText(self.lm.tokenizer)
        for token in self.lm.decoder.generate(ids, Sampling(max_new_tokens=self.task.answer_tokens)):
            answer.append(token)
            if self.shots and "\n" in answer.text.lstrip():  # the next example would begin
                break
        return answer.text.strip().partition("\n")[0].strip() if self.shots else answer.text.strip()


def _place(shelf: DocumentSet, example: Example) -> tuple[int, int]:
    """From which character to which the document that is asked about stands."""
    starts = [0, *accumulate(len(one) + len(BETWEEN) for one in shelf.documents)]
    start = starts[shelf.documents.index(example.source)]
    return start, start + len(example.source)
