"""Comparison of a pretrained model that answers from retrieved passages with the same model reading only the last
`budget` tokens.

Both see as many tokens of the text at once. The model is used as it is, or with low-rank adapters that are trained first.
"""

import random
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from memspan.assistant import prompts
from memspan.assistant.answerers.base import Answerer
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.loading import load_model
from memspan.assistant.prompt_budget import SMALL_TOKENS
from memspan.assistant.prompt_choice import within_budget
from memspan.assistant.streaming import StreamedText
from memspan.data.corpora import Record
from memspan.data.plain_text import plain_tokens
from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE, Comparison, Contender
from memspan.models.generate import Sampling
from memspan.plugins import require_installed
from memspan.pretrained import hub
from memspan.pretrained.adapt import DTYPES, kind_of
from memspan.pretrained.causal import PretrainedCausal
from memspan.tasks import DocumentSet, Example, Task, TextTask, require
from memspan.tasks.metrics import mean_and_spread
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.precision import precision_of

MEMORY = "memory"
SEPARATOR = "\n\n"  # between documents, and between passages
SHORTEST_OF = 20  # times as many examples are drawn as are shown: the shortest leave the most room
RANKS = (1, 5)  # k of "passage@k"
WHOLE = "What is the text about?"  # the question of a task without any, for an answerer


class Window(NamedTuple):
    """The text in the prompt of one question.

    Attributes:
        text: of the document or documents.
        in_sight: whether any of it is of the right document.
        hits: for each retrieved passage, best first, whether it is of the right document.
    """

    text: str
    in_sight: bool
    hits: list[bool]


class View(NamedTuple):
    """What the model can see of a set of documents.

    Attributes:
        window: the text in the prompt for a question.
        nbytes: bytes of the memory that it comes from.
    """

    window: Callable[[Record], Window]
    nbytes: int


# The options of the command, each of which has its own help there.
def compare_memory_with_window(
    config: TrainConfig,
    seeds: Sequence[int],
    limit: int = 40,
    documents: int = 60,
    budget: int = SMALL_TOKENS,
    shots: int = 0,
    note: Callable[[str], None] | None = None,
    answerer: Answerer | None = None,
) -> Comparison:
    """Compares a pretrained model with its memory to the same model with a window of as many tokens.

    With the memory the model reads everything and is prompted with the passages retrieved for the question. Without, its
    prompt holds the last `budget` tokens of the same text. Metrics beside the task's own: "in sight", the share of
    questions for which some text of the right document was in the prompt, and with several documents "passage@k", the
    share for which one of the first k retrieved passages was of it. The baselines are the task's, on all questions of all
    seeds, each given the right document alone. Where the task's main metric is not one of written answers, as in
    dialogue, the first that is takes its place.

    Args:
        config: of the run; if it has a rank for `lora`, the model is trained first for each seed.
        seeds: each draws other documents and questions.
        limit: number of questions per seed.
        documents: maximum number of documents read per seed.
        budget: tokens of text in the prompt.
        shots: training records that are shown in the prompt with their answers.
        note: called with one line of results after each measurement.
        answerer: what writes the answers from the same text, rather than the model.

    With `extract` in the configuration nothing is written: the answers are words of the text that the model chooses, of all
    that was read or of the last `budget` tokens; an answerer then writes from these words.

    Raises:
        UsageError: a task without questions about texts, a model that takes no memory, a number out of bounds.
    """
    if config.model.features:
        raise UsageError("A classifier over features has no memory to compare: leave out `features`.")
    if min(limit, documents, budget) < 1 or shots < 0:
        raise UsageError(
            f"limit, documents and budget must be at least 1 and shots at least 0, got {limit}, {documents}, {budget} and "
            f"{shots}."
        )
    task = task_about_documents(build_task(config))
    require_installed(f"The baseline of the task '{config.task.name}' needs", *task.baseline_packages)
    _check_causal(config.model.name)
    prompted = _model(config, task, budget, shots, answerer)
    views: dict[str, Callable[[DocumentSet], View]] = {MEMORY: prompted.with_memory, NONE: prompted.end_of_text}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in views}
    seconds: dict[str, list[float]] = {name: [] for name in views}
    nbytes, records = dict.fromkeys(views, 0), list[Record]()
    several = False
    for seed in seeds:
        prompted.begin(seed)
        document_sets = draw_documents(task, documents, limit, random.Random(seed))
        several = any(len(document_set.documents) > 1 for document_set in document_sets)
        records += [record for document_set in document_sets for record in document_set.records]
        for name, view in views.items():
            started = time.process_time()
            results, size = prompted.measure(document_sets, view)
            nbytes[name] = max(nbytes[name], size)
            figures[name].append(results)
            seconds[name].append(time.process_time() - started)
            if note is not None:
                note(f"{name}, seed {seed}: {', '.join(f'{key} {value:.4f}' for key, value in results.items())}")
    metric = task.metric if task.metric in figures[NONE][0] else next(iter(figures[NONE][0]))
    weights = sum(weight.numel() for weight in prompted.lm.model.parameters())
    contenders = [_contender(name, figures[name], metric, weights, nbytes[name], seconds[name]) for name in figures]
    baselines = task.with_records(held_out=records).baselines() if metric == task.metric else {}
    suffix = ", given the right document" if several else ""
    baselines = {f"{name}{suffix}": value for name, value in baselines.items()}
    return Comparison(config.task.name, metric, task.lower_is_better, contenders, baselines)


def _model(config: TrainConfig, task: TextTask, budget: int, shots: int, answerer: Answerer | None) -> "PromptedModel":
    if not config.model.extract:
        return PromptedModel(config, task, budget, shots, answerer)
    from memspan.evaluation.extracted import ExtractingModel

    return ExtractingModel(config, task, budget, shots, answerer)


def _contender(
    name: str, figures: list[dict[str, float]], metric: str, weights: int, nbytes: int, seconds: list[float]
) -> Contender:
    summary = mean_and_spread([values[metric] for values in figures])
    return Contender(name, figures, summary["mean"], summary["spread"], weights, nbytes, seconds)


def task_about_documents(task: Task) -> TextTask:
    """Raises UsageError for a task without questions about documents that are answered in words."""
    name = type(task).__name__
    documents = require(
        task, TextTask, f"The task {name} has no documents, so a memory of them cannot be compared with a window."
    )
    if documents.extra_ids:
        raise UsageError(f"The task {name} has labels rather than written answers: compare a model from scratch.")
    return documents


def _check_causal(name: str) -> None:
    kind = kind_of(hub.config_of(name))
    if kind != PretrainedCausal.kind:
        raise UsageError(
            f"'{name}' must be a causal language model to answer from a memory: choose one, or train this one with "
            "`memspan train`."
        )


def draw_documents(task: TextTask, documents: int, limit: int, draw: random.Random) -> list[DocumentSet]:
    """Documents and at most `limit` questions about them; documents without a question are left out."""
    document_sets = task.document_sets(documents, draw)
    pairs = [(index, record) for index, drawn in enumerate(document_sets) for record in drawn.records]
    pairs = draw.sample(pairs, min(limit, len(pairs)))
    chosen = [
        DocumentSet(drawn.documents, [record for number, record in pairs if number == index])
        for index, drawn in enumerate(document_sets)
    ]
    return [drawn for drawn in chosen if drawn.records]


class PromptedModel:
    """A language model, and the prompts in which a task's questions are put to it."""

    def __init__(
        self, config: TrainConfig, task: TextTask, budget: int, shots: int, answerer: Answerer | None = None
    ) -> None:
        self.config, self.task, self.budget, self.shots, self.answerer = config, task, budget, shots, answerer
        self.instruction = prompts.INSTRUCTION if task.instruction is None else task.instruction
        device = None if config.run.device == "auto" else config.run.device
        self.lm = load_model(config.model.name, device=device, dtype=DTYPES[precision_of(config)])
        self.prefix: list[int] = []  # ids before the text: examples, and what a trained model begins with

    def begin(self, seed: int) -> None:
        """Draws the examples to show, short ones, and trains a model that is to be trained."""
        draw, records = random.Random(seed), self.task.records
        drawn = draw.sample(records, min(len(records), SHORTEST_OF * self.shots))
        examples = sorted(map(self.task.example, drawn), key=lambda example: len(example.source))
        encode = self.task.tokenizer.encode
        self.prefix = [
            token
            for example in examples[: self.shots]
            for token in (*self.task.prompt_ids(example, self.budget), *encode(f" {example.target}{SEPARATOR}"))
        ]
        if self.config.model.lora:
            run = self.config.replace(seed=seed, output=None, eval_every=10**9)
            model: Any = train(run, task=self.task).model
            self.prefix = [*model.config.prefix, *self.prefix]
            self.lm = LanguageModel(model.release().eval(), self.lm.tokenizer, name=self.lm.name, heads=self.lm.heads)

    def measure(
        self, document_sets: Sequence[DocumentSet], view: Callable[[DocumentSet], View]
    ) -> tuple[dict[str, float], int]:
        """The metrics over all questions, and the bytes of the largest memory."""
        records: list[Record] = []
        windows: list[Window] = []
        nbytes = 0
        for document_set in document_sets:
            seen = view(document_set)
            nbytes = max(nbytes, seen.nbytes)
            records += document_set.records
            windows += [seen.window(record) for record in document_set.records]
        questions = [self.task.example(record).question for record in records]
        pairs = zip(questions, windows, strict=True)
        answers = [self.answer(question, window.text) for question, window in pairs]
        figures = {
            **self.metrics(records, answers),
            "in sight": sum(window.in_sight for window in windows) / len(windows),
        }
        if windows[0].hits and len(document_sets[0].documents) > 1:
            for k in RANKS:
                figures[f"passage@{k}"] = sum(any(window.hits[:k]) for window in windows) / len(windows)
        return figures, nbytes

    def metrics(self, records: Sequence[Record], answers: Sequence[str]) -> dict[str, float]:
        """The task's metrics of answers to the questions of records."""
        return self.task.compute_metrics(records, answers)

    def with_memory(self, document_set: DocumentSet) -> View:
        """The passages that the memory of the documents retrieves for a question."""
        memory = self.lm.read(SEPARATOR.join(document_set.documents))

        def window(record: Record) -> Window:
            example = self.task.example(record)
            passages = self.lm.search(memory, example.question or self.instruction)
            start, end = span_of(document_set, example)
            hits = {
                passage.number: min(end, passage.end) - max(start, passage.start) > (passage.end - passage.start) / 2
                for passage in passages
            }
            chosen = within_budget(passages, self.budget)
            text = SEPARATOR.join(passage.text.strip() for passage in chosen)
            return Window(
                text,
                any(hits[passage.number] for passage in chosen),
                [hits[passage.number] for passage in passages],
            )

        return View(window, memory.nbytes)

    def end_of_text(self, document_set: DocumentSet) -> View:
        """The last `budget` tokens of the documents, whatever the question."""
        text, first = self.last_tokens(document_set)

        def window(record: Record) -> Window:
            _, end = span_of(document_set, self.task.example(record))
            return Window(text[first:], end > first, [])

        return View(window, 0)

    def last_tokens(self, document_set: DocumentSet) -> tuple[str, int]:
        """The joined text of the documents, and the first character of its last `budget` tokens."""
        text = SEPARATOR.join(document_set.documents)
        _, offsets = plain_tokens(self.lm.tokenizer, text)
        return text, 0 if len(offsets) <= self.budget else offsets[-self.budget][0]

    def answer(self, question: str, text: str) -> str:
        """A trained model, or one that is shown examples, is prompted in their form; another in its chat template."""
        if self.answerer is not None:
            return self.written(self.answerer, question, text)
        if self.config.model.lora or self.shots:
            ids = [*self.prefix, *self.task.prompt_ids(Example(text, "", question), self.lm.decoder.window)]
        else:
            ids = self.lm.prompt_ids(
                prompts.question_message(question, [prompts.Quotation("the documents", text)], self.instruction)
            )
        answer = StreamedText(self.lm.tokenizer)
        for token in self.lm.decoder.generate(ids, Sampling(max_new_tokens=self.task.answer_tokens)):
            answer.append(token)
            if self.shots and "\n" in answer.text.lstrip():  # the next example would begin
                break
        return answer.text.strip().partition("\n")[0].strip() if self.shots else answer.text.strip()

    def written(self, answerer: Answerer, question: str, text: str) -> str:
        """What an answerer writes to a question about a text, or as its summary where there is no question."""
        message = prompts.question_message(
            question or WHOLE, [prompts.Quotation("the documents", text)], self.instruction
        )
        parts = answerer.answer(
            [{"role": "user", "content": message}], Sampling(max_new_tokens=self.task.answer_tokens)
        )
        return "".join(parts).strip()


def span_of(document_set: DocumentSet, example: Example) -> tuple[int, int]:
    """The first character of the example's document in the joined text, and the one behind its last."""
    starts = [0, *accumulate(len(document) + len(SEPARATOR) for document in document_set.documents)]
    start = starts[document_set.documents.index(example.source)]
    return start, start + len(example.source)
