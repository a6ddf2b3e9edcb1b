"""Comparison of a pretrained model that translates with a translation memory to the same model with other examples.

A translation memory holds known sentences with their translations; the pairs most similar to a new sentence stand before it
in the prompt (Moslem et al. 2023, arXiv 2301.13294).
"""

import random
import time
from collections.abc import Callable, Sequence

from memspan.assistant.answerers.base import Answerer
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.loading import load_model
from memspan.assistant.streaming import StreamedText
from memspan.data.corpora import Record
from memspan.data.plain_text import Message, plain_ids
from memspan.errors import UsageError
from memspan.evaluation.ablation import Comparison, Contender
from memspan.evaluation.long_text import check_causal
from memspan.models.generate import Sampling
from memspan.plugins import require_installed
from memspan.pretrained.adapt import DTYPES
from memspan.tasks import Translation, require
from memspan.tasks.metrics import mean_and_spread
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.precision import precision_of

MEMORY, RANDOM = "translation memory", "random pairs"
INSTRUCTION = "Translate each sentence as the sentences before it were translated. Write the translation alone.\n\n"
AFTER_SOURCE, AFTER_TARGET = " = ", "\n"  # in a prompt for a language model


def compare_translation(
    config: TrainConfig,
    seeds: Sequence[int],
    limit: int,
    pairs: int,
    note: Callable[[str], None] | None = None,
    answerer: Answerer | None = None,
) -> Comparison:
    """Metrics of translations by a pretrained model that is shown `pairs` known pairs: similar ones, or random ones.

    Args:
        config: of the run; its model is used as it is.
        seeds: each draws other held-out sentences, and other random pairs.
        limit: number of held-out sentences per seed.
        pairs: number of pairs of sentences in a prompt, the most similar one last.
        note: called with one line of results after each measurement.
        answerer: what writes the translations, rather than the model; the pairs are turns of a conversation.

    Raises UsageError for a task without translations, a model that is not causal, or a number out of bounds.
    """
    task = _checked(config, limit, pairs)
    translator = Translator(config, task.answer_tokens, answerer)
    figures: dict[str, list[dict[str, float]]] = {MEMORY: [], RANDOM: []}
    seconds: dict[str, list[float]] = {MEMORY: [], RANDOM: []}
    drawn: list[Record] = []
    for seed in seeds:
        draw = random.Random(seed)
        records = draw.sample(task.held_out_records, min(limit, len(task.held_out_records)))
        drawn += records
        sources = [str(record["source"]) for record in records]
        shown = {
            MEMORY: task.similar(sources, pairs),
            RANDOM: [draw.sample(task.records, min(pairs, len(task.records))) for _ in sources],
        }
        for name, examples in shown.items():
            begun = time.process_time()
            translations = [translator.translate(*each) for each in zip(sources, examples, strict=True)]
            seconds[name].append(time.process_time() - begun)
            figures[name].append(task.compute_metrics(records, translations))
            if note is not None:
                note(
                    f"{name}, seed {seed}: {', '.join(f'{key} {value:.2f}' for key, value in figures[name][-1].items())}"
                )
    contenders = []
    for name, values in figures.items():
        middle = mean_and_spread([each[task.metric] for each in values])
        stored = sum(len(str(record[column]).encode()) for record in task.records for column in task.columns)
        size = stored if name == MEMORY else 0
        contenders.append(
            Contender(name, values, middle["mean"], middle["spread"], translator.parameters, size, seconds[name])
        )
    baselines = task.with_records(held_out=drawn).baselines()
    return Comparison(config.task.name, task.metric, task.lower_is_better, contenders, baselines)


def _checked(config: TrainConfig, limit: int, pairs: int) -> Translation:
    """The task of the run. Raises UsageError where it cannot be compared."""
    task = require(
        build_task(config), Translation, "A translation memory is for translations: use the task translation."
    )
    require_installed("A translation memory needs", *task.baseline_packages)
    if min(limit, pairs) < 1:
        raise UsageError(f"limit and shots must be at least 1, got {limit} and {pairs}.")
    if config.model.lora:
        raise UsageError("A model that translates with a translation memory is not trained: leave out `lora`.")
    check_causal(config.model.name)
    return task


class Translator:
    """A language model, or another answerer, that continues known pairs of sentences.

    Attributes:
        parameters: number of weights of the language model; 0 for an answerer, whose weights are elsewhere.
    """

    def __init__(self, config: TrainConfig, tokens: int, answerer: Answerer | None = None) -> None:
        self.answerer, self.sampling, self.parameters = answerer, Sampling(max_new_tokens=tokens), 0
        if answerer is None:
            device = None if config.run.device == "auto" else config.run.device
            self.lm = load_model(config.model.name, device=device, dtype=DTYPES[precision_of(config)])
            self.parameters = sum(weight.numel() for weight in self.lm.model.parameters())

    def translate(self, source: str, pairs: Sequence[Record]) -> str:
        """The translation of a sentence in the way of the known pairs, of which the first is shown last."""
        if self.answerer is not None:
            return "".join(self.answerer.answer(conversation(source, pairs), self.sampling)).strip()
        return continued(self.lm, source, pairs, self.sampling)


def continued(lm: LanguageModel, source: str, pairs: Sequence[Record], sampling: Sampling) -> str:
    """What a language model writes behind the known pairs and a sentence, to the end of the line."""
    ids = plain_ids(lm.tokenizer, prompt(source, pairs))
    answer = StreamedText(lm.tokenizer)
    for token in lm.decoder.generate(ids, sampling):
        answer.append(token)
        if AFTER_TARGET in answer.text:  # the next pair would begin
            break
    return answer.text.partition(AFTER_TARGET)[0].strip()


def prompt(source: str, pairs: Sequence[Record]) -> str:
    """The pairs line by line, and the sentence at the beginning of one more line."""
    lines = [f"{_line(pair['source'])}{AFTER_SOURCE}{_line(pair['target'])}{AFTER_TARGET}" for pair in reversed(pairs)]
    return "".join([*lines, _line(source), AFTER_SOURCE.rstrip()])


def conversation(source: str, pairs: Sequence[Record], instruction: str = INSTRUCTION) -> list[Message]:
    """The pairs as turns of a conversation, and the sentence as its last."""
    turns: list[Message] = []
    for pair in reversed(pairs):
        turns += [
            {"role": "user", "content": _line(pair["source"])},
            {"role": "assistant", "content": _line(pair["target"])},
        ]
    turns.append({"role": "user", "content": _line(source)})
    turns[0] = {"role": "user", "content": instruction + turns[0]["content"]}
    return turns


def _line(text: object) -> str:
    return " ".join(str(text).split())
