"""Comparison of a pretrained model that reads texts with an attached memory to the same model with a window.

Letters: N tokens of a prompt.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch

from memspan.assistant import prompts
from memspan.data.corpora import Record
from memspan.data.plain_text import plain_tokens
from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE, Comparison, Contender
from memspan.evaluation.long_text import check_causal, mechanism_in_words
from memspan.evaluation.memory_vs_window import SEPARATOR, draw_documents, task_about_documents
from memspan.models.generate import Sampling, continue_text
from memspan.models.scratch import grid
from memspan.plugins import require_installed
from memspan.pretrained import hub
from memspan.state import State, detach, nbytes
from memspan.tasks import DocumentSet, Example, TextTask
from memspan.tasks.metrics import mean_and_spread
from memspan.training.build import build_model, build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train

WHOLE = "all in the window"


class View(NamedTuple):
    """What a model sees of a text in front of a question.

    Attributes:
        budget: last tokens of the text that are read; None for all.
        remembers: whether the attached memory reads them; otherwise every token is in the window.
    """

    budget: int | None
    remembers: bool


# The options of the command, each of which has its own help there.
def compare_attached(
    config: TrainConfig,
    seeds: Sequence[int],
    limit: int = 40,
    documents: int = 60,
    budget: int = 640,
    note: Callable[[str], None] | None = None,
) -> Comparison:
    """Compares the answers of a pretrained model with the mechanism of `config` to those from the end of the text alone.

    With the memory the model reads a text segment by segment, then the question, which it does not know before, and goes on.
    Without, the prompt holds the last `budget` tokens of the text. Third stands the model with the whole text in its window,
    where that is within its positions.

    Args:
        config: of the run; if it has a rank for `lora`, the model is trained first for each seed, with the memory.
        seeds: each draws other texts and questions.
        limit: number of questions per seed.
        documents: maximum number of texts per seed.
        budget: tokens of text in the prompt without a memory.
        note: called with one line of results after each measurement.

    Raises:
        UsageError: a task without questions about texts, a model that is not causal, a number out of bounds.
    """
    if min(limit, documents, budget) < 1:
        raise UsageError(f"limit, documents and budget must be at least 1, got {limit}, {documents} and {budget}.")
    task = task_about_documents(build_task(config))
    require_installed(f"The baseline of the task '{config.task.name}' needs", *task.baseline_packages)
    check_causal(config.model.name)
    views = {mechanism_in_words(config): View(None, True), NONE: View(budget, False), WHOLE: View(None, False)}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in views}
    seconds: dict[str, list[float]] = {name: [] for name in views}
    sizes, records, reader = dict.fromkeys(views, 0), list[Record](), None
    for seed in seeds:
        if reader is None or config.model.lora:
            reader = AttachedReader(config.replace(seed=seed), task)
        drawn = draw_documents(task, documents, limit, random.Random(seed))
        of_seed = [record for document_set in drawn for record in document_set.records]
        records += of_seed
        for name, view in views.items():
            begun = time.process_time()
            answers, size = reader.answers(drawn, view)
            if answers is None:
                continue
            figures[name].append(task.compute_metrics(of_seed, answers))
            seconds[name].append(time.process_time() - begun)
            sizes[name] = max(sizes[name], size)
            if note is not None:
                results = ", ".join(f"{key} {value:.4f}" for key, value in figures[name][-1].items())
                note(f"{name}, seed {seed}: {results}")
    assert reader is not None
    metric = task.metric if task.metric in figures[NONE][0] else next(iter(figures[NONE][0]))
    weights = sum(weight.numel() for weight in reader.model.parameters())
    contenders = []
    for name in (name for name in views if figures[name]):
        middle = mean_and_spread([values[metric] for values in figures[name]])
        contenders.append(
            Contender(name, figures[name], middle["mean"], middle["spread"], weights, sizes[name], seconds[name])
        )
    baselines = task.with_records(held_out=records).baselines() if metric == task.metric else {}
    return Comparison(config.task.name, metric, task.lower_is_better, contenders, baselines)


class AttachedReader:
    """A pretrained model with a memory attached, trained first where the run has a rank for `lora`."""

    def __init__(self, config: TrainConfig, task: TextTask) -> None:
        self.task, self._is_trained = task, bool(config.model.lora)
        self._tokenizer = hub.tokenizer_of(config.model.name)
        device = torch.device("cuda" if config.run.device == "auto" and torch.cuda.is_available() else "cpu")
        model: Any = (
            train(config.replace(output=None, eval_every=10**9), task=task).model
            if self._is_trained
            else build_model(config, task)
        )
        self.model = model.eval().to(device)
        self._device, self._cut = device, math.lcm(task.segment, grid(self.model))
        self.positions: int = self.model.body.config.get_text_config().max_position_embeddings

    @torch.no_grad()
    def answers(self, document_sets: Sequence[DocumentSet], view: View) -> tuple[list[str] | None, int]:
        """The answers to all questions, and the bytes of the largest memory; None where a text exceeds the window."""
        found, size = list[str](), 0
        for documents, records in document_sets:
            text = self._last_tokens(SEPARATOR.join(documents), view.budget)
            prompts_ids = [self.prompt(text, self.task.example(record).question) for record in records]
            longest = max(map(len, prompts_ids)) + self.task.answer_tokens
            if not view.remembers and longest > self.positions:
                return None, 0
            if view.remembers:
                answers, state_bytes = self._continued(prompts_ids)
            else:
                with self.model.without_limit():
                    answers, state_bytes = self._continued(prompts_ids)
            found += answers
            size = max(size, state_bytes)
        return found, size if view.remembers else 0

    def prompt(self, text: str, question: str) -> list[int]:
        """The ids of the text, then the question: in the form of its training, or in the model's chat template."""
        if self._is_trained:
            return self.task.prompt_ids(Example(text, "", question), 10**9)
        instruction = self.task.instruction or prompts.INSTRUCTION
        quoted = prompts.quoted([prompts.Quotation("the documents", text)])
        message = {"role": "user", "content": f"{quoted}\n\n{instruction.format(question=question)}"}
        ids, prefix = prompts.prompt_ids(self._tokenizer, [message]), list(self.model.config.prefix)
        return ids[len(prefix) :] if prefix and ids[: len(prefix)] == prefix else ids  # which the model adds itself

    def _last_tokens(self, text: str, budget: int | None) -> str:
        if budget is None:
            return text
        spans = plain_tokens(self._tokenizer, text)[1]
        return text if len(spans) <= budget else text[spans[-budget][0] :]

    def _continued(self, rows: Sequence[list[int]]) -> tuple[list[str], int]:
        """The answers to prompts (N,), whose common beginning is read once, and the bytes of the largest state."""
        alike = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, zip(*rows, strict=False)))
        common = min(alike, min(map(len, rows)) - 1) // self._cut * self._cut
        state = self._read(rows[0][:common], None)
        answers, size = [], 0
        for row in rows:
            last = common + (len(row) - common - 1) // self._cut * self._cut
            behind = self._read(row[common:last], state)
            ids = torch.tensor([row[last:]], device=self._device)
            sampling = Sampling(max_new_tokens=self.task.answer_tokens)
            tokens, after = continue_text(self.model, ids, behind, sampling, [self.task.tokenizer.end])
            answers.append(self.task.tokenizer.decode(tokens[0].tolist()))
            size = max(size, nbytes(detach(after)))
        return answers, size

    def _read(self, ids: Sequence[int], state: State) -> State:
        """The state after more tokens, as many as a multiple of where the model may be cut."""
        for start in range(0, len(ids), self._cut):
            part = torch.tensor([ids[start : start + self._cut]], device=self._device)
            _, state = self.model(part, state, 0)
            state = detach(state)
        return state
